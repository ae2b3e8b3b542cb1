package eunomia

// #include <poll.h>
// #include "callback.h"
import "C"

import (
	"context"
	"errors"
	"runtime"
	"runtime/cgo"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Group is a set of vms that one goroutine polls with one call and one descriptor. A vm is in at most one group, and leaves it
// when it is closed. Add, Remove and Stop may be called by any goroutine and in callbacks.
type Group struct {
	c *C.eunomia_group
	// Held during a poll.
	turn sync.Mutex
	// Guards the fields below.
	lock    sync.Mutex
	users   int
	closed  bool
	members map[uintptr]*VM
	added   uintptr
	failed  *VM
	// Whether Stop was called. If a wait was stopped without that, its context had ended.
	stopped atomic.Bool
}

// NewGroup creates an empty group.
func NewGroup() (*Group, error) {
	g := &Group{members: map[uintptr]*VM{}}
	if status := C.eunomia_group_new(&g.c); status < 0 {
		return nil, &Error{Status: Status(status), Message: "cannot create a group"}
	}
	runtime.SetFinalizer(g, (*Group).Close)
	return g, nil
}

// Close frees the group. Its vms leave it and stay as they are. A poll in progress returns ErrStopped, and then frees it. Close
// returns nil.
func (g *Group) Close() error {
	g.lock.Lock()
	defer g.lock.Unlock()
	if !g.closed {
		g.closed = true
		g.stopOrFree()
	}
	return nil
}

// stopOrFree is called with the lock held.
func (g *Group) stopOrFree() {
	if g.users > 0 {
		C.eunomia_group_stop(g.c)
		return
	}
	runtime.SetFinalizer(g, nil)
	C.eunomia_group_destroy(g.c)
}

// hold prevents the group from being freed until release is called.
func (g *Group) hold() error {
	g.lock.Lock()
	defer g.lock.Unlock()
	if g.closed {
		return &Error{Status: ErrState, Message: "the group is closed"}
	}
	g.users++
	return nil
}

func (g *Group) release() {
	g.lock.Lock()
	defer g.lock.Unlock()
	g.users--
	if g.closed {
		g.stopOrFree()
	}
}

// with calls a C function with the group and a vm, and converts a failure into an error with that message.
func (g *Group) with(vm *VM, message string, function func() C.int) error {
	if err := g.hold(); err != nil {
		return err
	}
	defer g.release()
	if err := vm.hold(); err != nil {
		return err
	}
	defer vm.release()
	if status := function(); status < 0 {
		return &Error{Status: Status(status), Message: message}
	}
	return nil
}

// Add adds a vm, in any state.
func (g *Group) Add(vm *VM) error {
	g.lock.Lock()
	g.added++
	key := g.added
	for old, member := range g.members {
		if member.closed.Load() {
			delete(g.members, old)
		}
	}
	g.members[key] = vm
	g.lock.Unlock()
	err := g.with(vm, "the vm is in a group already; remove it there first", func() C.int {
		return C.eunomia_go_group_add(g.c, vm.c, C.uintptr_t(key))
	})
	if err != nil {
		g.lock.Lock()
		delete(g.members, key)
		g.lock.Unlock()
	}
	return err
}

// Remove removes a vm. If another goroutine is in a callback for an event of it, it waits until that has returned.
func (g *Group) Remove(vm *VM) error {
	err := g.with(vm, "the vm is not in this group", func() C.int { return C.eunomia_group_remove(g.c, vm.c) })
	if err == nil {
		g.lock.Lock()
		defer g.lock.Unlock()
		for key, member := range g.members {
			if member == vm {
				delete(g.members, key)
			}
		}
	}
	return err
}

// Stop ends the poll in progress, or else the next one, with ErrStopped. The vms are not stopped.
func (g *Group) Stop() {
	if g.hold() != nil {
		return
	}
	defer g.release()
	g.stopped.Store(true)
	C.eunomia_group_stop(g.c)
}

// Fd returns a descriptor for the host's own event loop. It is readable when a Poll with timeout 0 has something to do. -1
// after Close.
func (g *Group) Fd() int {
	if g.hold() != nil {
		return -1
	}
	defer g.release()
	return int(C.eunomia_group_epoll_fd(g.c))
}

// Failed returns the vm that the last failed poll was about. It has left the group. nil if the failure was not that of a vm.
func (g *Group) Failed() *VM {
	g.lock.Lock()
	defer g.lock.Unlock()
	return g.failed
}

// Poll waits for events of the vms, calls fn for each, and returns their number. See VM.Poll for the
// arguments. Each vm with events delivers at most Options.PollBudget events per call (by default 1024). A vm
// that fails leaves the group; Poll returns its error, and Failed returns the vm. After Stop it returns ErrStopped.
func (g *Group) Poll(ctx context.Context, timeout time.Duration, format Format, fn func(*VM, *Event) error) (int, error) {
	if err := g.hold(); err != nil {
		return 0, err
	}
	defer g.release()
	if !g.turn.TryLock() {
		return 0, &Error{Status: ErrBusy, Message: "the group is being polled"}
	}
	defer g.turn.Unlock()
	deadline := time.Now().Add(timeout)
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		count, ended, err := g.pollNow(format, fn)
		// A context has stopped this poll, or an earlier poll that ended before the stop arrived.
		if errors.Is(err, ErrStopped) && g.Failed() == nil && !g.stopped.Swap(false) && !g.isClosed() {
			continue
		}
		left := time.Until(deadline)
		if count > 0 || ended || err != nil || (timeout >= 0 && left <= 0) {
			return count, err
		}
		if timeout < 0 {
			left = Forever
		}
		g.wait(ctx, left)
	}
}

func (g *Group) isClosed() bool {
	g.lock.Lock()
	defer g.lock.Unlock()
	return g.closed
}

// wait waits for the descriptor, the timeout or the end of the context.
func (g *Group) wait(ctx context.Context, timeout time.Duration) {
	defer stopAtEnd(ctx, func() { C.eunomia_group_stop(g.c) })()
	milliseconds := C.int(-1)
	if timeout >= 0 {
		milliseconds = C.int(min((timeout+time.Millisecond-1)/time.Millisecond, 1<<31-1))
	}
	waiting := C.struct_pollfd{fd: C.eunomia_group_epoll_fd(g.c), events: C.POLLIN}
	C.poll(&waiting, 1, milliseconds)
}

// groupDelivery is the Go side of one poll of a group.
type groupDelivery struct {
	group *Group
	fn    func(*VM, *Event) error
	// One for each vm, which is held until the poll ends: C must not free a vm in its own callback.
	views map[uintptr]*delivery
	ending
}

func (g *Group) pollNow(format Format, fn func(*VM, *Event) error) (int, bool, error) {
	d := &groupDelivery{group: g, fn: fn, views: map[uintptr]*delivery{}}
	handle := cgo.NewHandle(d)
	status := C.eunomia_go_group_poll(g.c, C.uint32_t(format), C.uintptr_t(handle))
	handle.Delete()
	err := d.err
	g.lock.Lock()
	g.failed = nil
	if status < 0 && err == nil && d.panics == nil {
		var member unsafe.Pointer
		message := C.GoString(C.eunomia_group_errmsg(g.c, &member))
		g.failed = g.members[uintptr(member)]
		err = &Error{Status: Status(status), Message: message}
	}
	g.lock.Unlock()
	for _, view := range d.views {
		view.vm.release()
	}
	if d.panics != nil {
		panic(d.panics)
	}
	if status < 0 {
		status = 0
	}
	return int(status), d.ended, err
}

// view returns the converter for events of a member, or nil if its vm is closed.
func (d *groupDelivery) view(key uintptr) *delivery {
	view := d.views[key]
	if view == nil {
		d.group.lock.Lock()
		vm := d.group.members[key]
		d.group.lock.Unlock()
		if vm == nil || vm.hold() != nil {
			return nil
		}
		view = &delivery{vm: vm}
		d.views[key] = view
	}
	return view
}

//export eunomiaGoGroupEvent
func eunomiaGoGroupEvent(handle C.uintptr_t, event *C.eunomia_event) (answer C.int) {
	d := cgo.Handle(handle).Value().(*groupDelivery)
	defer d.catch(&answer)
	view := d.view(uintptr(event.member))
	if view == nil {
		d.ended = true
		return 1
	}
	view.vm.turn.Lock()
	view.fill(event)
	view.vm.turn.Unlock()
	return d.answer(d.fn(view.vm, &view.event), view.vm)
}
