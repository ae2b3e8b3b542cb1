module runner

go 1.19

require github.com/eunomia-bpf/libeunomia/bindings/go v0.0.0

replace github.com/eunomia-bpf/libeunomia/bindings/go => ../../../bindings/go
