# The front door: `make help` lists it. Everything runs as root on Debian 12; tools/setup.sh brings what is missing.
# What is built: target/dist (the library as it ships), target/packages (the examples), target/debug (tools, tests).

DURATION =
ROWS =
KERNEL = 5.10 6.1 6.12 7.2 running
PREFIX = /usr/local
DESTDIR =

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SONAME := libeunomia.so.$(basename $(VERSION))
DIST := target/dist
LIB := $(DIST)/libeunomia.so
ECC := target/debug/ecc
EXAMPLES := $(notdir $(patsubst %/,%,$(wildcard examples/bpf/*/)))
PACKAGES := $(EXAMPLES:%=target/packages/%/package.json)
MODULES := $(patsubst examples/wasm/%/,target/packages/%/app.wasm,$(wildcard examples/wasm/*/))
HOSTS := $(patsubst examples/c/%.c,target/examples/%,$(wildcard examples/c/*.c))
BOOTSTRAP := target/packages/bootstrap/package.json
C_FILES = $(filter-out include/eunomia.h tests/data/abi/previous/eunomia.h,$(shell git ls-files '*.c' '*.cpp' '*.h' '*.hpp'))
GO_FILES = $(shell git ls-files '*.go')
# Go as it is used on the tree itself, where nothing is installed that pkg-config could find.
GO := PKG_CONFIG=true CGO_CFLAGS=-I$(CURDIR)/include GOCACHE=$(CURDIR)/target/go go
SHELL_FILES = .ci/run tests/kernels/init $(shell git ls-files '*.sh')
DEST = $(DESTDIR)$(PREFIX)
VENV := target/venv/bin
RUFF := $(VENV)/ruff --config bindings/python/pyproject.toml
PYTHON := bindings/python examples/python tests/conformance/python benches/figures

# Ours alone: libbpf, libelf and zlib are built by makefiles that know these names too.
unexport DURATION KERNEL ROWS PREFIX DESTDIR
MAKEOVERRIDES =

export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SECONDEXPANSION:
.PHONY: FORCE help run test soak fuzz lint fmt header size notice install dist archive container wheel bench vm clean setup setup-wasm setup-python setup-test setup-fuzz setup-bench setup-lint setup-vm packages matrix

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

run: target/examples/events $(BOOTSTRAP) ## print program starts and ends as JSON; DURATION=SECONDS ends it
	@$< $(BOOTSTRAP) $(or $(DURATION),$$([ -t 0 ] && [ -t 1 ] || echo 10))

test: setup-test $(LIB) archive packages matrix $(HOSTS) ## run every test on this kernel
	cargo test --workspace --no-fail-fast --features eunomia/channel
	cargo test --no-default-features --features capi --test without_wasm

soak: setup-test $(ECC) ## start and end packages and guests for an hour or DURATION=SECONDS; memory stays the same
	EUNOMIA_SOAK=$(or $(DURATION),3600) GLIBC_TUNABLES=glibc.malloc.tcache_count=0 cargo test --features eunomia/channel,eunomia/own-libbpf --test soak -- --nocapture

fuzz: setup-fuzz $(ECC) ## fuzz each target of tests/fuzz; DURATION=SECONDS for each, 30 without
	tests/fuzz/run.sh $(or $(DURATION),30)

lint: setup-lint ## check formatting, warnings and the rules of the architecture
	cargo fmt --all --check
	cd benches/libbpf_rs && cargo fmt --check
	cargo clippy --workspace --all-targets --features eunomia/channel -- -D warnings
	cargo clippy --package eunomia --no-default-features --features capi -- -D warnings
	cd tests/fuzz && cargo fmt --check && cargo clippy --target-dir ../../target -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --package eunomia --features channel
	clang-format --dry-run -Werror $(C_FILES)
	shellcheck $(SHELL_FILES)
	$(RUFF) check $(PYTHON)
	$(RUFF) format --check $(PYTHON)
	cd bindings/python && ../../$(VENV)/mypy
	test -z "$$(gofmt -l $(GO_FILES) | tee /dev/stderr)"
	cd bindings/go && $(GO) vet .
	cd examples/go && $(GO) vet ./...
	cd tests/conformance/go && $(GO) vet .
	cargo test --test architecture

fmt: setup-lint ## format Rust, C, Python and Go
	cargo fmt --all
	cd tests/fuzz && cargo fmt
	cd benches/libbpf_rs && cargo fmt
	clang-format -i $(C_FILES)
	$(RUFF) format $(PYTHON)
	gofmt -w $(GO_FILES)

header: setup ## write include/eunomia.h from src/capi, and from that tests/data/abi/symbols.txt and Python's _ffi.py
	cargo xtask header
	cargo xtask symbols --write
	cargo xtask python

size: $(LIB) ## print the size of the library, and of one without WASM packages
	built=$$(tools/build-release.sh cdylib without-wasm) && install $$built $(DIST)/without-wasm.so
	cargo xtask size $(DIST)/without-wasm.so

notice: setup ## write NOTICE: what is linked in, and under which licences
	cargo xtask notice

install: $(LIB) $(DIST)/libeunomia.a ## install libraries, headers, pkg-config and CMake files, manual, ecc and ecli below DESTDIR/PREFIX
	cargo build --release --package ecc --package ecli
	cargo xtask size target/release/ecc
	cargo xtask size target/release/ecli
	install -Dm 755 $(DIST)/libeunomia.so.$(VERSION) -t $(DEST)/lib
	ln -sf libeunomia.so.$(VERSION) $(DEST)/lib/$(SONAME)
	ln -sf $(SONAME) $(DEST)/lib/libeunomia.so
	install -Dm 644 $(DIST)/libeunomia.a -t $(DEST)/lib
	install -Dm 644 include/eunomia.h include/eunomia.hpp -t $(DEST)/include
	install -Dm 644 bindings/c/eunomia.pc.in $(DEST)/lib/pkgconfig/eunomia.pc
	install -Dm 644 bindings/c/eunomia-config.cmake -t $(DEST)/lib/cmake/eunomia
	install -Dm 644 bindings/c/eunomia-config-version.cmake.in $(DEST)/lib/cmake/eunomia/eunomia-config-version.cmake
	sed -i 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' $(DEST)/lib/pkgconfig/eunomia.pc \
		$(DEST)/lib/cmake/eunomia/eunomia-config-version.cmake
	install -d $(DEST)/share/man/man3
	cargo xtask man $(DEST)/share/man/man3/eunomia.3
	install -Dm 644 LICENSE NOTICE -t $(DEST)/share/doc/eunomia
	install -Dm 755 target/release/ecc target/release/ecli -t $(DEST)/bin
	target/release/ecli manual $(DEST)
	$(if $(DESTDIR),,ldconfig)

dist: archive wheel ## build what is handed out, in target/dist: the archive and the wheel

archive: ARCHIVE = eunomia-$(VERSION)-$(shell uname -m)-linux-gnu
archive: ## build the archive: what make install installs, to be unpacked anywhere
	rm -rf $(DIST)/$(ARCHIVE)
	$(MAKE) install DESTDIR=$(CURDIR)/$(DIST)/$(ARCHIVE) PREFIX=
	sed -i 's|^prefix=.*|prefix=$${pcfiledir}/../..|' $(DIST)/$(ARCHIVE)/lib/pkgconfig/eunomia.pc
	tar -C $(DIST) --owner=0 --group=0 --sort=name -czf $(DIST)/$(ARCHIVE).tar.gz $(ARCHIVE)

# An engine for containers is looked for only here: nothing else needs one.
container: archive ## build the image ecc, which compiles the program in the folder mounted at /src
	rm -rf target/container
	mkdir -p target/container/prefix
	tar -xzf $(DIST)/eunomia-$(VERSION)-$(shell uname -m)-linux-gnu.tar.gz --strip-components=1 -C target/container/prefix
	cp tools/container/Containerfile tools/container/entrypoint.sh target/container
	$(or $(shell command -v podman),docker) build -t ecc -f target/container/Containerfile target/container

wheel: setup-python $(LIB) ## build the wheel of the Python binding in target/dist
	EUNOMIA_LIBRARY=$(abspath $(LIB)) $(VENV)/python -m build --wheel --no-isolation --outdir $(DIST) bindings/python
	$(VENV)/python -m auditwheel show $(DIST)/eunomia-$(VERSION)-py3-*.whl

bench: setup-test setup-bench $(LIB) packages ## measure beside libbpf, libbpf-rs, hand-written C and bpftrace, write docs/benchmarks.md; ROWS=event for one part
	cargo build --release --package ecc --package ecli
	cargo bench --profile dev --bench figures -- $(ROWS)

vm: setup-vm $(LIB) packages matrix ## ask other kernels under QEMU, and this one, what works; KERNEL=6.1 for one; write docs/kernels.md
	for kernel in $(KERNEL); do tests/kernels/run.sh $$kernel || exit; done
	cargo xtask kernels

matrix: $(ECC)
	tests/matrix/build.sh

clean: ## remove everything that was built
	cargo clean

setup:
	@tools/setup.sh
setup-wasm:
	@tools/setup.sh wasm
setup-test:
	@tools/setup.sh test
setup-fuzz:
	@tools/setup.sh fuzz
setup-bench:
	@tools/setup.sh bench
setup-lint:
	@tools/setup.sh lint
setup-python:
	@tools/setup.sh python
setup-vm:
	@tools/setup.sh vm

$(LIB): FORCE | setup
	built=$$(tools/build-release.sh cdylib) && install $$built $(DIST)/libeunomia.so.$(VERSION)
	ln -sf libeunomia.so.$(VERSION) $(DIST)/$(SONAME)
	ln -sf $(SONAME) $@
	cargo xtask symbols $@
	cargo xtask size $@

# One object that keeps only our names global, so that a host may link its own libbpf or zlib beside it.
$(DIST)/libeunomia.a: FORCE | setup
	built=$$(tools/build-release.sh staticlib) && \
	ld -r --gc-sections $(addprefix -u ,$(shell cat tests/data/abi/symbols.txt)) $$built -o $(@:.a=.o)
	objcopy --keep-global-symbols=tests/data/abi/symbols.txt --strip-debug -R .llvmbc -R .llvmcmd $(@:.a=.o)
	rm -f $@
	ar rcs $@ $(@:.a=.o)
	cargo xtask symbols $@

$(ECC): FORCE | setup
	cargo build --workspace

packages: $(PACKAGES) $(MODULES)
target/packages/%/package.json: $$(wildcard examples/bpf/%/*) $(wildcard examples/bpf/*.bpf.h) $(ECC)
	$(ECC) examples/bpf/$*/$*.bpf.c $(wildcard examples/bpf/$*/$*.h) -o $(@D)
target/packages/%/app.wasm: target/packages/%/package.json $$(wildcard examples/wasm/%/*) | setup-wasm
	$(ECC) build-wasm examples/wasm/$* --package $< -o $(@D)
# Two packages in one module.
target/packages/activity/app.wasm: target/packages/sigsnoop/package.json target/packages/opensnoop/package.json \
		$(wildcard examples/wasm/activity/*) | setup-wasm
	$(ECC) build-wasm examples/wasm/activity $(addprefix --package ,$(filter %.json,$^)) -o $(@D)

target/examples/%: examples/c/%.c include/eunomia.h $(LIB)
	@mkdir -p $(@D)
	$(CC) -std=gnu99 -Wall -Wextra -O2 -Iinclude $< -o $@ -L$(DIST) -leunomia -Wl,-rpath,'$$ORIGIN/../dist'
