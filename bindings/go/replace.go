package eunomia

// #include <stdlib.h>
// #include <eunomia.h>
import "C"

import (
	"encoding/json"
	"syscall"
	"unsafe"
)

// Replace replaces the running package with a new version while events flow, and returns the report as JSON; eunomia.h lists
// the keys. Events of the old version are still delivered, with their own types. Any goroutine may call it, even
// while another one polls. A failure changes nothing.
func (vm *VM) Replace(data []byte, flags ReplaceFlag) (json.RawMessage, error) {
	return vm.change(func(c *C.eunomia_vm) C.int {
		options := replaceOptions(flags)
		return C.eunomia_replace(c, pointer(data), C.size_t(len(data)), &options)
	})
}

// ReplaceReport returns the report of the last Replace, also of one that failed. nil before the first.
func (vm *VM) ReplaceReport() (json.RawMessage, error) {
	if err := vm.hold(); err != nil {
		return nil, err
	}
	defer vm.release()
	vm.replacing.Lock()
	defer vm.replacing.Unlock()
	report := C.eunomia_replace_report(vm.c)
	if report == nil {
		return nil, nil
	}
	return json.RawMessage(C.GoString(report)), nil
}

// Prepared is a version that Prepare has loaded and that does not run yet. Flip or Abort must be called.
type Prepared struct {
	vm     *VM
	report json.RawMessage
	over   bool
}

// Prepare does the part of Replace that can fail or takes long. The running version keeps running. See eunomia_prepare.
//
//	prepared, err := vm.Prepare(data, 0)
//	if err != nil {
//		return err
//	}
//	defer prepared.Abort() // does nothing after Flip
func (vm *VM) Prepare(data []byte, flags ReplaceFlag) (*Prepared, error) {
	report, err := vm.change(func(c *C.eunomia_vm) C.int {
		options := replaceOptions(flags)
		return C.eunomia_prepare(c, pointer(data), C.size_t(len(data)), &options)
	})
	if err != nil {
		return nil, err
	}
	return &Prepared{vm: vm, report: report}, nil
}

// Report returns what will happen to programs and maps, as JSON; eunomia.h lists the keys.
func (p *Prepared) Report() json.RawMessage {
	return p.report
}

// Flip switches to this version and returns the report. After an error the old version runs as before, and this one has
// been unloaded.
func (p *Prepared) Flip() (json.RawMessage, error) {
	if p.over {
		return nil, &Error{Status: ErrState, Message: "the prepared version has been used or given up"}
	}
	p.over = true
	return p.vm.change(func(c *C.eunomia_vm) C.int { return C.eunomia_flip(c) })
}

// Abort unloads this version. After Flip it does nothing.
func (p *Prepared) Abort() error {
	if p.over {
		return nil
	}
	p.over = true
	_, err := p.vm.change(func(c *C.eunomia_vm) C.int { return C.eunomia_abort(c) })
	return err
}

// Export copies descriptors of this version for the process that reads the events. See VM.Export.
func (p *Prepared) Export(flags ExportFlag) (*Exported, error) {
	return p.vm.Export(flags | C.EUNOMIA_EXPORT_PREPARED)
}

// Commit closes the old version that ReplaceKeepOld has kept, or that Adopt has left. Any goroutine may call it.
func (vm *VM) Commit() error {
	_, err := vm.change(func(c *C.eunomia_vm) C.int { return C.eunomia_commit(c) })
	return err
}

// Rollback switches back to that old version, and returns the report. Any goroutine may call it.
func (vm *VM) Rollback() (json.RawMessage, error) {
	return vm.change(func(c *C.eunomia_vm) C.int { return C.eunomia_rollback(c) })
}

// Drained returns whether all events of older versions have been delivered. Any goroutine may call it.
func (vm *VM) Drained() (bool, error) {
	if err := vm.hold(); err != nil {
		return false, err
	}
	defer vm.release()
	status := C.eunomia_drained(vm.c)
	if status < 0 {
		return false, &Error{Status: Status(status), Message: "called from a callback of this vm"}
	}
	return status == 1, nil
}

// ---- a package in two processes ----

// ExportFlag is a flag of Export.
type ExportFlag uint32

// ExportAll exports every descriptor, also those that a reader does not need; see eunomia.h.
const ExportAll ExportFlag = C.EUNOMIA_EXPORT_ALL

// Exported has the descriptors of a package for another process, and their description. It owns the descriptors until Close.
// A process that has received them creates it from the description and the descriptors in the same order.
type Exported struct {
	Description string
	Fds         []int
}

// Close closes the descriptors. It may be called again.
func (e *Exported) Close() {
	for _, fd := range e.Fds {
		syscall.Close(fd)
	}
	e.Fds = nil
}

// Export copies descriptors for a process that reads the events. This vm stops reading. See eunomia_export.
func (vm *VM) Export(flags ExportFlag) (*Exported, error) {
	exported := new(Exported)
	_, err := vm.call(func(c *C.eunomia_vm) C.int {
		found := C.eunomia_exported{size: C.sizeof_eunomia_exported}
		status := C.eunomia_export(c, C.uint32_t(flags), &found)
		if status >= 0 {
			exported.Description = C.GoString(found.description)
			for _, fd := range unsafe.Slice(found.fds, int(found.count)) {
				exported.Fds = append(exported.Fds, int(fd))
			}
		}
		return status
	})
	if err != nil {
		return nil, err
	}
	return exported, nil
}

// Import makes this empty vm the reader of a package that another process has loaded. The descriptors are copied. See
// eunomia_import.
func (vm *VM) Import(data []byte, exported *Exported) error {
	return exported.with(func(found *C.eunomia_exported) error {
		_, err := vm.call(func(c *C.eunomia_vm) C.int {
			return C.eunomia_import(c, pointer(data), C.size_t(len(data)), found)
		})
		return err
	})
}

// Adopt makes this reader read the next version, too. The descriptors are copied. Any goroutine may call it. See
// eunomia_adopt.
func (vm *VM) Adopt(data []byte, exported *Exported) error {
	return exported.with(func(found *C.eunomia_exported) error {
		_, err := vm.change(func(c *C.eunomia_vm) C.int {
			return C.eunomia_adopt(c, pointer(data), C.size_t(len(data)), found)
		})
		return err
	})
}

// with passes a copy in C's memory, because it has pointers that C follows.
func (e *Exported) with(use func(found *C.eunomia_exported) error) error {
	copies, err := cTexts([]string{e.Description})
	if err != nil {
		return err
	}
	defer copies.free()
	found := (*C.eunomia_exported)(C.calloc(1, C.sizeof_eunomia_exported))
	defer C.free(unsafe.Pointer(found))
	fds := (*C.int)(C.calloc(C.size_t(len(e.Fds)+1), C.sizeof_int))
	defer C.free(unsafe.Pointer(fds))
	for i, fd := range e.Fds {
		unsafe.Slice(fds, len(e.Fds))[i] = C.int(fd)
	}
	found.size, found.description = C.sizeof_eunomia_exported, copies.at(0)
	found.fds, found.count = fds, C.size_t(len(e.Fds))
	return use(found)
}

// ---- calls that change versions ----

func replaceOptions(flags ReplaceFlag) C.eunomia_replace_options {
	return C.eunomia_replace_options{size: C.sizeof_eunomia_replace_options, flags: C.uint32_t(flags)}
}

// change calls a C function that takes no turn, and returns the report, or the error that it describes.
func (vm *VM) change(function func(c *C.eunomia_vm) C.int) (json.RawMessage, error) {
	if err := vm.hold(); err != nil {
		return nil, err
	}
	defer vm.release()
	vm.replacing.Lock()
	defer vm.replacing.Unlock()
	status := function(vm.c)
	var report json.RawMessage
	if text := C.eunomia_replace_report(vm.c); text != nil {
		report = json.RawMessage(C.GoString(text))
	}
	if status >= 0 {
		return report, nil
	}
	failure := &Error{Status: Status(status)}
	var found struct {
		Error, Detail, Subject string
		Errno                  syscall.Errno
		SubjectKind            SubjectKind `json:"subject_kind"`
	}
	if json.Unmarshal(report, &found) == nil {
		failure.Message, failure.Detail, failure.Errno = found.Error, found.Detail, found.Errno
		failure.SubjectKind, failure.Subject = found.SubjectKind, found.Subject
	}
	return nil, failure
}
