# `make help` lists the targets. They run as root on Debian 12; tools/setup.sh installs missing packages.
# Output: target/dist (the library as it ships), target/packages (the examples), target/debug (tools, tests).

DURATION =
ROWS =
KERNEL = 5.10 6.1 6.12 7.2 running
PREFIX = /usr/local
LIBDIR = lib
DESTDIR =
# The shard of all mutants that `make mutants` tries; 0/1 tries all.
SHARD = 0/20
# For a release: the tag, and the file of the secret key (docs/RELEASING.md).
TAG = v$(VERSION)
KEY =
RUST_MIN := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

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
# Go in the source tree, where pkg-config would not find the library.
GO := PKG_CONFIG=true CGO_CFLAGS=-I$(CURDIR)/include GOCACHE=$(CURDIR)/target/go go
SHELL_FILES = .ci/run tests/kernels/init tests/kernels/system-test tools/release/install.sh.in $(shell git ls-files '*.sh')
DEST = $(DESTDIR)$(PREFIX)
VENV := target/venv/bin
RUFF := $(VENV)/ruff --config bindings/python/pyproject.toml
PYTHON := bindings/python examples/python tests/conformance/python benches/figures tools/exporter/tests/exporter

# Not exported: the makefiles of libbpf, libelf and zlib use the same names.
unexport DURATION KERNEL ROWS PREFIX LIBDIR DESTDIR TAG KEY
MAKEOVERRIDES =

export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SECONDEXPANSION:
.PHONY: FORCE help run test soak endurance fuzz lint fmt header size notice install dist archive container container-archive wheel deb deb-test bench vm vm-system \
	oldest-rust weekly deny docs mutants release release-test clean packages matrix \
	setup setup-wasm setup-python setup-test setup-fuzz setup-bench setup-lint setup-vm setup-deb setup-release setup-container

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

run: target/examples/events $(BOOTSTRAP) ## print starts and exits of programs as JSON; DURATION=SECONDS sets the time
	@$< $(BOOTSTRAP) $(or $(DURATION),$$([ -t 0 ] && [ -t 1 ] || echo 10))

test: setup-test setup-deb $(LIB) archive deb packages matrix $(HOSTS) ## run every test on this kernel
	cargo test --workspace --no-fail-fast --features eunomia/channel
	cargo test --no-default-features --features capi --test without_wasm

soak: setup-test $(ECC) ## run packages and guests for an hour or DURATION=SECONDS and check that memory does not grow
	EUNOMIA_SOAK=$(or $(DURATION),3600) GLIBC_TUNABLES=glibc.malloc.tcache_count=0 cargo test --features eunomia/channel,eunomia/own-libbpf --test soak -- --nocapture

endurance: setup-test $(ECC) ## replace packages 200 times under load on each hook, and 10,000 times, kill hosts, server and loader 200 times, reload the exporter 100 times and count ten million label values, and check that nothing is lost or grows
	EUNOMIA_ENDURANCE=1 cargo test --features eunomia/channel --test dispatch -- --nocapture under_load many_replaces hosts_that_are_killed
	EUNOMIA_ENDURANCE=1 cargo test --features eunomia/channel --test pins -- --nocapture killed_at_any_moment
	EUNOMIA_ENDURANCE=1 cargo test -p ecli --test server -- --nocapture survival bounds
	EUNOMIA_ENDURANCE=1 cargo test -p eunomia-exporter --test exporter -- --nocapture reloads_leave memory_is_bounded

fuzz: setup-fuzz $(ECC) ## fuzz each target of tests/fuzz for 30 or DURATION=SECONDS
	tests/fuzz/run.sh $(or $(DURATION),30)

lint: setup-lint ## check formatting, compiler warnings, the architecture rules and the language
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
	cargo test --workspace --features eunomia/channel --test architecture --test language

fmt: setup-lint ## format Rust, C, Python and Go
	cargo fmt --all
	cd tests/fuzz && cargo fmt
	cd benches/libbpf_rs && cargo fmt
	clang-format -i $(C_FILES)
	$(RUFF) format $(PYTHON)
	gofmt -w $(GO_FILES)

header: setup ## generate include/eunomia.h from src/capi, and from it the list of symbols and Python's _ffi.py
	cargo xtask header
	cargo xtask symbols --write
	cargo xtask python

size: $(LIB) ## print the size of the library, and of one without WASM packages
	built=$$(tools/build-release.sh cdylib without-wasm) && install $$built $(DIST)/without-wasm.so
	cargo xtask size $(DIST)/without-wasm.so

notice: setup ## generate NOTICE, the list of linked libraries and their licences
	cargo xtask notice

install: $(LIB) $(DIST)/libeunomia.a ## install libraries, headers, manual pages, ecc and ecli in DESTDIR/PREFIX
	cargo build --release --package ecc --package ecli
	cargo xtask size target/release/ecc
	cargo xtask size target/release/ecli
	install -Dm 755 $(DIST)/libeunomia.so.$(VERSION) -t $(DEST)/$(LIBDIR)
	ln -sf libeunomia.so.$(VERSION) $(DEST)/$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DEST)/$(LIBDIR)/libeunomia.so
	install -Dm 644 $(DIST)/libeunomia.a -t $(DEST)/$(LIBDIR)
	install -Dm 644 include/eunomia.h include/eunomia.hpp -t $(DEST)/include
	install -Dm 644 bindings/c/eunomia.pc.in $(DEST)/$(LIBDIR)/pkgconfig/eunomia.pc
	install -Dm 644 bindings/c/eunomia-config.cmake.in $(DEST)/$(LIBDIR)/cmake/eunomia/eunomia-config.cmake
	install -Dm 644 bindings/c/eunomia-config-version.cmake.in $(DEST)/$(LIBDIR)/cmake/eunomia/eunomia-config-version.cmake
	sed -i 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(VERSION)|' $(DEST)/$(LIBDIR)/pkgconfig/eunomia.pc \
		$(DEST)/$(LIBDIR)/cmake/eunomia/*.cmake
	install -d $(DEST)/share/man/man3
	cargo xtask man $(DEST)/share/man/man3/eunomia.3
	install -Dm 644 LICENSE NOTICE -t $(DEST)/share/doc/eunomia
	install -Dm 755 target/release/ecc target/release/ecli -t $(DEST)/bin
	ln -sf ecli $(DEST)/bin/ecli-server
	install -Dm 644 tools/agent/systemd/*.service tools/agent/systemd/*.socket -t $(DEST)/lib/systemd/system
	sed -i 's|@PREFIX@|$(PREFIX)|' $(DEST)/lib/systemd/system/eunomia-*.service
	install -Dm 644 tools/agent/systemd/eunomia.sysusers $(DEST)/lib/sysusers.d/eunomia.conf
	target/release/ecli manual $(DEST)
	$(if $(DESTDIR),,ldconfig)

dist: archive wheel deb ## build the archive, the wheel and the Debian packages in target/dist

archive: ARCHIVE = eunomia-$(VERSION)-$(shell uname -m)-linux-gnu
archive: ## build the archive of an installation, which can be unpacked anywhere
	rm -rf $(DIST)/$(ARCHIVE)
	$(MAKE) install DESTDIR=$(CURDIR)/$(DIST)/$(ARCHIVE) PREFIX=
	sed -i 's|^prefix=.*|prefix=$${pcfiledir}/../..|' $(DIST)/$(ARCHIVE)/lib/pkgconfig/eunomia.pc
	tar -C $(DIST) --owner=0 --group=0 --sort=name -czf $(DIST)/$(ARCHIVE).tar.gz $(ARCHIVE)

container: archive ## build the container image ecc, which compiles the program in the directory mounted at /src
	rm -rf target/container
	mkdir -p target/container/prefix
	tar -xzf $(DIST)/eunomia-$(VERSION)-$(shell uname -m)-linux-gnu.tar.gz --strip-components=1 -C target/container/prefix
	cp tools/container/Containerfile tools/container/entrypoint.sh target/container
	$(or $(shell command -v podman),docker) build -t ecc -f target/container/Containerfile target/container

container-archive: setup-container container ## build the container image and save it in target for a release
	podman save --format oci-archive --output target/ecc-$(VERSION)-$(shell uname -m)-oci.tar ecc

wheel: setup-python $(LIB) ## build the wheel of the Python binding in target/dist
	EUNOMIA_LIBRARY=$(abspath $(LIB)) $(VENV)/python -m build --wheel --no-isolation --outdir $(DIST) bindings/python
	$(VENV)/python -m auditwheel show $(DIST)/eunomia-$(VERSION)-py3-*.whl

deb: TRIPLET = $(shell dpkg-architecture -qDEB_HOST_MULTIARCH)
deb: setup-deb ## build the Debian packages in target/dist
	rm -rf target/deb
	$(MAKE) install DESTDIR=$(CURDIR)/target/deb PREFIX=/usr LIBDIR=lib/$(TRIPLET)
	tools/release/deb.sh target/deb $(DIST)

deb-test: setup-release deb ## install the Debian packages in a fresh Debian 12 and use them there
	tools/release/deb-test.sh $(DIST)

release: setup-release archive wheel deb ## build, check and sign the files of a release; KEY=FILE is the secret key
	tools/release/files.sh $(TAG) $(KEY)

release-test: setup-release ## install the release that was built with install.sh and as Debian packages in a fresh Debian 12
	tools/release/deb-test.sh target/release-files

bench: setup-test setup-bench $(LIB) packages ## compare with libbpf, libbpf-rs, C and bpftrace, write docs/benchmarks.md; ROWS=event selects a part
	cargo build --release --package ecc --package ecli --package eunomia-exporter --bins --example cost
	cargo bench --profile dev --bench figures -- $(ROWS)

vm: setup-vm $(LIB) packages matrix ## run tests under other kernels in QEMU, write docs/kernels.md; KERNEL=6.1 selects one
	for kernel in $(KERNEL); do tests/kernels/run.sh $$kernel || exit; done
	cargo xtask kernels

vm-system: setup-vm setup-release setup-deb deb $(BOOTSTRAP) ## boot Debian with systemd in QEMU: run the server's units, upgrade them, crash the machine
	tests/kernels/system.sh $(DIST) $(BOOTSTRAP)

matrix: $(ECC)
	tests/matrix/build.sh

oldest-rust: setup-wasm ## build the library with the oldest Rust that it supports, and test the parts that need no kernel
	rustup toolchain install $(RUST_MIN) --profile minimal
	cargo +$(RUST_MIN) test --locked --target-dir target/oldest-rust --package eunomia --lib --test package --test types

weekly: deny docs deb-test mutants ## run what takes too long for every change

deny: setup ## check licences, sources and known vulnerabilities of the dependencies
	$$(tools/install-tool.sh cargo-deny) --workspace --all-features check $(if $(OFFLINE),bans licenses sources)

docs: setup ## build the site from docs/ in target/site and check its links
	cargo xtask site $$(tools/install-tool.sh mdbook)

mutants: setup-test ## try mutants of src and print which ones no test notices; SHARD=0/1 tries all
	tests/mutants.sh $$(tools/install-tool.sh cargo-mutants) $(SHARD)

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
setup-deb:
	@tools/setup.sh deb
setup-container:
	@tools/setup.sh container
setup-release:
	@tools/setup.sh deb release

$(LIB): FORCE | setup
	built=$$(tools/build-release.sh cdylib) && install $$built $(DIST)/libeunomia.so.$(VERSION)
	ln -sf libeunomia.so.$(VERSION) $(DIST)/$(SONAME)
	ln -sf $(SONAME) $@
	cargo xtask symbols $@
	cargo xtask size $@

# One object that exports only our own names, so that a host can also link its own libbpf or zlib.
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
# One module with two packages.
target/packages/activity/app.wasm: target/packages/sigsnoop/package.json target/packages/opensnoop/package.json \
		$(wildcard examples/wasm/activity/*) | setup-wasm
	$(ECC) build-wasm examples/wasm/activity $(addprefix --package ,$(filter %.json,$^)) -o $(@D)

target/examples/%: examples/c/%.c include/eunomia.h $(LIB)
	@mkdir -p $(@D)
	$(CC) -std=gnu99 -Wall -Wextra -O2 -Iinclude $< -o $@ -L$(DIST) -leunomia -Wl,-rpath,'$$ORIGIN/../dist'
