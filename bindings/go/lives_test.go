package eunomia

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAnErrorOfACallbackIsReturned(t *testing.T) {
	vm := running(t)
	trigger(t, vm, 3)
	own := errors.New("mine")
	count, err := vm.Poll(background, Forever, FormatJSON, func(*Event) error { return own })
	equal(t, err, own)
	equal(t, count, 0)
	count, err = vm.Poll(background, 0, FormatJSON, ignore)
	check(t, err)
	equal(t, count, 2)
}

// A callback may return ErrStopped because another vm was stopped.
func TestAnErrorOfACallbackIsNotTakenForAStop(t *testing.T) {
	vm := running(t)
	other := running(t)
	ctx, cancel := context.WithTimeout(background, 10*time.Second)
	defer cancel()
	fail := func(*Event) error {
		other.Stop()
		_, err := other.Poll(ctx, Forever, FormatJSON, ignore)
		return err
	}
	trigger(t, vm, 1)
	_, err := vm.Poll(ctx, Forever, FormatJSON, fail)
	equal(t, errors.Is(err, ErrStopped), true)
	trigger(t, vm, 1)
	equal(t, errors.Is(vm.Run(ctx, FormatJSON, fail), ErrStopped), true)
	guest := opened(t, "hello.wasm", nil)
	_, err = guest.WasmRun(ctx, []string{"guest"}, FormatJSON, fail)
	equal(t, errors.Is(err, ErrStopped), true)
	// Neither call affects a later stop of its own vm.
	vm.Stop()
	_, err = vm.Poll(ctx, Forever, FormatJSON, ignore)
	equal(t, errors.Is(err, ErrStopped), true)
}

// panics is what function panics with.
func panics(function func()) (failure any) {
	defer func() { failure = recover() }()
	function()
	return nil
}

func TestAPanicOfACallbackIsRaisedByTheCall(t *testing.T) {
	vm := running(t)
	trigger(t, vm, 2)
	fail := func(*Event) error { panic("mine") }
	equal(t, panics(func() { vm.Poll(background, Forever, FormatJSON, fail) }), "mine")
	check(t, vm.MapSet("counts", 1, 1, MapAny))
	equal(t, panics(func() { vm.MapEach("counts", FormatJSON, fail) }), "mine")
	count, err := vm.Poll(background, 0, FormatJSON, ignore)
	check(t, err)
	equal(t, count, 1)
	guest := opened(t, "hello.wasm", nil)
	equal(t, panics(func() { guest.WasmRun(background, []string{"guest"}, FormatJSON, fail) }), "mine")
}

func TestAPanicOfTheLogIsRaisedByTheCall(t *testing.T) {
	failing := false
	vm := opened(t, "calls.json", &Options{LogLevel: LogDebug, Log: func(LogLevel, string) {
		if failing {
			panic("mine")
		}
	}})
	failing = true
	defer func() { failing = false }()
	equal(t, panics(func() { vm.Load() }), "mine")
}

func TestACallbackUsesTheVMButDoesNotPoll(t *testing.T) {
	vm := running(t)
	trigger(t, vm, 1)
	_, err := vm.Poll(background, Forever, FormatJSON, func(*Event) error {
		if err := vm.VarSet("bonus", 1000); err != nil {
			return err
		}
		_, err := vm.Poll(background, Forever, FormatJSON, ignore)
		return err
	})
	equal(t, errors.Is(err, ErrBusy), true)
	var bonus int
	check(t, vm.VarGet("bonus", &bonus))
	equal(t, bonus, 1000)
}

func TestAVMClosedInACallbackEndsWithThePoll(t *testing.T) {
	vm := running(t)
	before := descriptors(t)
	trigger(t, vm, 3)
	seen := 0
	_, err := vm.Poll(background, Forever, FormatJSON, func(*Event) error {
		seen++
		return vm.Close()
	})
	check(t, err)
	equal(t, seen, 1)
	equal(t, descriptors(t) < before, true)
}

func TestAClosedVMSaysSo(t *testing.T) {
	vm := running(t)
	check(t, vm.Close())
	check(t, vm.Close())
	vm.Stop()
	equal(t, vm.Fd(), -1)
	_, stats := vm.Stats()
	_, poll := vm.Poll(background, Forever, FormatJSON, ignore)
	events := vm.Events(background, FormatJSON)
	equal(t, events.Next(), false)
	for _, err := range []error{vm.Load(), vm.Pause(true), stats, poll, events.Err(), vm.VarSet("burst", 1)} {
		equal(t, errors.Is(err, ErrState), true)
	}
}

func TestTypesOutliveTheirVM(t *testing.T) {
	vm := running(t)
	sources, err := vm.Sources()
	check(t, err)
	check(t, vm.Close())
	runtime.GC()
	equal(t, sources[0].Type.Fields[0].Name, "seq")
}

func TestTheEndOfAContextEndsAWait(t *testing.T) {
	vm := running(t)
	for i := 0; i < 20; i++ {
		ctx, cancel := context.WithTimeout(background, time.Duration(i)*time.Millisecond)
		_, err := vm.Poll(ctx, Forever, FormatJSON, ignore)
		equal(t, err, context.DeadlineExceeded)
		events := vm.Events(ctx, FormatJSON)
		equal(t, events.Next(), false)
		equal(t, events.Err(), context.DeadlineExceeded)
		cancel()
		// The end of a context does not affect the next call.
		trigger(t, vm, 1)
		count, err := vm.Poll(background, Forever, FormatJSON, ignore)
		check(t, err)
		equal(t, count, 1)
	}
}

func TestTheEndOfAContextEndsAGuest(t *testing.T) {
	vm := opened(t, "loop.wasm", nil)
	ctx, cancel := context.WithTimeout(background, 20*time.Millisecond)
	defer cancel()
	_, err := vm.WasmRun(ctx, []string{"guest"}, FormatJSON, ignore)
	equal(t, err, context.DeadlineExceeded)
}

func TestStopIsReportedOnceAndNotTakenForAContext(t *testing.T) {
	vm := running(t)
	vm.Stop()
	vm.Stop()
	_, err := vm.Poll(background, Forever, FormatJSON, ignore)
	equal(t, errors.Is(err, ErrStopped), true)
	count, err := vm.Poll(background, 0, FormatJSON, ignore)
	check(t, err)
	equal(t, count, 0)
	go vm.Stop()
	check(t, vm.Run(background, FormatJSON, ignore))
}

func TestOtherGoroutinesUseAVMWhileOneWaits(t *testing.T) {
	vm := running(t)
	result := make(chan int)
	go func() {
		seen := 0
		events := vm.Events(background, FormatRaw)
		for events.Next() {
			seen++
		}
		result <- seen
	}()
	trigger(t, vm, 4)
	for {
		stats, err := vm.Stats()
		check(t, err)
		if stats.Events == 4 {
			break
		}
		var burst int
		check(t, vm.VarGet("burst", &burst))
	}
	vm.Stop()
	equal(t, <-result, 4)
}

func TestCloseEndsAllThatWait(t *testing.T) {
	before := descriptors(t)
	for i := 0; i < 20; i++ {
		vm := running(t)
		var group sync.WaitGroup
		for j := 0; j < 4; j++ {
			group.Add(1)
			go func() {
				defer group.Done()
				_, err := vm.Poll(background, Forever, FormatJSON, ignore)
				if !errors.Is(err, ErrStopped) && !errors.Is(err, ErrState) {
					t.Errorf("found %v", err)
				}
			}()
		}
		time.Sleep(time.Duration(i) * 100 * time.Microsecond)
		check(t, vm.Close())
		group.Wait()
	}
	equal(t, descriptors(t), before)
}

func TestCloseUnderConstantUse(t *testing.T) {
	for i := 0; i < 20; i++ {
		vm := running(t)
		var group sync.WaitGroup
		for j := 0; j < 4; j++ {
			group.Add(1)
			go func() {
				defer group.Done()
				for vm.VarSet("burst", 3) == nil {
					vm.Poll(background, 0, FormatJSON, func(*Event) error { return vm.VarSet("bonus", 1) })
					vm.Stats()
					vm.Stop()
				}
			}()
		}
		time.Sleep(2 * time.Millisecond)
		check(t, vm.Close())
		group.Wait()
	}
}

func TestAForgottenVMIsFreed(t *testing.T) {
	before := descriptors(t)
	func() {
		vm, err := New(nil)
		check(t, err)
		runtime.KeepAlive(vm)
	}()
	for deadline := time.Now().Add(20 * time.Second); descriptors(t) > before; {
		runtime.GC()
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors, before %d", descriptors(t), before)
		}
	}
}

func TestTheGarbageCollectorTakesNothingThatIsInUse(t *testing.T) {
	vm := running(t)
	check(t, vm.VarSet("burst", 20))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; i < 50; i++ {
			runtime.GC()
		}
	}()
	seen := 0
	for end := false; !end; {
		select {
		case <-done:
			end = true
		default:
		}
		trigger(t, vm, 20)
		_, err := vm.Poll(background, Forever, FormatJSON, func(event *Event) error {
			garbage := make([]byte, 1024)
			copy(garbage, event.Data)
			seen++
			return nil
		})
		check(t, err)
	}
	equal(t, seen > 0, true)
}

// TestChild is run in a process of its own by the next two tests.
func TestChild(t *testing.T) {
	if os.Getenv("EUNOMIA_TEST_CHILD") == "" {
		t.Skip("for other tests")
	}
	vm, err := New(nil)
	check(t, err)
	vm.Close()
}

func child(t *testing.T, variable string) string {
	t.Helper()
	command := exec.Command(os.Args[0], "-test.run", "^TestChild$")
	command.Env = append(os.Environ(), "EUNOMIA_TEST_CHILD=1", variable)
	output, err := command.CombinedOutput()
	if err == nil {
		t.Fatalf("it went well: %s", output)
	}
	return string(output)
}

func TestALibraryOfAnotherVersionIsRefused(t *testing.T) {
	output := child(t, "LD_PRELOAD="+os.Getenv("EUNOMIA_TEST_OTHER_VERSION"))
	equal(t, strings.Contains(output, "this package was built for 0.1 (EUNOMIA_ERR_UNSUPPORTED)"), true)
}

func TestAMissingLibraryIsNamed(t *testing.T) {
	if os.Getenv("EUNOMIA_TEST_STATIC") != "" {
		t.Skip("it is in the program")
	}
	output := child(t, "LD_LIBRARY_PATH=/nowhere")
	equal(t, strings.Contains(output, "libeunomia.so.0.1: cannot open shared object file"), true)
}

// EUNOMIA_TEST_LIVES is the number of life cycles; EUNOMIA_TEST_LIFE is the path of the package.
func TestManyLivesLeaveNothingBehind(t *testing.T) {
	lives, err := strconv.Atoi(os.Getenv("EUNOMIA_TEST_LIVES"))
	if err != nil {
		lives = 50
	}
	path := os.Getenv("EUNOMIA_TEST_LIFE")
	if path == "" {
		path = packagePath("perf.json")
	}
	// Each thread that calls C keeps up to a megabyte for its next allocations; here it is one thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	live(t, path, 10+lives/10)
	descriptorsBefore, before := descriptors(t), residentKB(t)
	live(t, path, lives)
	descriptors, grown := descriptors(t)-descriptorsBefore, residentKB(t)-before
	t.Logf("%d lives leave %d descriptors and %d kB", lives, descriptors, grown)
	if descriptors != 0 || grown > 1024 {
		t.Fatal("at most 0 descriptors and 1024 kB may stay")
	}
}

func live(t *testing.T, path string, lives int) {
	for ; lives > 0; lives-- {
		vm, err := New(nil)
		check(t, err)
		_, err = vm.OpenFile(path, KindAny)
		check(t, err)
		check(t, vm.Attach())
		check(t, vm.Close())
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	return len(entries)
}

func residentKB(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	data, err := os.ReadFile("/proc/self/statm")
	check(t, err)
	pages, err := strconv.Atoi(strings.Fields(string(data))[1])
	check(t, err)
	return pages * os.Getpagesize() / 1024
}
