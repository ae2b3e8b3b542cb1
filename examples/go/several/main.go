// Runs several packages at once, each in a vm with a goroutine, until Ctrl-C.
//
// usage: several PACKAGE...
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sync"

	eunomia "github.com/eunomia-bpf/libeunomia/bindings/go"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	var group sync.WaitGroup
	for _, path := range os.Args[1:] {
		group.Add(1)
		go func(path string) {
			defer group.Done()
			if err := run(ctx, path); !errors.Is(err, context.Canceled) {
				log.Printf("%s: %v", path, err)
				cancel()
			}
		}(path)
	}
	group.Wait()
}

func run(ctx context.Context, path string) error {
	vm, err := eunomia.New(nil)
	if err != nil {
		return err
	}
	defer vm.Close()
	if _, err := vm.OpenFile(path, eunomia.KindJSON); err != nil {
		return err
	}
	if err := vm.Attach(); err != nil {
		return err
	}
	events := vm.Events(ctx, eunomia.FormatJSON)
	for events.Next() {
		fmt.Println(path, string(events.Event().Data))
	}
	return events.Err()
}
