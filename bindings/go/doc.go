// Package eunomia runs eBPF packages inside a Go program: load, configure, attach, and take events.
//
// It is libeunomia's C interface with Go's values, errors and contexts; eunomia.h says what each function does, here
// stands what differs. A VM may be used by several goroutines: their calls wait for each other, but not for one that
// waits for events. While a callback runs, what eunomia.h forbids there answers ErrBusy, to other goroutines too.
//
// A value of type []byte is passed to C as it is; any other is passed as JSON, checked against its type in the package.
//
// The library is linked through pkg-config; the build tag eunomia_static takes libeunomia.a instead of the shared one.
package eunomia
