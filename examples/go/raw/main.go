// Reads raw records of the example "bootstrap" into a typed struct, without JSON, until Ctrl-C.
//
// usage: raw target/packages/bootstrap/package.json
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	eunomia "github.com/eunomia-bpf/libeunomia/bindings/go"
)

// record is struct event of examples/bpf/bootstrap/bootstrap.h, with its padding.
type record struct {
	PID, PPID  int32
	ExitCode   uint32
	_          uint32
	DurationNS uint64
	Comm       [16]byte
	Filename   [128]byte
	ExitEvent  bool
	_          [7]byte
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx, os.Args[1]); err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
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
	buf := make([]byte, 64*1024)
	for {
		batch, err := vm.Read(ctx, eunomia.Forever, eunomia.FormatRaw, buf)
		if err != nil {
			return err
		}
		if size := binary.Size(record{}); batch.Type.Size != size {
			return fmt.Errorf("%s: its records have %d bytes, not %d", path, batch.Type.Size, size)
		}
		for records := batch.Records(); records.Next(); {
			show(records.Data())
		}
	}
}

func show(data []byte) {
	// A record may be shorter than its type; missing bytes are zero.
	whole := make([]byte, binary.Size(record{}))
	copy(whole, data)
	var found record
	if err := binary.Read(bytes.NewReader(whole), binary.LittleEndian, &found); err != nil {
		log.Fatal(err)
	}
	what := text(found.Filename[:])
	if found.ExitEvent {
		what = fmt.Sprintf("exit %d after %v", found.ExitCode, time.Duration(found.DurationNS))
	}
	fmt.Println(found.PID, text(found.Comm[:]), what)
}

func text(data []byte) string {
	text, _, _ := bytes.Cut(data, []byte{0})
	return string(text)
}
