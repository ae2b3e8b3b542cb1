// Package eunomia runs eBPF packages inside a Go program: it loads, configures and attaches them, and delivers their
// events.
//
// It wraps libeunomia's C interface and uses Go values, errors and contexts. The reference for each function is eunomia.h;
// the comments here describe the differences.
//
// Several goroutines may use a VM. Their calls wait for each other, but not for a call that waits for events. While a
// callback runs, calls that eunomia.h forbids in a callback return ErrBusy, also to other goroutines.
//
// Values are passed as JSON and checked against their type in the package. A value of type []byte is passed unchanged.
//
// The library is linked through pkg-config. With the build tag eunomia_static, libeunomia.a is linked instead of the shared
// library.
package eunomia
