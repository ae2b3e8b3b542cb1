// Replaces a running package with a new version, and returns to the old one if no event comes within 10 seconds.
//
// usage: replace PACKAGE.json NEW.json
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	eunomia "github.com/eunomia-bpf/libeunomia/bindings/go"
)

func main() {
	vm, err := eunomia.New(&eunomia.Options{Flags: eunomia.Replaceable})
	check(err)
	defer vm.Close()
	_, err = vm.OpenFile(os.Args[1], eunomia.KindJSON)
	check(err)
	check(vm.Attach())
	_, err = vm.Poll(context.Background(), eunomia.Forever, eunomia.FormatJSON, show)
	check(err)

	// Everything that can fail or takes long is in Prepare. If it fails, the old version keeps running.
	next, err := os.ReadFile(os.Args[2])
	check(err)
	prepared, err := vm.Prepare(next, eunomia.ReplaceKeepOld)
	check(err)
	report, err := prepared.Flip() // from here on, each event is one of the new version
	check(err)
	fmt.Println(string(report))

	count, err := vm.Poll(context.Background(), 10*time.Second, eunomia.FormatJSON, show)
	check(err)
	if count > 0 {
		check(vm.Commit())
		fmt.Println("the new version stays")
	} else {
		_, err = vm.Rollback()
		check(err)
		fmt.Println("the old version is back")
	}
}

func show(event *eunomia.Event) error {
	fmt.Println(string(event.Data))
	return nil
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
