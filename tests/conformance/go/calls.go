package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	eunomia "github.com/eunomia-bpf/libeunomia/bindings/go"
)

var (
	background = context.Background()

	formats = map[string]eunomia.Format{"raw": eunomia.FormatRaw, "json": eunomia.FormatJSON, "text": eunomia.FormatText}
	kinds   = map[string]eunomia.Kind{"json": eunomia.KindJSON, "wasm": eunomia.KindWASM, "any": eunomia.KindAny}
	// The constants by number.
	eventKinds = []string{"sample", "lost", "map_entry", "header", "output", "round"}

	errFail = errors.New("fail")
	// errCannotBeSaid replaces an error of C that Go's interface makes impossible.
	errCannotBeSaid = &eunomia.Error{Status: eunomia.ErrInval, Message: "this mistake cannot be made in Go"}
)

// host is the state of a scenario.
type host struct {
	vm      *eunomia.VM
	other   *eunomia.VM // the second vm
	group   *eunomia.Group
	next    *eunomia.Prepared
	passed  eunomia.Exported // the last export
	lines   []string
	inside  string // the first difference in a callback
	stopper sync.WaitGroup
	began   time.Duration // CLOCK_MONOTONIC when the scenario began
}

func (h *host) end() {
	h.stopper.Wait()
	for _, vm := range []*eunomia.VM{h.vm, h.other} {
		if vm != nil {
			vm.Close()
		}
	}
	if h.group != nil {
		h.group.Close()
	}
	h.passed.Close()
}

// take executes a step.
func (h *host) take(step step) outcome {
	call, known := calls[step.text("call")]
	if !known {
		log.Fatalf("no call %q", step.text("call"))
	}
	out := outcome{out: "nothing"}
	out.returns, out.err = call(h, step, &out)
	if out.err == errFail {
		out.err = &eunomia.Error{Status: eunomia.ErrCallback, Message: "fail"}
	}
	var failure *eunomia.Error
	if errors.As(out.err, &failure) {
		out.returns = int(failure.Status)
	} else if out.err != nil {
		log.Fatal(out.err)
	}
	return out
}

// calls are the calls of the table by name.
var calls map[string]func(h *host, step step, out *outcome) (int, error)

func init() {
	calls = map[string]func(h *host, step step, out *outcome) (int, error){
		"new":                  (*host).new,
		"destroy":              func(h *host, _ step, _ *outcome) (int, error) { return 0, h.vm.Close() },
		"open":                 (*host).open,
		"open_file":            (*host).openFile,
		"open_object":          (*host).openObject,
		"load":                 func(h *host, _ step, _ *outcome) (int, error) { return 0, h.vm.Load() },
		"attach":               func(h *host, _ step, _ *outcome) (int, error) { return 0, h.vm.Attach() },
		"detach":               func(h *host, _ step, _ *outcome) (int, error) { return 0, h.vm.Detach() },
		"replace":              (*host).replace,
		"prepare":              (*host).prepare,
		"flip":                 (*host).flip,
		"abort":                func(h *host, _ step, _ *outcome) (int, error) { return 0, h.next.Abort() },
		"commit":               func(h *host, _ step, _ *outcome) (int, error) { return 0, h.vm.Commit() },
		"rollback":             (*host).rollback,
		"drained":              (*host).drained,
		"export":               (*host).export,
		"import":               (*host).importFds,
		"adopt":                (*host).adopt,
		"stop":                 func(h *host, _ step, _ *outcome) (int, error) { h.vm.Stop(); return 0, nil },
		"stop_soon":            (*host).stopSoon,
		"triggers_start":       (*host).triggersStart,
		"triggers_end":         (*host).triggersEnd,
		"log":                  (*host).log,
		"var_set_json":         (*host).varSetJSON,
		"var_set":              (*host).varSet,
		"var_get_json":         (*host).varGetJSON,
		"var_get":              (*host).varGet,
		"args_set":             (*host).argsSet,
		"args_help":            (*host).argsHelp,
		"describe":             (*host).describe,
		"poll":                 (*host).poll,
		"poll_batch":           (*host).pollBatch,
		"run":                  (*host).run,
		"read":                 (*host).read,
		"iter_each":            (*host).iterEach,
		"swap":                 func(h *host, _ step, _ *outcome) (int, error) { h.vm, h.other = h.other, h.vm; return 0, nil },
		"group_add":            func(h *host, _ step, _ *outcome) (int, error) { return 0, h.ofGroup().Add(h.vm) },
		"group_remove":         func(h *host, _ step, _ *outcome) (int, error) { return 0, h.ofGroup().Remove(h.vm) },
		"group_poll":           (*host).groupPoll,
		"group_stop":           func(h *host, _ step, _ *outcome) (int, error) { h.ofGroup().Stop(); return 0, nil },
		"group_readable":       func(h *host, s step, _ *outcome) (int, error) { return readable(h.ofGroup().Fd(), s) },
		"group_failed":         func(h *host, _ step, _ *outcome) (int, error) { return oneIf(h.ofGroup().Failed() == h.vm), nil },
		"wasm_run":             (*host).wasmRun,
		"trigger":              (*host).trigger,
		"readable":             func(h *host, s step, _ *outcome) (int, error) { return readable(h.vm.Fd(), s) },
		"pause":                func(h *host, step step, _ *outcome) (int, error) { return 0, h.vm.Pause(step.on("on")) },
		"stats_get":            (*host).statsGet,
		"queue_start":          (*host).queueStart,
		"queue_stop":           func(h *host, _ step, _ *outcome) (int, error) { return 0, h.vm.QueueStop() },
		"map_get":              (*host).mapGet,
		"map_set":              (*host).mapSet,
		"map_del":              (*host).mapDel,
		"map_next":             (*host).mapNext,
		"map_get_json":         (*host).mapGetJSON,
		"map_set_json":         (*host).mapSetJSON,
		"map_del_json":         (*host).mapDelJSON,
		"map_each":             (*host).mapEach,
		"map_dump":             (*host).mapDump,
		"map_find":             (*host).mapFind,
		"map_at":               (*host).mapAt,
		"map_count":            (*host).mapCount,
		"source_at":            (*host).sourceAt,
		"source_count":         (*host).sourceCount,
		"prog_at":              (*host).progAt,
		"prog_count":           (*host).progCount,
		"prog_find":            (*host).progFind,
		"prog_run":             (*host).progRun,
		"map_set_max_entries":  (*host).mapSetMaxEntries,
		"prog_set_autoload":    (*host).progSetAutoload,
		"prog_set_target_json": (*host).progSetTarget,
		"status_name":          (*host).statusName,
		"fields":               (*host).fields,
	}
}

// ---- life cycle ----

func (h *host) new(s step, _ *outcome) (int, error) {
	options, _ := s["options"].(map[string]any)
	given := step(options)
	number := func(name string) uint32 { return uint32(given.number(name)) }
	var flags eunomia.OptionFlag
	if given.on("raw_events") {
		flags |= eunomia.WasmRawEvents
	}
	if given.on("stdio") {
		flags |= eunomia.WasmStdio
	}
	if given.on("replaceable") {
		flags |= eunomia.Replaceable
	}
	vm, err := eunomia.New(&eunomia.Options{
		Log:      func(_ eunomia.LogLevel, line string) { h.lines = append(h.lines, line) },
		LogLevel: eunomia.LogLevel(number("log_level")), Flags: flags, PerfPages: number("perf_pages"),
		PollBudget: number("poll_budget"), WasmStack: number("wasm_stack"), WasmHeap: number("wasm_heap"),
		WasmMemory: number("wasm_memory"), WasmBudgetMS: number("wasm_budget_ms"),
		MaxKernelMemory: uint64(number("max_kernel_memory")),
	})
	h.vm = vm
	return 0, err
}

func content(path string) []byte {
	data, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	return data
}

func (h *host) open(step step, _ *outcome) (int, error) {
	kind, err := h.vm.Open(content(step.text("file")), kinds[step.text("kinds")])
	return int(kind), err
}

func (h *host) openFile(step step, _ *outcome) (int, error) {
	kind, err := h.vm.OpenFile(step.text("path"), kinds[step.text("kinds")])
	return int(kind), err
}

func (h *host) openObject(step step, _ *outcome) (int, error) {
	meta := ""
	if step.has("meta") {
		meta = string(content(step.text("meta")))
	}
	kind, err := h.vm.OpenObject(content(step.text("file")), meta)
	return int(kind), err
}

func (h *host) replace(step step, out *outcome) (int, error) {
	report, err := h.vm.Replace(content(step.text("file")), eunomia.ReplaceFlag(step.number("flags")))
	out.out = string(report)
	return 0, err
}

func (h *host) prepare(step step, out *outcome) (int, error) {
	next, err := h.vm.Prepare(content(step.text("file")), eunomia.ReplaceFlag(step.number("flags")))
	if err != nil {
		return 0, err
	}
	h.next, out.out = next, string(next.Report())
	return 0, nil
}

func (h *host) flip(_ step, out *outcome) (int, error) {
	report, err := h.next.Flip()
	out.out = string(report)
	return 0, err
}

func (h *host) rollback(_ step, out *outcome) (int, error) {
	report, err := h.vm.Rollback()
	out.out = string(report)
	return 0, err
}

func (h *host) export(step step, out *outcome) (int, error) {
	flags := eunomia.ExportFlag(step.number("flags"))
	export := h.vm.Export
	if flags&1 != 0 {
		export = h.next.Export
	}
	exported, err := export(flags)
	if err != nil {
		return 0, err
	}
	h.passed.Close()
	h.passed, out.out = *exported, exported.Description
	return 0, nil
}

func (h *host) importFds(step step, _ *outcome) (int, error) {
	return 0, h.vm.Import(content(step.text("file")), &h.passed)
}

func (h *host) adopt(step step, _ *outcome) (int, error) {
	return 0, h.vm.Adopt(content(step.text("file")), &h.passed)
}

func (h *host) drained(step, *outcome) (int, error) {
	drained, err := h.vm.Drained()
	if drained {
		return 1, err
	}
	return 0, err
}

func (h *host) stopSoon(step, *outcome) (int, error) {
	h.stopper.Add(1)
	go func() {
		defer h.stopper.Done()
		time.Sleep(50 * time.Millisecond)
		h.vm.Stop()
	}()
	return 0, nil
}

func (h *host) triggersStart(step step, _ *outcome) (int, error) {
	h.stopper.Add(1)
	go func() {
		defer h.stopper.Done()
		for left := step.number("count"); left > 0; left-- {
			syscall.Getpgid(0)
			time.Sleep(100 * time.Microsecond)
		}
	}()
	return 0, nil
}

func (h *host) triggersEnd(step, *outcome) (int, error) {
	h.stopper.Wait()
	for {
		ignore := func(*eunomia.Event) error { return nil }
		count, err := h.vm.Poll(background, 0, eunomia.FormatRaw, ignore)
		if err != nil {
			return 0, err
		}
		if count == 0 {
			break
		}
	}
	stats, err := h.vm.Stats()
	return int(stats.Events + stats.LostKernel), err
}

func (h *host) log(_ step, out *outcome) (int, error) {
	out.out = strings.Join(h.lines, "\n")
	return 0, nil
}

// ---- variables ----

// value converts JSON to a Go value. Malformed JSON cannot be passed in Go.
func value(text string) (json.RawMessage, error) {
	if !json.Valid([]byte(text)) {
		return nil, errCannotBeSaid
	}
	return json.RawMessage(text), nil
}

func bytesOf(text string) []byte {
	data, err := hex.DecodeString(text)
	if err != nil {
		log.Fatal(err)
	}
	return data
}

func (h *host) varSetJSON(step step, _ *outcome) (int, error) {
	json, err := value(step.text("json"))
	if err != nil {
		return 0, err
	}
	return 0, h.vm.VarSet(step.text("name"), json)
}

func (h *host) varSet(step step, _ *outcome) (int, error) {
	return 0, h.vm.VarSet(step.text("name"), bytesOf(step.text("bytes")))
}

func (h *host) varGetJSON(step step, out *outcome) (int, error) {
	var text json.RawMessage
	err := h.vm.VarGet(step.text("name"), &text)
	out.out = string(text)
	return 0, err
}

func (h *host) varGet(step step, out *outcome) (int, error) {
	var data []byte
	err := h.vm.VarGet(step.text("name"), &data)
	out.bytes = hex.EncodeToString(data)
	return 0, err
}

func (h *host) argsSet(step step, _ *outcome) (int, error) {
	help, err := h.vm.ArgsSet(step.words("argv"))
	return oneIf(help), err
}

func (h *host) argsHelp(_ step, out *outcome) (int, error) {
	var err error
	out.out, err = h.vm.ArgsHelp()
	return 0, err
}

func (h *host) describe(_ step, out *outcome) (int, error) {
	text, err := h.vm.Describe()
	out.out = string(text)
	return 0, err
}

// ---- events ----

func timeout(step step) time.Duration {
	if milliseconds := step.number("timeout_ms"); milliseconds >= 0 {
		return time.Duration(milliseconds) * time.Millisecond
	}
	return eunomia.Forever
}

func (h *host) callback(s step, out *outcome) func(*eunomia.Event) error {
	return func(event *eunomia.Event) error {
		out.events = append(out.events, shownEvent(event, h.began))
		if len(out.events) == 1 {
			if difference := h.firstDifference(stepsOf(s.list("inside"))); h.inside == "" {
				h.inside = difference
			}
		}
		switch s.text("answer") {
		case "end":
			return eunomia.End
		case "fail":
			return errFail
		}
		return nil
	}
}

func stepsOf(list []any) []step {
	var steps []step
	for _, one := range list {
		steps = append(steps, one.(map[string]any))
	}
	return steps
}

func shown(data []byte, format eunomia.Format) string {
	if format == eunomia.FormatRaw {
		return hex.EncodeToString(data)
	}
	return string(data)
}

func shownEvent(event *eunomia.Event, began time.Duration) map[string]any {
	cpu, when := "known", "known"
	if event.CPU < 0 {
		cpu = "unknown"
	}
	if event.Time < began || event.Time > monotonic() {
		when = "unknown"
	}
	return map[string]any{
		"kind": eventKinds[event.Kind], "data": shown(event.Data, event.Format), "key": shown(event.Key, event.Format),
		"source": event.Source, "type": nameOf(event.Type), "cpu": cpu, "time": when,
	}
}

// monotonic returns CLOCK_MONOTONIC.
func monotonic() time.Duration {
	const clockMonotonic = 1
	var now syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&now)), 0); errno != 0 {
		panic(errno)
	}
	return time.Duration(now.Nano())
}

func nameOf(of *eunomia.Type) string {
	if of == nil {
		return ""
	}
	return of.Name
}

func (h *host) poll(step step, out *outcome) (int, error) {
	return h.vm.Poll(background, timeout(step), formats[step.text("format")], h.callback(step, out))
}

func (h *host) pollBatch(step step, out *outcome) (int, error) {
	callback := h.callback(step, out)
	return h.vm.PollBatch(background, timeout(step), func(batch *eunomia.EventBatch) (err error) {
		for i := 0; i < batch.Len(); i++ {
			err = callback(&eunomia.Event{Kind: batch.Kind, Source: batch.Source, Data: batch.Data(i), Key: batch.Key,
				Type: batch.Type, CPU: batch.CPU, Time: batch.Time})
		}
		return err
	})
}

func (h *host) run(step step, out *outcome) (int, error) {
	return 0, h.vm.Run(background, formats[step.text("format")], h.callback(step, out))
}

// ofGroup returns the group of the scenario.
func (h *host) ofGroup() *eunomia.Group {
	if h.group == nil {
		group, err := eunomia.NewGroup()
		if err != nil {
			log.Fatal(err)
		}
		h.group = group
	}
	return h.group
}

func (h *host) groupPoll(step step, out *outcome) (int, error) {
	callback := h.callback(step, out)
	poll := h.ofGroup().Poll
	return poll(background, timeout(step), formats[step.text("format")], func(vm *eunomia.VM, event *eunomia.Event) error {
		whose := "other"
		if vm == h.vm {
			whose = "current"
		}
		err := callback(event)
		out.events[len(out.events)-1]["vm"] = whose
		return err
	})
}

func (h *host) iterEach(step step, out *outcome) (int, error) {
	return h.vm.IterEach(step.text("prog"), h.callback(step, out))
}

func (h *host) wasmRun(step step, out *outcome) (int, error) {
	var err error
	out.exitCode, err = h.vm.WasmRun(background, step.words("argv"), formats[step.text("format")], h.callback(step, out))
	return 0, err
}

func (h *host) read(step step, out *outcome) (int, error) {
	batch, err := h.vm.Read(background, timeout(step), formats[step.text("format")], make([]byte, step.number("room")))
	return keep(batch, out), err
}

func keep(batch eunomia.Batch, out *outcome) int {
	if batch.Format != eunomia.FormatRaw {
		out.out = string(batch.Data)
		return batch.Count
	}
	for records := batch.Records(); records.Next(); {
		record := map[string]any{"data": hex.EncodeToString(records.Data()), "key": hex.EncodeToString(records.Key())}
		out.records = append(out.records, record)
	}
	return batch.Count
}

func (h *host) trigger(step step, _ *outcome) (int, error) {
	if step.has("events") {
		if err := h.vm.VarSet("burst", step.number("events")); err != nil {
			return 0, err
		}
	}
	syscall.Getpgid(0)
	return 0, nil
}

func readable(fd int, step step) (int, error) {
	loop, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		log.Fatal(err)
	}
	defer syscall.Close(loop)
	watched := syscall.EpollEvent{Events: syscall.EPOLLIN}
	if err := syscall.EpollCtl(loop, syscall.EPOLL_CTL_ADD, fd, &watched); err != nil {
		log.Fatal(err)
	}
	for {
		count, err := syscall.EpollWait(loop, make([]syscall.EpollEvent, 1), step.number("timeout_ms"))
		if err != syscall.EINTR {
			return count, err
		}
	}
}

func (h *host) statsGet(_ step, out *outcome) (int, error) {
	stats, err := h.vm.Stats()
	out.info = map[string]any{
		"events": float64(stats.Events), "bytes": float64(stats.Bytes), "lost_kernel": float64(stats.LostKernel),
		"lost_queue": float64(stats.LostQueue), "guest_dropped": float64(stats.GuestDropped),
		"malformed": float64(stats.Malformed), "polls": float64(stats.Polls), "replaces": float64(stats.Replaces),
		"lost_known": float64(stats.LostKnown),
	}
	return 0, err
}

func (h *host) queueStart(step step, _ *outcome) (int, error) {
	return 0, h.vm.QueueStart(uint64(step.number("max_bytes")))
}

// ---- maps ----

func (h *host) mapGet(step step, out *outcome) (int, error) {
	var data []byte
	if err := h.vm.MapGet(step.text("map"), bytesOf(step.text("key")), &data); err != nil {
		return 0, err
	}
	if len(data) != step.number("size") {
		return 0, errCannotBeSaid // the binding allocates a buffer that fits
	}
	out.bytes = hex.EncodeToString(data)
	return 0, nil
}

func (h *host) mapSet(step step, _ *outcome) (int, error) {
	key, value := bytesOf(step.text("key")), bytesOf(step.text("value"))
	return 0, h.vm.MapSet(step.text("map"), key, value, uint64(step.number("flags")))
}

func (h *host) mapDel(step step, _ *outcome) (int, error) {
	return 0, h.vm.MapDel(step.text("map"), bytesOf(step.text("key")))
}

func (h *host) mapNext(step step, out *outcome) (int, error) {
	var key []byte
	if step.has("key") {
		key = bytesOf(step.text("key"))
	}
	next, err := h.vm.MapNext(step.text("map"), key)
	out.bytes = hex.EncodeToString(next)
	return 0, err
}

func (h *host) mapGetJSON(step step, out *outcome) (int, error) {
	key, err := value(step.text("key"))
	if err != nil {
		return 0, err
	}
	var text json.RawMessage
	err = h.vm.MapGet(step.text("map"), key, &text)
	out.out = string(text)
	return 0, err
}

func (h *host) mapSetJSON(step step, _ *outcome) (int, error) {
	key, err := value(step.text("key"))
	if err != nil {
		return 0, err
	}
	stored, err := value(step.text("value"))
	if err != nil {
		return 0, err
	}
	return 0, h.vm.MapSet(step.text("map"), key, stored, uint64(step.number("flags")))
}

func (h *host) mapDelJSON(step step, _ *outcome) (int, error) {
	key, err := value(step.text("key"))
	if err != nil {
		return 0, err
	}
	return 0, h.vm.MapDel(step.text("map"), key)
}

func (h *host) mapEach(step step, out *outcome) (int, error) {
	return h.vm.MapEach(step.text("map"), formats[step.text("format")], h.callback(step, out))
}

func (h *host) mapDump(step step, out *outcome) (int, error) {
	batch, err := h.vm.MapDump(step.text("map"), formats[step.text("format")], make([]byte, step.number("room")))
	return keep(batch, out), err
}

func mapInfo(info eunomia.MapInfo) map[string]any {
	return map[string]any{
		"name": info.Name, "kind": float64(info.Kind), "key_size": float64(info.KeySize),
		"value_size": float64(info.ValueSize), "max_entries": float64(info.MaxEntries),
		"key_type": nameOf(info.KeyType), "value_type": nameOf(info.ValueType), "fd": float64(info.Fd),
		"cpus": float64(info.CPUs), "bytes": float64(info.Bytes),
	}
}

func (h *host) mapFind(step step, out *outcome) (int, error) {
	info, err := h.vm.MapFind(step.text("map"))
	out.info = mapInfo(info)
	return 0, err
}

func (h *host) mapAt(step step, out *outcome) (int, error) {
	all, err := h.vm.Maps()
	return at(all, err, step, out, mapInfo)
}

func (h *host) mapCount(step, *outcome) (int, error) {
	all, err := h.vm.Maps()
	return len(all), err
}

// at returns an element, or an error where Go would panic.
func at[Info any](all []Info, err error, step step, out *outcome, shown func(Info) map[string]any) (int, error) {
	index := step.number("index")
	if err == nil && index >= len(all) {
		err = &eunomia.Error{Status: eunomia.ErrNotFound, Message: fmt.Sprintf("there are %d", len(all))}
	}
	if err == nil {
		out.info = shown(all[index])
	}
	return 0, err
}

// ---- sources, programs, types ----

func (h *host) sourceAt(step step, out *outcome) (int, error) {
	all, err := h.vm.Sources()
	return at(all, err, step, out, func(info eunomia.SourceInfo) map[string]any {
		return map[string]any{
			"name": info.Name, "kind": float64(info.Kind), "interval_ms": float64(info.IntervalMS),
			"record_size": float64(info.RecordSize), "type": nameOf(info.Type), "key_type": nameOf(info.KeyType),
			"events": float64(info.Events), "lost": float64(info.Lost), "lost_known": float64(info.LostKnown),
		}
	})
}

func (h *host) sourceCount(step, *outcome) (int, error) {
	all, err := h.vm.Sources()
	return len(all), err
}

func progInfo(info eunomia.ProgInfo) map[string]any {
	return map[string]any{
		"name": info.Name, "section": info.Section, "target": info.Target, "type": float64(info.Type),
		"flags": float64(info.Flags), "id": float64(info.ID),
	}
}

func (h *host) progAt(step step, out *outcome) (int, error) {
	all, err := h.vm.Progs()
	return at(all, err, step, out, progInfo)
}

func (h *host) progCount(step, *outcome) (int, error) {
	all, err := h.vm.Progs()
	return len(all), err
}

func (h *host) progFind(step step, out *outcome) (int, error) {
	info, err := h.vm.ProgFind(step.text("prog"))
	out.info = progInfo(info)
	return 0, err
}

func (h *host) progRun(step step, out *outcome) (int, error) {
	in := eunomia.ProgInput{Data: bytesOf(step.text("data")), Ctx: bytesOf(step.text("ctx")), DataOut: step.number("size")}
	run, err := h.vm.ProgRun(step.text("prog"), in)
	out.bytes = hex.EncodeToString(run.Data)
	return int(run.ReturnValue), err
}

func (h *host) mapSetMaxEntries(step step, _ *outcome) (int, error) {
	return 0, h.vm.MapSetMaxEntries(step.text("map"), uint32(step.number("count")))
}

func (h *host) progSetAutoload(step step, _ *outcome) (int, error) {
	return 0, h.vm.ProgSetAutoload(step.text("prog"), step.on("on"))
}

func (h *host) progSetTarget(step step, _ *outcome) (int, error) {
	json, err := value(step.text("json"))
	if err != nil {
		return 0, err
	}
	return 0, h.vm.ProgSetTarget(step.text("prog"), json)
}

func (h *host) statusName(step step, out *outcome) (int, error) {
	out.out = eunomia.Status(step.number("number")).Error()
	return 0, nil
}

func (h *host) fields(step step, out *outcome) (int, error) {
	sources, err := h.vm.Sources()
	if err != nil {
		return 0, err
	}
	of := sources[step.number("index")].Type
	for _, field := range of.Fields {
		if field.Name == step.text("member") {
			of = field.Type
			break
		}
	}
	for _, field := range of.Fields {
		out.fields = append(out.fields, map[string]any{
			"name": field.Name, "type": nameOf(field.Type), "kind": float64(field.Type.Kind),
			"bit_offset": float64(field.BitOffset), "bit_size": float64(field.BitSize), "value": float64(field.Value),
		})
	}
	return 0, nil
}

func oneIf(on bool) int {
	if on {
		return 1
	}
	return 0
}
