package eunomia

// #include "callback.h"
import "C"

import (
	"errors"
	"runtime/cgo"
	"sync"
	"time"
	"unsafe"
)

// End is returned by a callback to end the call that delivers, without an error.
var End = errors.New("end")

// delivery is the Go side of one C call with a callback. It keeps an error or panic of the callback until C has returned.
type delivery struct {
	vm     *VM
	fn     func(*Event) error
	event  Event
	source *C.char // the C string of event.Source and events.Source
	batch  func(*EventBatch) error
	events EventBatch
	ending
}

// ending is how a delivery has ended: what the callback returned, or its panic.
type ending struct {
	ended  bool
	err    error
	panics any
}

// answer stores the result of a Go callback for an event of vm, and returns the result of the C callback.
func (e *ending) answer(err error, vm *VM) C.int {
	switch {
	case err == nil && !vm.closed.Load():
		return 0
	case err == nil || err == End:
		e.ended = true
		return 1
	default:
		e.err = err
		return -1
	}
}

// catch is deferred in a callback, because a panic must not pass through C.
func (e *ending) catch(answer *C.int) {
	if failure := recover(); failure != nil {
		e.panics = failure
		*answer = -1
	}
}

// deliver calls a C function that delivers events to fn. It holds the vm's turn.
func (vm *VM) deliver(fn func(*Event) error, function func(c *C.eunomia_vm, delivery C.uintptr_t) C.int) (int, *delivery, error) {
	return vm.deliverTo(&delivery{vm: vm, fn: fn}, function)
}

func (vm *VM) deliverTo(d *delivery, function func(c *C.eunomia_vm, delivery C.uintptr_t) C.int) (int, *delivery, error) {
	handle := cgo.NewHandle(d)
	defer handle.Delete()
	count, err := vm.call(func(c *C.eunomia_vm) C.int { return function(c, C.uintptr_t(handle)) })
	if d.panics != nil {
		panic(d.panics)
	}
	if d.err != nil {
		return count, d, d.err
	}
	return count, d, err
}

//export eunomiaGoEvent
func eunomiaGoEvent(handle C.uintptr_t, event *C.eunomia_event) C.int {
	d := cgo.Handle(handle).Value().(*delivery)
	d.fill(event)
	return d.call(func() error { return d.fn(&d.event) })
}

//export eunomiaGoBatch
func eunomiaGoBatch(handle C.uintptr_t, records *C.eunomia_records) C.int {
	d := cgo.Handle(handle).Value().(*delivery)
	d.fillBatch(records)
	return d.call(func() error { return d.batch(&d.events) })
}

// call calls the Go callback and returns the result of the C callback.
func (d *delivery) call(callback func() error) (answer C.int) {
	// The callback may use the vm.
	d.vm.turn.Unlock()
	defer d.vm.turn.Lock()
	defer d.catch(&answer)
	return d.answer(callback(), d.vm)
}

// sourceName returns the C string of a source, which usually is that of the previous event.
func (d *delivery) sourceName(source *C.char) string {
	if d.source != source {
		d.source = source
		name := C.GoString(source)
		d.event.Source, d.events.Source = name, name
	}
	return d.event.Source
}

// fillBatch makes d.events a view of the C batch, which is borrowed.
func (d *delivery) fillBatch(records *C.eunomia_records) {
	d.events = EventBatch{
		Kind: EventKind(records.kind), Source: d.sourceName(records.source), SourceIndex: int(records.source_index),
		Key: unsafe.Slice((*byte)(records.key), int(records.key_len)), Type: d.vm.typeOf(records._type),
		Lost: uint64(records.lost), CPU: int(records.cpu), Time: time.Duration(records.time_ns),
	}
	if records.count > 0 {
		d.events.spans = unsafe.Slice(records.spans, int(records.count))
	}
}

// fill makes d.event a view of the C event, which is borrowed.
func (d *delivery) fill(event *C.eunomia_event) {
	d.event.Source = d.sourceName(event.source)
	d.event.Kind = EventKind(event.kind)
	d.event.Format = Format(event.format)
	d.event.Data = unsafe.Slice((*byte)(event.data), int(event.len))
	d.event.Key = unsafe.Slice((*byte)(event.key), int(event.key_len))
	d.event.Type = d.vm.typeOf(event._type)
	d.event.Lost = uint64(event.lost)
	d.event.CPU = int(event.cpu)
	d.event.Time = time.Duration(event.time_ns)
}

// logger is the Go side of a log. It must not refer to the vm: the vm would never be finalized.
type logger struct {
	log func(LogLevel, string)
	// Guards the fields below: a line may arrive while the callback of another goroutine runs.
	lock   sync.Mutex
	last   string
	panics any
}

//export eunomiaGoLog
func eunomiaGoLog(handle C.uintptr_t, level C.uint32_t, text *C.char) {
	l := cgo.Handle(handle).Value().(*logger)
	l.lock.Lock()
	defer l.lock.Unlock()
	defer func() {
		if failure := recover(); failure != nil {
			l.panics = failure
		}
	}()
	l.last = C.GoString(text)
	if l.log != nil {
		l.log(LogLevel(level), l.last)
	}
}

// raise panics with the value that the log function panicked with during the call.
func (l *logger) raise() {
	l.lock.Lock()
	failure := l.panics
	l.panics = nil
	l.lock.Unlock()
	if failure != nil {
		panic(failure)
	}
}
