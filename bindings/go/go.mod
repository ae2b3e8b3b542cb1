module github.com/eunomia-bpf/libeunomia/bindings/go

go 1.19
