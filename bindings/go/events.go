package eunomia

// #include <poll.h>
// #include "callback.h"
import "C"

import (
	"bytes"
	"context"
	"errors"
	"time"
	"unsafe"
)

// Format is the form in which events are handed out.
type Format uint32

// Formats of events.
const (
	FormatRaw  Format = C.EUNOMIA_FORMAT_RAW  // the record as the kernel wrote it; it may be shorter than its type
	FormatJSON Format = C.EUNOMIA_FORMAT_JSON // one JSON object
	FormatText Format = C.EUNOMIA_FORMAT_TEXT // one line of a table for people
)

// EventKind says what an event is.
type EventKind uint32

// Kinds of events.
const (
	EventSample   EventKind = C.EUNOMIA_EVENT_SAMPLE
	EventLost     EventKind = C.EUNOMIA_EVENT_LOST
	EventMapEntry EventKind = C.EUNOMIA_EVENT_MAP_ENTRY
	EventHeader   EventKind = C.EUNOMIA_EVENT_HEADER
	EventOutput   EventKind = C.EUNOMIA_EVENT_OUTPUT
	EventRound    EventKind = C.EUNOMIA_EVENT_ROUND
)

// Event is one event. It is the callback's until it returns, or valid until the next call of Events.Next: copy what is
// to be kept.
type Event struct {
	Kind   EventKind
	Format Format
	Source string // name of the map, or iterator program, it came through
	Data   []byte // raw bytes, or text
	Key    []byte // of a map entry, in the same format
	Type   *Type  // of raw data; nil if the package does not tell
	Lost   uint64 // records lost, for EventLost
	CPU    int    // -1 where it is not known
	// When it was read, on CLOCK_MONOTONIC. The clock is read once per batch of at most 1024 records.
	Time time.Duration
}

// Forever is the timeout that never comes.
const Forever = time.Duration(-1)

// Poll waits for events, calls fn for each, and returns after the first batch their number; 0 after the timeout (0: at
// once, Forever: never). An error of fn ends it and is returned, End just ends it; a panic of fn is raised again. fn must
// not call runtime.Goexit, as testing's FailNow does. The end of the context ends the wait with the context's error,
// Stop with ErrStopped.
func (vm *VM) Poll(ctx context.Context, timeout time.Duration, format Format, fn func(*Event) error) (int, error) {
	count := 0
	err := vm.whenReady(ctx, timeout, func() (bool, error) {
		n, d, err := vm.deliver(fn, func(c *C.eunomia_vm, delivery C.uintptr_t) C.int {
			return C.eunomia_go_poll(c, C.uint32_t(format), delivery)
		})
		count = n
		return n > 0 || d.ended || d.err != nil, err
	})
	return count, err
}

// Run polls until Stop is called or fn returns End, and returns nil then.
func (vm *VM) Run(ctx context.Context, format Format, fn func(*Event) error) error {
	var own error // of fn; an ErrStopped among them is that of another vm
	until := func(event *Event) error {
		own = fn(event)
		return own
	}
	for own == nil {
		if _, err := vm.Poll(ctx, Forever, format, until); own == nil && errors.Is(err, ErrStopped) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// Batch is what Read and MapDump store in a buffer.
type Batch struct {
	Source string // name of the source, or map, they came from
	Type   *Type
	Format Format
	Count  int
	Data   []byte        // the part of the buffer in use: a line each, or in FormatRaw what Records takes apart
	Time   time.Duration // when the first record was read, as Event.Time
	kind   EventKind
}

// Read waits as Poll does and stores the records of one source in buf, as many as fit. For FormatRaw buf must be
// 8-aligned, as make([]byte, n) is from 8 bytes on. ErrTooSmall: the next record takes Error.Need bytes, and is kept.
func (vm *VM) Read(ctx context.Context, timeout time.Duration, format Format, buf []byte) (Batch, error) {
	batch := Batch{Format: format}
	err := vm.whenReady(ctx, timeout, func() (bool, error) {
		found, err := vm.fill(buf, func(c *C.eunomia_vm, found *C.eunomia_batch) C.int {
			status := C.eunomia_read(c, 0, C.uint32_t(format), pointer(buf), C.size_t(len(buf)), found)
			if status > 0 {
				source := vm.source(int(found.source))
				batch.Source, batch.Type, batch.kind = source.name, source.of, source.kind
			}
			return status
		})
		batch.Count, batch.Data, batch.Time = int(found.count), buf[:found.len], time.Duration(found.time_ns)
		return found.count > 0, err
	})
	return batch, err
}

// fill makes a C call that stores a batch.
func (vm *VM) fill(buf []byte, function func(c *C.eunomia_vm, found *C.eunomia_batch) C.int) (C.eunomia_batch, error) {
	found := C.eunomia_batch{size: C.sizeof_eunomia_batch}
	_, err := vm.call(func(c *C.eunomia_vm) C.int { return function(c, &found) })
	if failure, ok := err.(*Error); ok && failure.Status == ErrTooSmall {
		failure.Need = int(found.need)
	}
	return found, err
}

// Records walks the records of a batch in FormatRaw: for records := batch.Records(); records.Next(); { ... }
type Records struct {
	rest []byte
	head *C.eunomia_record
}

// Records begins before the first record.
func (b Batch) Records() Records {
	return Records{rest: b.Data}
}

// Next goes to the next record and says whether there is one.
func (r *Records) Next() bool {
	if r.head != nil {
		r.rest = r.rest[r.head.size:]
	}
	if len(r.rest) < C.sizeof_eunomia_record {
		return false
	}
	r.head = (*C.eunomia_record)(unsafe.Pointer(&r.rest[0]))
	return true
}

// Data is the record, in the buffer of the batch. It may be shorter than its type; what is missing is zero.
func (r *Records) Data() []byte {
	return r.rest[C.sizeof_eunomia_record:][:r.head.len]
}

// Key is that of a map entry; else empty.
func (r *Records) Key() []byte {
	return r.rest[C.sizeof_eunomia_record+(r.head.len+7)/8*8:][:r.head.key_len]
}

// CPU is that of a perf record; -1 where it is not known.
func (r *Records) CPU() int { return int(r.head.cpu) }

// Events hands out events one by one, as bufio.Scanner does lines:
//
//	events := vm.Events(ctx, eunomia.FormatJSON)
//	for events.Next() { use(events.Event()) }
//	return events.Err()
//
// It reads in batches. It is for one goroutine.
type Events struct {
	vm      *VM
	ctx     context.Context
	buf     []byte
	lines   []byte
	records Records
	event   Event
	err     error
}

// Events begins before the first event.
func (vm *VM) Events(ctx context.Context, format Format) *Events {
	return &Events{vm: vm, ctx: ctx, buf: make([]byte, 64*1024), event: Event{Format: format, CPU: -1}}
}

// Next waits for the next event. False: Stop was called, or it failed or the context has ended, see Err.
func (e *Events) Next() bool {
	for !e.take() {
		batch, err := e.vm.Read(e.ctx, Forever, e.event.Format, e.buf)
		var failure *Error
		switch {
		case errors.As(err, &failure) && failure.Status == ErrTooSmall:
			e.buf = make([]byte, failure.Need)
			continue
		case errors.Is(err, ErrStopped):
			return false
		case err != nil:
			e.err = err
			return false
		}
		e.event.Source, e.event.Type, e.event.Kind, e.event.Time = batch.Source, batch.Type, batch.kind, batch.Time
		if batch.Format == FormatRaw {
			e.records = batch.Records()
		} else {
			e.lines = batch.Data
		}
	}
	return true
}

// take takes the next event out of the batch.
func (e *Events) take() bool {
	if e.event.Format != FormatRaw {
		line, rest, found := bytes.Cut(e.lines, []byte("\n"))
		e.event.Data, e.lines = line, rest
		return found
	}
	if !e.records.Next() {
		e.records = Records{}
		return false
	}
	e.event.Data, e.event.Key, e.event.CPU = e.records.Data(), e.records.Key(), e.records.CPU()
	return true
}

// Event is the event that Next has gone to, valid until the next call of Next.
func (e *Events) Event() *Event { return &e.event }

// Err is what ended the events: nil after Stop, the context's error after its end.
func (e *Events) Err() error { return e.err }

// IterEach runs an attached iterator program and calls fn for each line it writes; returns their number.
func (vm *VM) IterEach(prog string, fn func(*Event) error) (int, error) {
	names, err := cTexts([]string{prog})
	if err != nil {
		return 0, err
	}
	defer names.free()
	count, _, err := vm.deliver(fn, func(c *C.eunomia_vm, delivery C.uintptr_t) C.int {
		return C.eunomia_go_iter_each(c, names.at(0), delivery)
	})
	return count, err
}

// WasmRun runs the guest of an open WASM package and returns its exit code. fn gets what the guest lets through and
// prints. Stop, or the end of the context, ends the guest wherever it is.
func (vm *VM) WasmRun(ctx context.Context, argv []string, format Format, fn func(*Event) error) (int, error) {
	names, err := cTexts(argv)
	if err != nil {
		return 0, err
	}
	defer names.free()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := vm.hold(); err != nil {
		return 0, err
	}
	defer vm.release()
	defer vm.stopAtEnd(ctx)()
	var code C.int
	_, d, err := vm.deliver(fn, func(c *C.eunomia_vm, delivery C.uintptr_t) C.int {
		return C.eunomia_go_wasm_run(c, C.int(len(argv)), names.from(0), &code, C.uint32_t(format), delivery)
	})
	if d.err == nil && errors.Is(err, ErrStopped) && !vm.stopped.Swap(false) && ctx.Err() != nil {
		err = ctx.Err()
	}
	return int(code), err
}

// whenReady tries until that is done or fails, and in between waits for the vm's descriptor.
//
// Go waits, not C, so that other goroutines can use the vm meanwhile.
func (vm *VM) whenReady(ctx context.Context, timeout time.Duration, try func() (bool, error)) error {
	deadline := time.Now().Add(timeout)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		done, err := try()
		if !done && errors.Is(err, ErrStopped) && !vm.stopped.Swap(false) && !vm.closed.Load() {
			continue // by a context: this one, or that of a call which has ended before it noticed
		}
		left := time.Until(deadline)
		if done || err != nil || (timeout >= 0 && left <= 0) {
			return err
		}
		if timeout < 0 {
			left = Forever
		}
		if err := vm.wait(ctx, left); err != nil {
			return err
		}
	}
}

// wait waits for the vm's descriptor, at most so long, or for the end of the context.
func (vm *VM) wait(ctx context.Context, timeout time.Duration) error {
	if err := vm.hold(); err != nil {
		return err
	}
	defer vm.release()
	defer vm.stopAtEnd(ctx)()
	// Rounded up, so that the last millisecond is not spent trying.
	milliseconds := C.int(-1)
	if timeout >= 0 {
		milliseconds = C.int(min((timeout+time.Millisecond-1)/time.Millisecond, 1<<31-1))
	}
	waiting := C.struct_pollfd{fd: C.eunomia_epoll_fd(vm.c), events: C.POLLIN}
	C.poll(&waiting, 1, milliseconds) // a signal ends it early: the caller looks at the time
	return nil
}

// stopAtEnd stops the vm when the context ends, until the function that it returns is called. The caller holds the vm.
func (vm *VM) stopAtEnd(ctx context.Context) func() {
	if ctx.Done() == nil {
		return func() {}
	}
	finished, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-ctx.Done():
			C.eunomia_stop(vm.c)
		case <-finished:
		}
	}()
	return func() {
		close(finished)
		<-watched
	}
}

func min(a, b time.Duration) time.Duration {
	if a < b {
		return a
	}
	return b
}
