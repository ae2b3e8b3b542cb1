// Sets variables of the example "opensnoop" before it runs, and reads its maps afterwards.
//
// usage: variables target/packages/opensnoop/package.json
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	eunomia "github.com/eunomia-bpf/libeunomia/bindings/go"
)

func main() {
	vm, err := eunomia.New(nil)
	check(err)
	defer vm.Close()
	_, err = vm.OpenFile(os.Args[1], eunomia.KindJSON)
	check(err)

	text, err := vm.Describe()
	check(err)
	var description struct {
		Variables []struct {
			Name, Type string
			Value      any
		}
	}
	check(json.Unmarshal(text, &description))
	for _, variable := range description.Variables {
		fmt.Println(variable.Name, variable.Type, variable.Value)
	}
	check(vm.VarSet("targ_pid", os.Getpid())) // constants: before Load only
	check(vm.VarSet("targ_failed", true))
	check(vm.Attach())

	// With targ_failed, only the second open is reported.
	os.ReadFile("/proc/self/stat")
	_, err = os.ReadFile("/nothing/here")
	fmt.Println("expected:", err)
	for {
		count, err := vm.Poll(context.Background(), time.Second, eunomia.FormatJSON, show)
		check(err)
		if count == 0 {
			break
		}
	}

	maps, err := vm.Maps()
	check(err)
	for _, info := range maps {
		fmt.Println("map", info.Name, info.MaxEntries)
	}
	batch, err := vm.MapDump("started", eunomia.FormatJSON, make([]byte, 1<<20))
	check(err)
	fmt.Println("opens under way:", batch.Count)
}

func show(event *eunomia.Event) error {
	var found struct {
		Comm, Fname string
		Ret         int
	}
	if err := json.Unmarshal(event.Data, &found); err != nil {
		return err
	}
	fmt.Println(found.Comm, found.Fname, found.Ret)
	return nil
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
