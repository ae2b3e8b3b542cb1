package eunomia

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"unsafe"
)

// Events of one run of the program "produce", see benches/figures/signal.h.
const perRun = 1000

// producer is a vm whose program fills the ring buffer with perRun events at each run.
func producer(b *testing.B) (vm *VM, produce func()) {
	path := os.Getenv("EUNOMIA_FIGURES_PACKAGE")
	if path == "" {
		b.Skip("EUNOMIA_FIGURES_PACKAGE names no package: make bench runs this")
	}
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	vm, err := New(nil)
	must(err)
	b.Cleanup(func() { vm.Close() })
	_, err = vm.OpenFile(path, KindJSON)
	must(err)
	must(vm.Load())
	prog, err := vm.ProgFind("produce")
	must(err)
	const getFdByID, testRun = 13, 10
	id := [16]uint32{prog.ID}
	fd := bpf(b, getFdByID, unsafe.Pointer(&id), 12)
	b.Cleanup(func() { syscall.Close(int(fd)) })
	return vm, func() {
		run := [20]uint32{uint32(fd)}
		bpf(b, testRun, unsafe.Pointer(&run), 80)
	}
}

func bpf(b *testing.B, command uintptr, attributes unsafe.Pointer, size uintptr) uintptr {
	const sysBPF = 321
	answer, _, errno := syscall.Syscall(sysBPF, command, uintptr(attributes), size)
	if errno != 0 {
		b.Fatal("bpf:", errno)
	}
	return answer
}

// consume measures how long consuming takes; the events are there before.
func consume(b *testing.B, produce func(), consume func() (int, error)) {
	for left := b.N; left > 0; left -= perRun {
		b.StopTimer()
		produce()
		b.StartTimer()
		for seen := 0; seen < perRun; {
			count, err := consume()
			if err != nil || count == 0 {
				b.Fatal(count, err)
			}
			seen += count
		}
	}
}

// BenchmarkRead takes raw records from a buffer and looks at each.
func BenchmarkRead(b *testing.B) {
	vm, produce := producer(b)
	buf := make([]byte, 256*1024)
	sum := byte(0)
	consume(b, produce, func() (int, error) {
		batch, err := vm.Read(background, 0, FormatRaw, buf)
		for records := batch.Records(); records.Next(); {
			sum += records.Data()[0]
		}
		return batch.Count, err
	})
	if sum == 1 && b.N == 0 {
		b.Fatal(errors.New("never"))
	}
}

// BenchmarkBatch takes raw records in batches and looks at each.
func BenchmarkBatch(b *testing.B) {
	vm, produce := producer(b)
	sum := byte(0)
	consume(b, produce, func() (int, error) {
		return vm.PollBatch(background, 0, func(batch *EventBatch) error {
			for i := 0; i < batch.Len(); i++ {
				sum += batch.Data(i)[0]
			}
			return nil
		})
	})
}

// BenchmarkPoll takes raw records by callback and looks at each.
func BenchmarkPoll(b *testing.B) {
	vm, produce := producer(b)
	sum := byte(0)
	consume(b, produce, func() (int, error) {
		return vm.Poll(background, 0, FormatRaw, func(event *Event) error {
			sum += event.Data[0]
			return nil
		})
	})
}
