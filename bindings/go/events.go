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

// Format is the form in which events are delivered.
type Format uint32

// Formats of events.
const (
	FormatRaw  Format = C.EUNOMIA_FORMAT_RAW  // the record as the kernel wrote it; may be shorter than its type
	FormatJSON Format = C.EUNOMIA_FORMAT_JSON // one JSON object
	FormatText Format = C.EUNOMIA_FORMAT_TEXT // one line of a human-readable table
)

// EventKind is the kind of an event.
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

// Event is one event. Its Data and Key are valid until the callback returns or until the next call of Events.Next; copy
// them to keep them. Events of a Channel own theirs.
type Event struct {
	Kind   EventKind
	Format Format
	Source string // name of the map that it came through, or of the iterator program
	Data   []byte // raw bytes, or UTF-8 text
	Key    []byte // key of a map entry, in the same format; else empty
	Type   *Type  // type of raw data; nil if the package does not specify it
	Lost   uint64 // number of records that the kernel dropped, for EventLost
	CPU    int    // CPU of a perf record; -1 if unknown
	// Time is when the event was read, on CLOCK_MONOTONIC. The clock is read once per batch of at most 1024
	// records.
	Time time.Duration
}

// Forever is the timeout of a call that waits without a limit.
const Forever = time.Duration(-1)

// Poll waits for events, calls fn for each event of the first batch, and returns their number. It returns 0 if no event comes
// before the timeout: 0 does not wait, Forever waits without a limit.
//
// If fn returns an error, Poll ends and returns it; if fn returns End, Poll ends without an error. A panic of fn passes
// through Poll. fn must not call runtime.Goexit, as FailNow of package testing does. If the context ends, Poll returns the
// context's error; after Stop it returns ErrStopped.
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

// EventBatch has events of one source, as the kernel wrote them. It is valid, with all data, until the callback returns; copy
// what you keep.
type EventBatch struct {
	Kind        EventKind     // EventSample, EventMapEntry, EventLost or EventRound
	Source      string        // name of the map that they came through
	SourceIndex int           // index in Sources
	Key         []byte        // key of a map entry; else empty
	Type        *Type         // type of the data; nil if the package does not specify it
	Lost        uint64        // number of records that the kernel dropped, for EventLost
	CPU         int           // CPU of perf records; -1 if unknown
	Time        time.Duration // when they were read, as Event.Time
	spans       []C.eunomia_span
}

// Len returns the number of records: 0 for EventLost and EventRound.
func (b *EventBatch) Len() int { return len(b.spans) }

// Data returns record i, in the memory of the library or the kernel. It does not call C.
func (b *EventBatch) Data(i int) []byte {
	span := &b.spans[i]
	return unsafe.Slice((*byte)(span.data), int(span.len))
}

// PollBatch waits like Poll and calls fn for each batch of raw records, at most 256 of one buffer. It returns the number of
// events. For many events it takes a small part of the time of Poll, because C calls Go once per batch. See
// eunomia_poll_batch in eunomia.h.
func (vm *VM) PollBatch(ctx context.Context, timeout time.Duration, fn func(*EventBatch) error) (int, error) {
	count := 0
	err := vm.whenReady(ctx, timeout, func() (bool, error) {
		n, d, err := vm.deliverTo(&delivery{vm: vm, batch: fn}, func(c *C.eunomia_vm, delivery C.uintptr_t) C.int {
			return C.eunomia_go_poll_batch(c, delivery)
		})
		count = n
		return n > 0 || d.ended || d.err != nil, err
	})
	return count, err
}

// Run polls until Stop is called or fn returns End, and then returns nil. See Poll.
func (vm *VM) Run(ctx context.Context, format Format, fn func(*Event) error) error {
	var own error // the error of fn; if that is ErrStopped, it comes from another vm
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

// Batch describes what Read and MapDump have stored in a buffer.
type Batch struct {
	Source string // name of the source or map
	Type   *Type
	Format Format
	Count  int
	Data   []byte        // the used part of the buffer: one line per record, or for FormatRaw what Records iterates over
	Time   time.Duration // when the first record was read, as Event.Time
	kind   EventKind
}

// Read waits like Poll and stores the records of one source in buf, as many as fit. For FormatRaw, buf must be 8-byte
// aligned, as make([]byte, n) is for n >= 8. ErrTooSmall: the next record needs Error.Need bytes, and is kept for the next
// call.
func (vm *VM) Read(ctx context.Context, timeout time.Duration, format Format, buf []byte) (Batch, error) {
	batch := Batch{Format: format}
	err := vm.whenReady(ctx, timeout, func() (bool, error) {
		found, err := vm.fill(buf, func(c *C.eunomia_vm, found *C.eunomia_batch) C.int {
			status := C.eunomia_read(c, 0, C.uint32_t(format), pointer(buf), C.size_t(len(buf)), found)
			if status > 0 {
				batch.Source, batch.Type = vm.name(found.name), vm.typeOf(found._type)
				batch.kind = EventKind(found.kind)
			}
			return status
		})
		batch.Count, batch.Data, batch.Time = int(found.count), buf[:found.len], time.Duration(found.time_ns)
		return found.count > 0, err
	})
	return batch, err
}

// fill calls a C function that stores a batch.
func (vm *VM) fill(buf []byte, function func(c *C.eunomia_vm, found *C.eunomia_batch) C.int) (C.eunomia_batch, error) {
	found := C.eunomia_batch{size: C.sizeof_eunomia_batch}
	_, err := vm.call(func(c *C.eunomia_vm) C.int { return function(c, &found) })
	if failure, ok := err.(*Error); ok && failure.Status == ErrTooSmall {
		failure.Need = int(found.need)
	}
	return found, err
}

// Records iterates over the records of a batch in FormatRaw: for records := batch.Records(); records.Next(); { ... }
type Records struct {
	rest []byte
	head *C.eunomia_record
}

// Records returns an iterator before the first record.
func (b Batch) Records() Records {
	return Records{rest: b.Data}
}

// Next advances to the next record. It returns false if there is none.
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

// Data returns the record, which is part of the batch's buffer. If it is shorter than its type, the missing bytes are zero.
func (r *Records) Data() []byte {
	return r.rest[C.sizeof_eunomia_record:][:r.head.len]
}

// Key returns the key of a map entry; else it is empty.
func (r *Records) Key() []byte {
	return r.rest[C.sizeof_eunomia_record+(r.head.len+7)/8*8:][:r.head.key_len]
}

// CPU returns the CPU of a perf record; -1 if unknown.
func (r *Records) CPU() int { return int(r.head.cpu) }

// Events iterates over events, as bufio.Scanner does over lines:
//
//	events := vm.Events(ctx, eunomia.FormatJSON)
//	for events.Next() { use(events.Event()) }
//	return events.Err()
//
// It reads in batches. Only one goroutine may use it.
type Events struct {
	vm      *VM
	ctx     context.Context
	buf     []byte
	lines   []byte
	records Records
	event   Event
	err     error
}

// Events returns an iterator before the first event.
func (vm *VM) Events(ctx context.Context, format Format) *Events {
	return &Events{vm: vm, ctx: ctx, buf: make([]byte, 64*1024), event: Event{Format: format, CPU: -1}}
}

// Next waits for the next event. It returns false after Stop, after a failure and when the context has ended; see Err.
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

// take takes the next event from the batch.
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

// Event returns the current event, which is valid until the next call of Next.
func (e *Events) Event() *Event { return &e.event }

// Err returns the error that ended the events: nil after Stop, the context's error if the context has ended.
func (e *Events) Err() error { return e.err }

// IterEach runs an attached iterator program, calls fn for each line that it writes, and returns the number of lines.
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

// WasmRun runs the guest of an open WASM package and returns its exit code. fn receives the events that the guest passes on
// and the lines that it prints. Stop and the end of the context end the guest at any point.
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
	defer stopAtEnd(ctx, func() { C.eunomia_stop(vm.c) })()
	var code C.int
	_, d, err := vm.deliver(fn, func(c *C.eunomia_vm, delivery C.uintptr_t) C.int {
		return C.eunomia_go_wasm_run(c, C.int(len(argv)), names.from(0), &code, C.uint32_t(format), delivery)
	})
	if d.err == nil && errors.Is(err, ErrStopped) && !vm.stopped.Swap(false) && ctx.Err() != nil {
		err = ctx.Err()
	}
	return int(code), err
}

// whenReady calls try until it is done or fails, and waits for the vm's descriptor between the calls.
//
// It waits in Go and not in C, so that other goroutines can use the vm at the same time.
func (vm *VM) whenReady(ctx context.Context, timeout time.Duration, try func() (bool, error)) error {
	deadline := time.Now().Add(timeout)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		done, err := try()
		if !done && errors.Is(err, ErrStopped) && !vm.stopped.Swap(false) && !vm.closed.Load() {
			continue // a context stopped the vm: this one, or that of a call that ended before it noticed
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

// wait waits for the vm's descriptor, the timeout or the end of the context.
func (vm *VM) wait(ctx context.Context, timeout time.Duration) error {
	if err := vm.hold(); err != nil {
		return err
	}
	defer vm.release()
	defer stopAtEnd(ctx, func() { C.eunomia_stop(vm.c) })()
	// Rounded up: rounded down, the last millisecond would be a busy loop.
	milliseconds := C.int(-1)
	if timeout >= 0 {
		milliseconds = C.int(min((timeout+time.Millisecond-1)/time.Millisecond, 1<<31-1))
	}
	waiting := C.struct_pollfd{fd: C.eunomia_epoll_fd(vm.c), events: C.POLLIN}
	C.poll(&waiting, 1, milliseconds) // a signal ends it early; the caller checks the time
	return nil
}

// stopAtEnd calls stop when the context ends. The caller holds what it stops, and calls the returned function to end the watch.
func stopAtEnd(ctx context.Context, stop func()) func() {
	if ctx.Done() == nil {
		return func() {}
	}
	finished, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-ctx.Done():
			stop()
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
