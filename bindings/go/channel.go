package eunomia

import "context"

// Channel starts a goroutine that reads events, and returns a channel that receives a copy of each. The channel buffers up
// to capacity events; when it is full, the goroutine waits and further records stay in the kernel's buffers.
//
// The events end, and both channels are closed, when Stop or Close is called, the context ends, or a read fails. The second
// channel then holds the error: the context's error, or that of the read. It holds none after Stop.
//
//	events, failed := vm.Channel(ctx, eunomia.FormatJSON, 100)
//	for event := range events {
//		use(event)
//	}
//	return <-failed
//
// The caller must receive all events or cancel the context; otherwise the goroutine does not end.
func (vm *VM) Channel(ctx context.Context, format Format, capacity int) (<-chan Event, <-chan error) {
	events, failed := make(chan Event, capacity), make(chan error, 1)
	go func() {
		defer close(failed)
		defer close(events)
		if err := vm.send(ctx, format, events); err != nil {
			failed <- err
		}
	}()
	return events, failed
}

// send sends events until Stop is called, the context ends or a read fails.
func (vm *VM) send(ctx context.Context, format Format, events chan<- Event) error {
	read := vm.Events(ctx, format)
	for read.Next() {
		event := *read.Event()
		// Next overwrites the buffer that these are part of.
		event.Data = append([]byte(nil), event.Data...)
		event.Key = append([]byte(nil), event.Key...)
		select {
		case events <- event:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return read.Err()
}
