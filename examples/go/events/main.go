// Runs a package and prints one line of JSON per event, until Ctrl-C.
//
// usage: events PACKAGE [ARGUMENT]...   (arguments are those that the package describes, such as --help)
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	eunomia "github.com/eunomia-bpf/libeunomia/bindings/go"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: events PACKAGE [ARGUMENT]...")
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	err := run(ctx, os.Args[1:])
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, err)
		var failure *eunomia.Error
		if errors.As(err, &failure) {
			fmt.Fprint(os.Stderr, failure.Detail)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	vm, err := eunomia.New(&eunomia.Options{Log: func(_ eunomia.LogLevel, line string) {
		fmt.Fprintln(os.Stderr, line)
	}})
	if err != nil {
		return err
	}
	defer vm.Close()
	if _, err := vm.OpenFile(args[0], eunomia.KindJSON); err != nil {
		return err
	}
	if help, err := vm.ArgsSet(args); help || err != nil {
		text, _ := vm.ArgsHelp()
		fmt.Print(text)
		return err
	}
	if err := vm.Attach(); err != nil {
		return err
	}
	return vm.Run(ctx, eunomia.FormatJSON, func(event *eunomia.Event) error {
		_, err := fmt.Println(string(event.Data))
		return err
	})
}
