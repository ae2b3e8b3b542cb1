package eunomia

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

var background = context.Background()

// The events that the package (conformance/bpf/calls.bpf.c of the tests) sends for each getpgid(2).
type callEvent struct {
	Seq, Mode uint32
	Value     uint64
	Text      [8]byte
}

func packagePath(name string) string {
	return filepath.Join(os.Getenv("EUNOMIA_TEST_PACKAGES"), name)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t *testing.T, found, expected any) {
	t.Helper()
	if !reflect.DeepEqual(found, expected) {
		t.Fatalf("found %v, not %v", found, expected)
	}
}

func opened(t *testing.T, name string, options *Options) *VM {
	t.Helper()
	vm, err := New(options)
	check(t, err)
	t.Cleanup(func() { vm.Close() })
	_, err = vm.OpenFile(packagePath(name), KindAny)
	check(t, err)
	return vm
}

// running is a vm that sends events for this process.
func running(t *testing.T) *VM {
	t.Helper()
	vm := opened(t, "calls.json", nil)
	check(t, vm.VarSet("target", os.Getpid()))
	check(t, vm.Attach())
	return vm
}

func trigger(t *testing.T, vm *VM, events int) {
	t.Helper()
	check(t, vm.VarSet("burst", events))
	syscall.Getpgid(0)
}

func ignore(*Event) error { return nil }

func TestValuesAreJSONAndBytesAreBytes(t *testing.T) {
	vm := running(t)
	type pair struct {
		Left  int32  `json:"left"`
		Right uint16 `json:"right"`
	}
	check(t, vm.VarSet("pair", pair{-5, 6}))
	var found pair
	check(t, vm.VarGet("pair", &found))
	equal(t, found, pair{-5, 6})
	var data []byte
	check(t, vm.VarGet("pair", &data))
	equal(t, data, []byte{0xfb, 0xff, 0xff, 0xff, 6, 0, 0, 0})
	check(t, vm.VarSet("bonus", bytes.Repeat([]byte{255}, 8)))
	var bonus uint64
	check(t, vm.VarGet("bonus", &bonus))
	equal(t, bonus, ^uint64(0))
}

func TestOneCallPollsManyVMs(t *testing.T) {
	group, err := NewGroup()
	check(t, err)
	defer group.Close()
	vms := []*VM{running(t), running(t)}
	counts := map[*VM]int{}
	count := func(vm *VM, event *Event) error {
		counts[vm]++
		return nil
	}
	for _, vm := range vms {
		check(t, group.Add(vm))
	}
	equal(t, errors.Is(group.Add(vms[0]), ErrState), true)
	check(t, vms[1].VarSet("burst", 3))
	trigger(t, vms[0], 2)
	n, err := group.Poll(background, Forever, FormatJSON, count)
	check(t, err)
	equal(t, n, 5)
	equal(t, counts, map[*VM]int{vms[0]: 2, vms[1]: 3})
	n, err = group.Poll(background, 0, FormatJSON, count)
	check(t, err)
	equal(t, n, 0)

	own := errors.New("own")
	trigger(t, vms[0], 1)
	_, err = group.Poll(background, Forever, FormatRaw, func(*VM, *Event) error { return own })
	equal(t, err, own)
	n, err = group.Poll(background, Forever, FormatRaw, func(*VM, *Event) error { return End })
	check(t, err)
	equal(t, n, 1)

	vms[1].Stop()
	for err == nil {
		_, err = group.Poll(background, Forever, FormatRaw, count)
	}
	equal(t, errors.Is(err, ErrStopped), true)
	equal(t, group.Failed() == vms[1], true)
	check(t, group.Add(vms[1]))
	check(t, group.Remove(vms[0]))
	equal(t, errors.Is(group.Remove(vms[0]), ErrNotFound), true)
}

func TestACallbackOfAGroupMayCloseItsVM(t *testing.T) {
	group, err := NewGroup()
	check(t, err)
	defer group.Close()
	vm := running(t)
	check(t, group.Add(vm))
	trigger(t, vm, 3)
	n, err := group.Poll(background, Forever, FormatRaw, func(vm *VM, _ *Event) error { return vm.Close() })
	check(t, err)
	equal(t, n, 1)
	n, err = group.Poll(background, 0, FormatRaw, func(*VM, *Event) error { return nil })
	check(t, err)
	equal(t, n, 0)
}

func TestAPollOfAGroupEndsWithStopItsContextAndClose(t *testing.T) {
	group, err := NewGroup()
	check(t, err)
	poll := func(ctx context.Context) error {
		_, err := group.Poll(ctx, Forever, FormatRaw, func(*VM, *Event) error { return nil })
		return err
	}
	go func() {
		time.Sleep(10 * time.Millisecond)
		group.Stop()
	}()
	equal(t, errors.Is(poll(background), ErrStopped), true)
	ctx, cancel := context.WithTimeout(background, 10*time.Millisecond)
	defer cancel()
	equal(t, poll(ctx), context.DeadlineExceeded)
	go func() {
		time.Sleep(10 * time.Millisecond)
		group.Close()
	}()
	equal(t, errors.Is(poll(background), ErrStopped), true)
	equal(t, errors.Is(poll(background), ErrState), true)
}

func TestAFailureHasStatusWordsAndErrno(t *testing.T) {
	vm := running(t)
	err := vm.VarSet("small", 70000)
	equal(t, errors.Is(err, ErrType), true)
	equal(t, errors.Is(err, ErrInval), false)
	var failure *Error
	equal(t, errors.As(err, &failure), true)
	var status Status
	equal(t, errors.As(err, &status) && status == ErrType, true)
	equal(t, failure.Message, `variable "small": 70000 does not fit u16`)
	equal(t, err.Error(), `eunomia: variable "small": 70000 does not fit u16 (EUNOMIA_ERR_TYPE)`)
	check(t, vm.MapSet("counts", 1, 1, MapAny))
	err = vm.MapSet("counts", 1, 1, MapNoExist)
	equal(t, errors.Is(err, ErrSystem) && errors.Is(err, syscall.EEXIST), true)
	err = vm.VarSet("a\x00b", 1)
	equal(t, errors.Is(err, ErrInval), true)
}

func TestACommandLineSetsVariables(t *testing.T) {
	vm, err := New(nil)
	check(t, err)
	defer vm.Close()
	data, err := os.ReadFile(packagePath("calls.json"))
	check(t, err)
	kind, err := vm.Open(data, KindAny)
	check(t, err)
	equal(t, kind, KindJSON)
	help, err := vm.ArgsSet([]string{"calls", "--target", "7"})
	check(t, err)
	equal(t, help, false)
	var target int
	check(t, vm.VarGet("target", &target))
	equal(t, target, 7)
	help, err = vm.ArgsSet([]string{"calls", "--help"})
	check(t, err)
	equal(t, help, true)
	text, err := vm.ArgsHelp()
	check(t, err)
	equal(t, strings.Contains(text, "--target"), true)
}

func TestPollGivesEvents(t *testing.T) {
	vm := running(t)
	trigger(t, vm, 3)
	var seqs []uint32
	count, err := vm.Poll(background, Forever, FormatJSON, func(event *Event) error {
		var call struct{ Seq uint32 }
		if err := json.Unmarshal(event.Data, &call); err != nil {
			return err
		}
		seqs = append(seqs, call.Seq)
		return nil
	})
	check(t, err)
	equal(t, count, 3)
	equal(t, seqs, []uint32{0, 1, 2})

	trigger(t, vm, 1)
	_, err = vm.Poll(background, Forever, FormatRaw, func(event *Event) error {
		var call callEvent
		equal(t, binary.Read(bytes.NewReader(event.Data), binary.LittleEndian, &call), nil)
		equal(t, call, callEvent{0, 5, 7, [8]byte{'h', 'e', 'l', 'l', 'o'}})
		equal(t, *event, Event{Kind: EventSample, Format: FormatRaw, Source: "events", Data: event.Data, Key: event.Key,
			Type: event.Type, CPU: -1, Time: event.Time})
		equal(t, event.Time > 0, true)
		equal(t, event.Type.Name, "struct event")
		return nil
	})
	check(t, err)
	count, err = vm.Poll(background, 10*time.Millisecond, FormatRaw, ignore)
	check(t, err)
	equal(t, count, 0)
}

func TestABatchHasTheRecordsOfManyEvents(t *testing.T) {
	vm := running(t)
	check(t, vm.VarSet("burst", 100))
	for i := 0; i < 3; i++ {
		syscall.Getpgid(0)
	}
	next, sizes := uint32(0), []int{}
	count, err := vm.PollBatch(background, Forever, func(batch *EventBatch) error {
		equal(t, []any{batch.Kind, batch.Source, batch.SourceIndex, batch.CPU}, []any{EventSample, "events", 0, -1})
		equal(t, []any{batch.Type.Name, len(batch.Key), batch.Lost, batch.Time > 0}, []any{"struct event", 0, uint64(0), true})
		for i := 0; i < batch.Len(); i++ {
			equal(t, len(batch.Data(i)), 24)
			equal(t, binary.LittleEndian.Uint32(batch.Data(i)), next%100)
			next++
		}
		sizes = append(sizes, batch.Len())
		return nil
	})
	check(t, err)
	equal(t, []any{count, next, sizes}, []any{300, uint32(300), []int{256, 44}})
	count, err = vm.PollBatch(background, 10*time.Millisecond, func(*EventBatch) error { return nil })
	check(t, err)
	equal(t, count, 0)
}

func TestABatchEndsAPollByErrorEndAndPanic(t *testing.T) {
	vm := running(t)
	failure := errors.New("failure")
	for _, answer := range []error{failure, End} {
		trigger(t, vm, 3)
		_, err := vm.PollBatch(background, Forever, func(*EventBatch) error { return answer })
		equal(t, err == failure, answer == failure)
	}
	trigger(t, vm, 3)
	func() {
		defer func() { equal(t, recover(), any("in a batch")) }()
		vm.PollBatch(background, Forever, func(*EventBatch) error { panic("in a batch") })
	}()
	count, err := vm.PollBatch(background, 0, func(*EventBatch) error { return nil })
	check(t, err)
	equal(t, count, 0) // a batch that was delivered is not delivered again
}

func TestEndEndsAPollAndARun(t *testing.T) {
	vm := running(t)
	trigger(t, vm, 3)
	end := func(*Event) error { return End }
	count, err := vm.Poll(background, Forever, FormatJSON, end)
	check(t, err)
	equal(t, count, 1)
	check(t, vm.Run(background, FormatJSON, end))
	count, err = vm.Poll(background, 0, FormatJSON, ignore)
	check(t, err)
	equal(t, count, 1)
}

func TestEventsAreScanned(t *testing.T) {
	for _, format := range []Format{FormatRaw, FormatJSON, FormatText} {
		vm := running(t)
		trigger(t, vm, 5)
		events := vm.Events(background, format)
		count := 0
		for count < 5 && events.Next() {
			event := events.Event()
			equal(t, event.Source, "events")
			equal(t, event.Kind, EventSample)
			if format == FormatRaw {
				equal(t, binary.LittleEndian.Uint32(event.Data), uint32(count))
			} else if bytes.IndexByte(event.Data, '\n') >= 0 {
				t.Fatalf("more than a line: %q", event.Data)
			}
			count++
		}
		equal(t, count, 5)
		vm.Stop()
		equal(t, events.Next(), false)
		check(t, events.Err())
	}
}

func TestEventsOfASampledMapAreItsEntries(t *testing.T) {
	vm := opened(t, "sampled.json", nil)
	check(t, vm.Attach())
	for _, format := range []Format{FormatRaw, FormatJSON} {
		events := vm.Events(background, format)
		equal(t, events.Next(), true)
		equal(t, events.Event().Kind, EventMapEntry)
		equal(t, events.Event().Source, "totals")
	}
}

func TestReadFillsABuffer(t *testing.T) {
	vm := running(t)
	buf := make([]byte, 4096)
	trigger(t, vm, 2)
	_, err := vm.Read(background, Forever, FormatRaw, buf[:8])
	var failure *Error
	equal(t, errors.As(err, &failure), true)
	equal(t, failure.Status, ErrTooSmall)
	equal(t, failure.Need, 40)
	batch, err := vm.Read(background, Forever, FormatRaw, buf)
	check(t, err)
	equal(t, batch.Source, "events")
	equal(t, batch.Type.Name, "struct event")
	seq := uint32(0)
	records := batch.Records()
	for ; records.Next(); seq++ {
		equal(t, binary.LittleEndian.Uint32(records.Data()), seq)
		equal(t, len(records.Data()), 24)
		equal(t, len(records.Key()), 0)
		equal(t, records.CPU(), -1)
	}
	equal(t, seq, uint32(2))
	batch, err = vm.Read(background, 0, FormatJSON, buf)
	check(t, err)
	equal(t, batch.Count, 0)
	_, err = vm.Read(background, 0, FormatRaw, buf[1:])
	equal(t, errors.Is(err, ErrInval), true)
}

func TestReadAllocatesNothingForARecord(t *testing.T) {
	vm := running(t)
	buf := make([]byte, 64*1024)
	check(t, vm.VarSet("burst", 100))
	once := func() {
		syscall.Getpgid(0)
		batch, err := vm.Read(background, 0, FormatRaw, buf)
		if err != nil || batch.Count != 100 {
			t.Fatal(batch.Count, err)
		}
		for records := batch.Records(); records.Next(); {
		}
	}
	if allocations := testing.AllocsPerRun(100, once); allocations > 20 {
		t.Fatalf("%v allocations for 100 records", allocations)
	}
}

func TestMapsByValueAndByBytes(t *testing.T) {
	vm := running(t)
	twenty := []byte{20, 0, 0, 0, 0, 0, 0, 0}
	check(t, vm.MapSet("counts", 1, 10, MapAny))
	check(t, vm.MapSet("counts", []byte{2, 0, 0, 0}, twenty, MapAny))
	var value uint64
	check(t, vm.MapGet("counts", 2, &value))
	equal(t, value, uint64(20))
	var data []byte
	check(t, vm.MapGet("counts", []byte{2, 0, 0, 0}, &data))
	equal(t, data, twenty)
	equal(t, errors.Is(vm.MapGet("counts", []byte{2, 0, 0, 0}, &value), ErrInval), true)
	equal(t, errors.Is(vm.MapSet("counts", 1, twenty, MapAny), ErrInval), true)
	info, err := vm.MapFind("per_cpu")
	check(t, err)
	check(t, vm.MapGet("per_cpu", []byte{0, 0, 0, 0}, &data))
	equal(t, len(data), 8*info.CPUs)

	keys := map[byte]bool{}
	count, err := vm.MapEach("counts", FormatRaw, func(event *Event) error {
		keys[event.Key[0]] = event.Kind == EventMapEntry
		return nil
	})
	check(t, err)
	equal(t, count, 2)
	equal(t, keys, map[byte]bool{1: true, 2: true})
	batch, err := vm.MapDump("counts", FormatRaw, make([]byte, 64))
	check(t, err)
	equal(t, batch.Count, 2)
	records := batch.Records()
	for records.Next() {
		equal(t, records.Data()[0], records.Key()[0]*10)
	}
	check(t, vm.MapDel("counts", 1))
	key, err := vm.MapNext("counts", nil)
	check(t, err)
	equal(t, key, []byte{2, 0, 0, 0})
	check(t, vm.MapDel("counts", key))
	_, err = vm.MapNext("counts", nil)
	equal(t, errors.Is(err, ErrNotFound), true)
}

func TestAPackageIsDescribed(t *testing.T) {
	vm := running(t)
	text, err := vm.Describe()
	check(t, err)
	var description struct{ State string }
	check(t, json.Unmarshal(text, &description))
	equal(t, description.State, "attached")
	progs, err := vm.Progs()
	check(t, err)
	equal(t, []string{progs[0].Name, progs[1].Name}, []string{"on_call", "on_return"})
	maps, err := vm.Maps()
	check(t, err)
	equal(t, len(maps) >= 4, true)
	sources, err := vm.Sources()
	check(t, err)
	equal(t, len(sources), 1)
	mode := sources[0].Type.Fields[1]
	equal(t, []any{mode.Name, mode.Type.Fields[1].Name, mode.Type.Fields[1].Value}, []any{"mode", "MODE_ON", int64(5)})
	text8 := sources[0].Type.Fields[3].Type
	equal(t, []any{text8.Kind, text8.Count, text8.Element.Kind}, []any{TypeArray, 8, TypeChar})
}

func TestProgramsAreChosenAndAimed(t *testing.T) {
	vm := opened(t, "calls.json", nil)
	check(t, vm.ProgSetAutoload("on_return", false))
	check(t, vm.ProgSetTarget("on_call", map[string]string{"attach": "raw_tp/sys_exit"}))
	prog, err := vm.ProgFind("on_call")
	check(t, err)
	equal(t, strings.Contains(prog.Target, "sys_exit"), true)
	check(t, vm.Attach())
	prog, err = vm.ProgFind("on_return")
	check(t, err)
	equal(t, prog.ID, uint32(0))
	check(t, vm.Detach())
}

func TestAnIteratorGivesLines(t *testing.T) {
	object, err := os.ReadFile(packagePath("tasks.o"))
	check(t, err)
	vm, err := New(nil)
	check(t, err)
	defer vm.Close()
	_, err = vm.OpenObject(object, "")
	check(t, err)
	check(t, vm.Attach())
	lines := 0
	count, err := vm.IterEach("tasks", func(event *Event) error {
		lines++
		return nil
	})
	check(t, err)
	equal(t, count, lines)
	equal(t, count > 0, true)
}

func TestAGuestRunsWithArguments(t *testing.T) {
	vm := opened(t, "hello.wasm", nil)
	var printed []string
	code, err := vm.WasmRun(background, []string{"guest", "one"}, FormatJSON, func(event *Event) error {
		printed = append(printed, string(event.Data))
		return nil
	})
	check(t, err)
	equal(t, code, 5)
	equal(t, printed, []string{`hello ["guest","one"]`})
}

func TestTheLogComesLineByLine(t *testing.T) {
	lines := 0
	vm := opened(t, "calls.json", &Options{LogLevel: LogDebug, Log: func(level LogLevel, line string) {
		if strings.Contains(line, "\n") {
			t.Errorf("%q has a line feed", line)
		}
		lines++
	}})
	check(t, vm.Load())
	equal(t, lines > 0, true)
}

func TestAReplaceReturnsItsReportOrAllPartsOfItsError(t *testing.T) {
	vm := running(t)
	report, err := vm.ReplaceReport()
	check(t, err)
	equal(t, report, json.RawMessage(nil))
	data, err := os.ReadFile(packagePath("calls.json"))
	check(t, err)
	report, err = vm.Replace(data, ReplaceFreshMaps|ReplaceOrdered)
	check(t, err)
	equal(t, strings.Contains(string(report), `"unchanged":true`), true)
	other, err := os.ReadFile(packagePath("sampled.json"))
	check(t, err)
	_, err = vm.Replace(other, 0)
	var failure *Error
	equal(t, errors.As(err, &failure), true)
	equal(t, failure.Status, ErrNotFound)
	equal(t, failure.SubjectKind, SubjectVariable)
	equal(t, failure.Subject, "target")
	equal(t, strings.Contains(failure.Message, "no such variable"), true)
	trigger(t, vm, 1)
	_, err = vm.Poll(background, Forever, FormatRaw, func(*Event) error {
		_, err := vm.Replace(data, 0)
		return err
	})
	equal(t, errors.Is(err, ErrBusy), true)
	stats, err := vm.Stats()
	check(t, err)
	equal(t, stats.Replaces, uint64(0))
}

// replaceable returns a running vm, its package, and the same package with another time-out in its metadata.
func replaceable(t *testing.T) (*VM, []byte, []byte) {
	data, err := os.ReadFile(packagePath("calls.json"))
	check(t, err)
	next := bytes.Replace(data, []byte(`"meta":{`), []byte(`"meta":{"poll_timeout_ms":77,`), 1)
	vm, err := New(&Options{Flags: Replaceable})
	check(t, err)
	t.Cleanup(func() { vm.Close() })
	_, err = vm.Open(data, KindJSON)
	check(t, err)
	check(t, vm.VarSet("target", os.Getpid()))
	check(t, vm.Attach())
	return vm, data, next
}

func TestAPreparedVersionRunsOrIsGivenUp(t *testing.T) {
	vm, data, next := replaceable(t)
	prepared, err := vm.Prepare(next, 0)
	check(t, err)
	equal(t, strings.Contains(string(prepared.Report()), "swapped"), true)
	_, err = vm.Replace(next, 0)
	equal(t, errors.Is(err, ErrBusy), true)
	check(t, prepared.Abort())
	check(t, prepared.Abort())
	_, err = prepared.Flip()
	equal(t, errors.Is(err, ErrState), true)
	prepared, err = vm.Prepare(next, ReplaceKeepOld)
	check(t, err)
	report, err := prepared.Flip()
	check(t, err)
	equal(t, strings.Contains(string(report), `"grace_complete":true`), true)
	check(t, prepared.Abort())
	_, err = vm.Prepare(data, 0)
	equal(t, err != nil && strings.Contains(err.Error(), "roll back"), true)
	report, err = vm.Rollback()
	check(t, err)
	equal(t, strings.Contains(string(report), `"programs":[]`), true)
	equal(t, errors.Is(vm.Commit(), ErrState), true)
	_, err = vm.Replace(next, ReplaceKeepOld)
	check(t, err)
	check(t, vm.Commit())
	drained, err := vm.Drained()
	check(t, err)
	equal(t, drained, true)
}

func TestAnotherVMReadsWhatIsExported(t *testing.T) {
	vm, data, next := replaceable(t)
	exported, err := vm.Export(0)
	check(t, err)
	count := len(exported.Fds)
	reader, err := New(nil)
	check(t, err)
	defer reader.Close()
	check(t, reader.Import(data, exported))
	equal(t, errors.Is(reader.Import(data, exported), ErrState), true)
	exported.Close()
	equal(t, errors.Is(reader.Adopt(next, exported), ErrInval), true)
	prepared, err := vm.Prepare(next, 0)
	check(t, err)
	its, err := prepared.Export(0)
	check(t, err)
	defer its.Close()
	check(t, reader.Adopt(next, its))
	_, err = prepared.Flip()
	check(t, err)
	trigger(t, vm, 1)
	delivered, err := reader.Poll(background, Forever, FormatRaw, ignore)
	check(t, err)
	equal(t, delivered, 1)
	check(t, reader.Commit())
	all, err := vm.Export(ExportAll)
	check(t, err)
	defer all.Close()
	equal(t, len(all.Fds) > count, true)
}

func TestTheQueueDelivers(t *testing.T) {
	vm := running(t)
	check(t, vm.QueueStart(1<<20))
	trigger(t, vm, 2)
	for seen := 0; seen < 2; {
		count, err := vm.Poll(background, Forever, FormatRaw, ignore)
		check(t, err)
		seen += count
	}
	check(t, vm.QueueStop())
}

func TestPausedNothingIsReady(t *testing.T) {
	vm := running(t)
	check(t, vm.Pause(true))
	trigger(t, vm, 1)
	count, err := vm.Poll(background, 0, FormatRaw, ignore)
	check(t, err)
	equal(t, count, 0)
	check(t, vm.Pause(false))
	count, err = vm.Poll(background, Forever, FormatRaw, ignore)
	check(t, err)
	equal(t, count, 1)
}
