package eunomia

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"
)

// next receives an event, or fails the test if none comes.
func next(t *testing.T, events <-chan Event) Event {
	t.Helper()
	select {
	case event, open := <-events:
		if !open {
			t.Fatal("the channel is closed")
		}
		return event
	case <-time.After(30 * time.Second):
		t.Fatal("no event")
	}
	return Event{}
}

func TestAChannelSendsEachEventOnceUntilStop(t *testing.T) {
	vm := running(t)
	events, failed := vm.Channel(background, FormatRaw, 10)
	trigger(t, vm, 5)
	var all []Event
	for len(all) < 5 {
		all = append(all, next(t, events))
	}
	// Each event has bytes of its own.
	for seq, event := range all {
		equal(t, binary.LittleEndian.Uint32(event.Data), uint32(seq))
		equal(t, []any{event.Source, event.Kind, event.Type.Name}, []any{"events", EventSample, "struct event"})
	}
	vm.Stop()
	_, open := <-events
	equal(t, open, false)
	check(t, <-failed)
}

func TestAChannelEndsWithItsContextEvenIfNobodyReceives(t *testing.T) {
	vm := running(t)
	ctx, cancel := context.WithCancel(background)
	events, failed := vm.Channel(ctx, FormatJSON, 0)
	trigger(t, vm, 2)
	next(t, events)
	cancel() // the second event is waiting to be received
	equal(t, errors.Is(<-failed, context.Canceled), true)
}

func TestAFullChannelLosesNothing(t *testing.T) {
	vm := running(t)
	events, _ := vm.Channel(background, FormatRaw, 1)
	trigger(t, vm, 50)
	for seq := uint32(0); seq < 50; seq++ {
		equal(t, binary.LittleEndian.Uint32(next(t, events).Data), seq)
	}
	stats, err := vm.Stats()
	check(t, err)
	equal(t, stats.LostKernel, uint64(0))
}

func TestAChannelOfAVMWithoutAPackageHasTheError(t *testing.T) {
	vm, err := New(nil)
	check(t, err)
	defer vm.Close()
	events, failed := vm.Channel(background, FormatJSON, 0)
	_, open := <-events
	equal(t, open, false)
	equal(t, errors.Is(<-failed, ErrState), true)
}

func TestCloseEndsAChannel(t *testing.T) {
	vm := running(t)
	events, failed := vm.Channel(background, FormatJSON, 0)
	check(t, vm.Close())
	_, open := <-events
	equal(t, open, false)
	// The goroutine was waiting, or found the vm closed.
	if err := <-failed; err != nil && !errors.Is(err, ErrState) {
		t.Fatal(err)
	}
}
