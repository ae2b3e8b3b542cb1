package eunomia

// #include <string.h>
// #include "callback.h"
import "C"

import (
	"encoding/json"
	"errors"
	"time"
	"unsafe"
)

// ---- maps ----

// MapInfo describes a map.
type MapInfo struct {
	Name       string
	Kind       uint32 // BPF_MAP_TYPE_*
	KeySize    int
	ValueSize  int // of one CPU
	MaxEntries uint32
	KeyType    *Type
	ValueType  *Type
	Fd         int    // borrowed from the vm; -1 before Load
	CPUs       int    // number of values per key: 1, or the number of possible CPUs
	Bytes      uint64 // kernel memory of the full map; 0 if Load does not create it
}

// MapGet stores the value of a key in the value that into points to. If key is a []byte, into must be a *[]byte and receives
// the bytes of the value. Otherwise both are converted as for VarGet.
func (vm *VM) MapGet(name string, key any, into any) error {
	bytes, ok := key.([]byte)
	if !ok {
		return vm.mapGetJSON(name, key, into)
	}
	data, ok := into.(*[]byte)
	if !ok {
		return &Error{Status: ErrInval, Message: "a key in bytes gives a value in bytes, which needs a *[]byte"}
	}
	info, err := vm.MapFind(name)
	if err != nil {
		return err
	}
	value := make([]byte, info.room())
	_, err = vm.callNamed([]string{name}, func(c *C.eunomia_vm, names texts) C.int {
		return C.eunomia_map_get(c, names.at(0), pointer(bytes), C.size_t(len(bytes)), pointer(value), C.size_t(len(value)))
	})
	if err == nil {
		*data = value
	}
	return err
}

// room returns the size of the values of all CPUs in bytes.
func (info *MapInfo) room() int {
	if info.CPUs == 1 {
		return info.ValueSize
	}
	return (info.ValueSize + 7) / 8 * 8 * info.CPUs
}

func (vm *VM) mapGetJSON(name string, key any, into any) error {
	text, err := json.Marshal(key)
	if err != nil {
		return err
	}
	value, err := vm.callForText([]string{name, string(text)}, func(c *C.eunomia_vm, names texts, out **C.char) C.int {
		return C.eunomia_map_get_json(c, names.at(0), names.at(1), out)
	})
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(value), into)
}

// Flags of MapSet.
const (
	MapAny     = 0 // create or replace
	MapNoExist = 1 // only if the key does not exist
	MapExist   = 2 // only if the key exists
)

// MapSet stores a value for a key. Both must be []byte, or neither.
func (vm *VM) MapSet(name string, key, value any, flags uint64) error {
	keyBytes, keyOK := key.([]byte)
	valueBytes, valueOK := value.([]byte)
	if keyOK && valueOK {
		_, err := vm.callNamed([]string{name}, func(c *C.eunomia_vm, names texts) C.int {
			return C.eunomia_map_set(c, names.at(0), pointer(keyBytes), C.size_t(len(keyBytes)),
				pointer(valueBytes), C.size_t(len(valueBytes)), C.uint64_t(flags))
		})
		return err
	}
	if keyOK != valueOK {
		return &Error{Status: ErrInval, Message: "of key and value, only one is in bytes"}
	}
	keyText, err := json.Marshal(key)
	if err != nil {
		return err
	}
	valueText, err := json.Marshal(value)
	if err != nil {
		return err
	}
	_, err = vm.callNamed([]string{name, string(keyText), string(valueText)}, func(c *C.eunomia_vm, names texts) C.int {
		return C.eunomia_map_set_json(c, names.at(0), names.at(1), names.at(2), C.uint64_t(flags))
	})
	return err
}

// MapDel deletes the entry of a key.
func (vm *VM) MapDel(name string, key any) error {
	if data, ok := key.([]byte); ok {
		_, err := vm.callNamed([]string{name}, func(c *C.eunomia_vm, names texts) C.int {
			return C.eunomia_map_del(c, names.at(0), pointer(data), C.size_t(len(data)))
		})
		return err
	}
	text, err := json.Marshal(key)
	if err != nil {
		return err
	}
	_, err = vm.callNamed([]string{name, string(text)}, func(c *C.eunomia_vm, names texts) C.int {
		return C.eunomia_map_del_json(c, names.at(0), names.at(1))
	})
	return err
}

// MapNext returns the key that follows key, or the first key if key is nil. ErrNotFound follows the last key.
func (vm *VM) MapNext(name string, key []byte) ([]byte, error) {
	size := len(key)
	if key == nil {
		info, err := vm.MapFind(name)
		if err != nil {
			return nil, err
		}
		size = info.KeySize
	}
	next := make([]byte, size)
	_, err := vm.callNamed([]string{name}, func(c *C.eunomia_vm, names texts) C.int {
		return C.eunomia_map_next(c, names.at(0), pointer(key), pointer(next), C.size_t(size))
	})
	if err != nil {
		return nil, err
	}
	return next, nil
}

// MapEach calls fn for each entry, as an event of kind EventMapEntry, and returns their number. See Poll for fn.
func (vm *VM) MapEach(name string, format Format, fn func(*Event) error) (int, error) {
	names, err := cTexts([]string{name})
	if err != nil {
		return 0, err
	}
	defer names.free()
	count, _, err := vm.deliver(fn, func(c *C.eunomia_vm, delivery C.uintptr_t) C.int {
		return C.eunomia_go_map_each(c, names.at(0), C.uint32_t(format), delivery)
	})
	return count, err
}

// MapDump stores all entries in buf, which must be 8-byte aligned for FormatRaw. ErrTooSmall: they need Error.Need bytes.
func (vm *VM) MapDump(name string, format Format, buf []byte) (Batch, error) {
	info, err := vm.MapFind(name)
	if err != nil {
		return Batch{}, err
	}
	names, err := cTexts([]string{name})
	if err != nil {
		return Batch{}, err
	}
	defer names.free()
	found, err := vm.fill(buf, func(c *C.eunomia_vm, found *C.eunomia_batch) C.int {
		return C.eunomia_map_dump(c, names.at(0), C.uint32_t(format), pointer(buf), C.size_t(len(buf)), found)
	})
	batch := Batch{Source: name, Type: info.ValueType, Format: format, Count: int(found.count), Data: buf[:found.len]}
	return batch, err
}

// Maps returns the maps of the package, including those of global variables.
func (vm *VM) Maps() ([]MapInfo, error) {
	return list(func(i int) (MapInfo, error) {
		var info MapInfo
		_, err := vm.call(func(c *C.eunomia_vm) C.int {
			found := C.eunomia_map_info{size: C.sizeof_eunomia_map_info}
			status := C.eunomia_map_at(c, C.int(i), &found)
			return vm.mapInfo(status, &found, &info)
		})
		return info, err
	})
}

// MapFind returns the map called name.
func (vm *VM) MapFind(name string) (MapInfo, error) {
	var info MapInfo
	_, err := vm.callNamed([]string{name}, func(c *C.eunomia_vm, names texts) C.int {
		found := C.eunomia_map_info{size: C.sizeof_eunomia_map_info}
		status := C.eunomia_map_find(c, names.at(0), &found)
		return vm.mapInfo(status, &found, &info)
	})
	return info, err
}

// MapSetMaxEntries sets the capacity of a map: its entries, the bytes of a ring buffer (rounded up to a power of two, at least a page),
// or the pages of an arena. Before Load only.
func (vm *VM) MapSetMaxEntries(name string, count uint32) error {
	_, err := vm.callNamed([]string{name}, func(c *C.eunomia_vm, names texts) C.int {
		return C.eunomia_map_set_max_entries(c, names.at(0), C.uint32_t(count))
	})
	return err
}

func (vm *VM) mapInfo(status C.int, found *C.eunomia_map_info, info *MapInfo) C.int {
	if status >= 0 {
		*info = MapInfo{
			Name: C.GoString(found.name), Kind: uint32(found.kind), KeySize: int(found.key_size),
			ValueSize: int(found.value_size), MaxEntries: uint32(found.max_entries), KeyType: vm.typeOf(found.key_type),
			ValueType: vm.typeOf(found.value_type), Fd: int(found.fd), CPUs: int(found.cpus),
			Bytes: uint64(found.bytes),
		}
	}
	return status
}

// list calls at with 0, 1, 2 and so on until it returns ErrNotFound.
func list[Info any](at func(i int) (Info, error)) ([]Info, error) {
	var all []Info
	for {
		info, err := at(len(all))
		if errors.Is(err, ErrNotFound) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, info)
	}
}

// ---- sources ----

// SourceKind is the kind of a source of events.
type SourceKind uint32

// Kinds of sources.
const (
	SourceRing SourceKind = C.EUNOMIA_SOURCE_RING
	SourcePerf SourceKind = C.EUNOMIA_SOURCE_PERF
	SourceMap  SourceKind = C.EUNOMIA_SOURCE_MAP
)

// LostKnown is the completeness of the number of dropped records.
type LostKnown uint32

// Values of LostKnown.
const (
	LostNotCounted LostKnown = C.EUNOMIA_LOST_NOT_COUNTED // not counted
	LostReported   LostKnown = C.EUNOMIA_LOST_REPORTED    // counted up to the last record of each CPU
	LostAll        LostKnown = C.EUNOMIA_LOST_ALL         // fully counted
)

// SourceInfo describes a source of events.
type SourceInfo struct {
	Name       string
	Kind       SourceKind
	IntervalMS uint32 // of a sampled map
	RecordSize int    // 0 if the package does not specify it
	Type       *Type
	KeyType    *Type
	Events     uint64
	Lost       uint64
	LostKnown  LostKnown // whether Lost is complete; if losses of ring buffers are counted, then for all of them together
}

// Sources describes the sources of events, known once the package is loaded.
func (vm *VM) Sources() ([]SourceInfo, error) {
	return list(func(i int) (SourceInfo, error) {
		var info SourceInfo
		_, err := vm.call(func(c *C.eunomia_vm) C.int {
			found := C.eunomia_source_info{size: C.sizeof_eunomia_source_info}
			status := C.eunomia_source_at(c, C.int(i), &found)
			if status >= 0 {
				info = SourceInfo{
					Name: C.GoString(found.name), Kind: SourceKind(found.kind), IntervalMS: uint32(found.interval_ms),
					RecordSize: int(found.record_size), Type: vm.typeOf(found._type), KeyType: vm.typeOf(found.key_type),
					Events: uint64(found.events), Lost: uint64(found.lost), LostKnown: LostKnown(found.lost_known),
				}
			}
			return status
		})
		return info, err
	})
}

// name converts the name of a source, which usually is that of the previous call. The caller must hold the vm's turn.
func (vm *VM) name(c *C.char) string {
	if text := unsafe.Slice((*byte)(unsafe.Pointer(c)), C.strlen(c)); string(text) != vm.last {
		vm.last = string(text)
	}
	return vm.last
}

// ---- programs ----

// ProgFlag is a bit of ProgInfo.Flags.
type ProgFlag uint32

// Flags of programs.
const (
	ProgAutoload ProgFlag = C.EUNOMIA_PROG_AUTOLOAD // Load loads it
	ProgLoaded   ProgFlag = C.EUNOMIA_PROG_LOADED   // it is in the kernel
	ProgAttached ProgFlag = C.EUNOMIA_PROG_ATTACHED // it is attached
)

// ProgInfo describes a program.
type ProgInfo struct {
	Name     string
	Section  string // ELF section, which names the hook
	Target   string // JSON given to ProgSetTarget
	Type     uint32 // BPF_PROG_TYPE_*
	Flags    ProgFlag
	ID       uint32 // ID in the kernel; 0 before Load
	RunCount uint64 // 0 unless the kernel counts (sysctl kernel.bpf_stats_enabled)
	RunNS    uint64
}

// Progs returns the programs of the package.
func (vm *VM) Progs() ([]ProgInfo, error) {
	return list(func(i int) (ProgInfo, error) {
		var info ProgInfo
		_, err := vm.call(func(c *C.eunomia_vm) C.int {
			found := C.eunomia_prog_info{size: C.sizeof_eunomia_prog_info}
			status := C.eunomia_prog_at(c, C.int(i), &found)
			return progInfo(status, &found, &info)
		})
		return info, err
	})
}

// ProgFind returns the program called name.
func (vm *VM) ProgFind(name string) (ProgInfo, error) {
	var info ProgInfo
	_, err := vm.callNamed([]string{name}, func(c *C.eunomia_vm, names texts) C.int {
		found := C.eunomia_prog_info{size: C.sizeof_eunomia_prog_info}
		status := C.eunomia_prog_find(c, names.at(0), &found)
		return progInfo(status, &found, &info)
	})
	return info, err
}

func progInfo(status C.int, found *C.eunomia_prog_info, info *ProgInfo) C.int {
	if status >= 0 {
		*info = ProgInfo{
			Name: C.GoString(found.name), Section: C.GoString(found.section), Target: C.GoString(found.target),
			Type: uint32(found._type), Flags: ProgFlag(found.flags), ID: uint32(found.id),
			RunCount: uint64(found.run_count), RunNS: uint64(found.run_ns),
		}
	}
	return status
}

// ProgInput is the input of ProgRun.
type ProgInput struct {
	Data    []byte // packet, for XDP and traffic control programs
	Ctx     []byte // context, such as the arguments of a raw tracepoint
	DataOut int    // capacity for the packet after the last run
	CtxOut  int    // capacity for the context after the last run
	Repeat  uint32 // number of runs; 0 is one run
}

// ProgResult is the result of a test run.
type ProgResult struct {
	ReturnValue uint32
	Duration    time.Duration // mean time of one run; 0 if the kernel does not time it
	Data        []byte
	Ctx         []byte
}

// ProgRun runs a loaded program with input from the caller, without its hook. Its side effects are real.
func (vm *VM) ProgRun(name string, in ProgInput) (ProgResult, error) {
	data, ctx := make([]byte, in.DataOut), make([]byte, in.CtxOut)
	var out C.eunomia_prog_result
	_, err := vm.callNamed([]string{name}, func(c *C.eunomia_vm, names texts) C.int {
		return C.eunomia_go_prog_run(c, names.at(0), pointer(in.Data), C.size_t(len(in.Data)),
			pointer(in.Ctx), C.size_t(len(in.Ctx)), pointer(data), C.size_t(len(data)),
			pointer(ctx), C.size_t(len(ctx)), C.uint32_t(in.Repeat), &out)
	})
	if err != nil {
		return ProgResult{}, err
	}
	return ProgResult{
		ReturnValue: uint32(out.return_value), Duration: time.Duration(out.duration_ns),
		Data: left(data, out.data_len), Ctx: left(ctx, out.ctx_len),
	}, nil
}

// left returns the output that a test run stored in a buffer. The kernel reports a size even without a
// buffer.
func left(buffer []byte, size C.size_t) []byte {
	if uint64(size) < uint64(len(buffer)) {
		return buffer[:size]
	}
	return buffer
}

// ProgSetAutoload sets whether Load loads a program.
func (vm *VM) ProgSetAutoload(name string, on bool) error {
	_, err := vm.callNamed([]string{name}, func(c *C.eunomia_vm, names texts) C.int {
		return C.eunomia_prog_set_autoload(c, names.at(0), flag(on))
	})
	return err
}

// ProgSetTarget sets what a program attaches to: an object with the keys of progs[] in the package, or a list of these.
func (vm *VM) ProgSetTarget(name string, target any) error {
	text, err := json.Marshal(target)
	if err != nil {
		return err
	}
	_, err = vm.callNamed([]string{name, string(text)}, func(c *C.eunomia_vm, names texts) C.int {
		return C.eunomia_prog_set_target_json(c, names.at(0), names.at(1))
	})
	return err
}

// ---- statistics ----

// Stats are the event counters. Every record is either delivered or counted in one of the drop counters. See eunomia_stats.
type Stats struct {
	Events, Bytes                                  uint64
	LostKernel, LostQueue, GuestDropped, Malformed uint64
	Polls, Replaces, RunCount, RunNS               uint64
	LostKnown                                      LostKnown // about LostKernel
}

// Stats returns the event counters. It does not wait for other calls.
func (vm *VM) Stats() (Stats, error) {
	if err := vm.hold(); err != nil {
		return Stats{}, err
	}
	defer vm.release()
	found := C.eunomia_stats{size: C.sizeof_eunomia_stats}
	if status := C.eunomia_stats_get(vm.c, &found); status < 0 {
		return Stats{}, &Error{Status: Status(status), Message: "there are no statistics"}
	}
	return Stats{
		Events: uint64(found.events), Bytes: uint64(found.bytes), LostKernel: uint64(found.lost_kernel),
		LostQueue: uint64(found.lost_queue), GuestDropped: uint64(found.guest_dropped),
		Malformed: uint64(found.malformed), Polls: uint64(found.polls), Replaces: uint64(found.replaces),
		RunCount: uint64(found.run_count), RunNS: uint64(found.run_ns), LostKnown: LostKnown(found.lost_known),
	}, nil
}
