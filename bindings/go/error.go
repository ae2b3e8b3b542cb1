package eunomia

// #include <eunomia.h>
import "C"

import (
	"fmt"
	"syscall"
)

// Status is the class of a failure: errors.Is(err, eunomia.ErrPerm).
type Status int

// The failures of eunomia.h. Later releases of the library may add some.
const (
	ErrInval       Status = C.EUNOMIA_ERR_INVAL       // an argument is out of range or malformed
	ErrState       Status = C.EUNOMIA_ERR_STATE       // the call is not allowed in the current state of the vm
	ErrBusy        Status = C.EUNOMIA_ERR_BUSY        // not allowed while a callback runs
	ErrNoMem       Status = C.EUNOMIA_ERR_NOMEM       // out of memory
	ErrNotFound    Status = C.EUNOMIA_ERR_NOT_FOUND   // no such variable, map, program, key or file
	ErrTooSmall    Status = C.EUNOMIA_ERR_TOO_SMALL   // the buffer is too small, see Error.Need
	ErrPackage     Status = C.EUNOMIA_ERR_PACKAGE     // the package is malformed
	ErrType        Status = C.EUNOMIA_ERR_TYPE        // the value does not fit the type
	ErrPerm        Status = C.EUNOMIA_ERR_PERM        // a privilege is missing
	ErrUnsupported Status = C.EUNOMIA_ERR_UNSUPPORTED // this kernel or this library does not support it
	ErrVerifier    Status = C.EUNOMIA_ERR_VERIFIER    // the kernel rejected a program, see Error.Detail
	ErrAttach      Status = C.EUNOMIA_ERR_ATTACH      // a program could not be attached
	ErrSystem      Status = C.EUNOMIA_ERR_SYSTEM      // a system call failed, see Error.Errno
	ErrWasm        Status = C.EUNOMIA_ERR_WASM        // the guest trapped, took too long or exceeded a limit
	ErrStopped     Status = C.EUNOMIA_ERR_STOPPED     // Stop was called
	ErrCallback    Status = C.EUNOMIA_ERR_CALLBACK    // the callback ended the call with an error
	ErrInternal    Status = C.EUNOMIA_ERR_INTERNAL    // internal error (a bug in the library); the vm can only be closed
)

// Error returns the name of the status in eunomia.h. It makes a Status an error, which errors.Is can find.
func (s Status) Error() string {
	return C.GoString(C.eunomia_status_name(C.int(s)))
}

// SubjectKind is the kind of thing that failed.
type SubjectKind int

// The kinds of eunomia.h. Later releases of the library may add some.
const (
	SubjectNone     SubjectKind = C.EUNOMIA_SUBJECT_NONE     // none of the others
	SubjectVariable SubjectKind = C.EUNOMIA_SUBJECT_VARIABLE // a global variable
	SubjectMap      SubjectKind = C.EUNOMIA_SUBJECT_MAP      // a map
	SubjectProgram  SubjectKind = C.EUNOMIA_SUBJECT_PROGRAM  // a program
	SubjectMetadata SubjectKind = C.EUNOMIA_SUBJECT_METADATA // a value in the package's metadata, by its path
	SubjectFile     SubjectKind = C.EUNOMIA_SUBJECT_FILE     // a file or directory, by its path
)

// Error is the error that every failed call returns.
type Error struct {
	Status      Status
	Message     string        // one line: which thing, which value, what to do
	Detail      string        // a long text: the verifier's log, the call stack of a guest
	Errno       syscall.Errno // the system's error number, or 0
	Need        int           // with ErrTooSmall, the number of bytes that the buffer needs
	SubjectKind SubjectKind   // the kind of thing that failed
	Subject     string        // its name or path, or ""
}

func (e *Error) Error() string {
	return fmt.Sprintf("eunomia: %s (%s)", e.Message, e.Status.Error())
}

// Is makes errors.Is(err, status) true for the status of the error.
func (e *Error) Is(target error) bool {
	return target == error(e.Status)
}

// As makes errors.As(err, &status) store the status of the error in a Status.
func (e *Error) As(target any) bool {
	status, ok := target.(*Status)
	if ok {
		*status = e.Status
	}
	return ok
}

// Unwrap makes errors.Is(err, syscall.EEXIST) true for the errno of the error.
func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// failure returns the error of the call that has just failed. The caller holds the vm's turn.
func (vm *VM) failure(status C.int) *Error {
	var name *C.char
	kind := SubjectKind(C.eunomia_errsubject(vm.c, &name))
	return &Error{
		Status:      Status(status),
		Message:     C.GoString(C.eunomia_errmsg(vm.c)),
		Detail:      C.GoString(C.eunomia_errdetail(vm.c)),
		Errno:       syscall.Errno(C.eunomia_errsys(vm.c)),
		SubjectKind: kind,
		Subject:     C.GoString(name),
	}
}
