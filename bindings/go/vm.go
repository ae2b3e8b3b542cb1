package eunomia

// #include <poll.h>
// #include <stdlib.h>
// #include "callback.h"
import "C"

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/cgo"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Kind is a set of package kinds.
type Kind uint32

// Package kinds.
const (
	KindJSON Kind = C.EUNOMIA_KIND_JSON
	KindWASM Kind = C.EUNOMIA_KIND_WASM
	KindAny  Kind = C.EUNOMIA_KIND_ANY
)

// LogLevel is the severity of a log line.
type LogLevel uint32

// Log levels.
const (
	LogError LogLevel = C.EUNOMIA_LOG_ERROR
	LogWarn  LogLevel = C.EUNOMIA_LOG_WARN
	LogInfo  LogLevel = C.EUNOMIA_LOG_INFO
	LogDebug LogLevel = C.EUNOMIA_LOG_DEBUG
)

// OptionFlag is a flag of Options.Flags.
type OptionFlag uint32

// Option flags, see eunomia.h.
const (
	WasmRawEvents OptionFlag = C.EUNOMIA_WASM_RAW_EVENTS
	WasmStdio     OptionFlag = C.EUNOMIA_WASM_STDIO
	// SkipMissingHooks skips a program whose hook (function or tracepoint) does not exist, provided that another
	// program of the package can be attached. Each cause is logged.
	SkipMissingHooks OptionFlag = C.EUNOMIA_SKIP_MISSING_HOOKS
	// LibbpfSections keeps libbpf's own handlers of the sections fentry, fexit, fmod_ret, fsession, tp_btf and
	// iter, with which packages load more slowly. Set it for every vm of the process.
	LibbpfSections OptionFlag = C.EUNOMIA_LIBBPF_SECTIONS
	// Replaceable attaches each tracing program that supports it through a dispatcher, so that Replace can
	// replace it.
	Replaceable OptionFlag = C.EUNOMIA_REPLACEABLE
)

// ReplaceFlag is a flag of Replace.
type ReplaceFlag uint32

// Flags of Replace, see eunomia.h.
const (
	ReplaceFreshMaps    ReplaceFlag = C.EUNOMIA_REPLACE_FRESH_MAPS    // start with empty maps
	ReplaceStrictMaps   ReplaceFlag = C.EUNOMIA_REPLACE_STRICT_MAPS   // fail if a map cannot keep its content
	ReplaceFreshVars    ReplaceFlag = C.EUNOMIA_REPLACE_FRESH_VARS    // use the values of the new version for variables
	ReplaceOrdered      ReplaceFlag = C.EUNOMIA_REPLACE_ORDERED       // deliver all events of the old version first
	ReplaceKeepOld      ReplaceFlag = C.EUNOMIA_REPLACE_KEEP_OLD      // keep the old version until Commit or Rollback
	ReplaceMigrate      ReplaceFlag = C.EUNOMIA_REPLACE_MIGRATE_MAPS  // copy entries of maps that have grown
	ReplaceCarryData    ReplaceFlag = C.EUNOMIA_REPLACE_CARRY_DATA    // variables keep their values
	ReplaceAllowOverlap ReplaceFlag = C.EUNOMIA_REPLACE_ALLOW_OVERLAP // both versions handle some events where the switch cannot be exact
	ReplaceAllowGap     ReplaceFlag = C.EUNOMIA_REPLACE_ALLOW_GAP     // lose some events where the switch cannot be exact
)

// Options are the options of a new vm. Zero values are the defaults. eunomia_options in eunomia.h describes them.
type Options struct {
	// Log receives one line per call, from any goroutine that uses the vm. It must not use the vm. A panic passes through
	// the call that logged the line.
	Log          func(level LogLevel, line string)
	LogLevel     LogLevel
	Flags        OptionFlag
	BTFPath      string
	PinPath      string
	PerfPages    uint32
	PollBudget   uint32
	WasmStack    uint32
	WasmHeap     uint32
	WasmMemory   uint32
	WasmBudgetMS uint32
	WasmDirs     []string
	// MaxKernelMemory is in bytes. 0: a quarter of the available memory, and at most 1 GiB or 16 MiB per possible CPU,
	// whichever is more. math.MaxUint64: no limit.
	MaxKernelMemory uint64
}

// VM is a handle to one eBPF package. It has a linear life cycle: New, Open, configuration, Load, Attach, Poll, Close.
type VM struct {
	c   *C.eunomia_vm
	log cgo.Handle
	// After Close, the last call to return frees the vm.
	life   sync.Mutex
	users  int
	closed atomic.Bool
	// Held during each call and until its error has been read; released while a callback runs.
	turn sync.Mutex
	// Held while a call changes versions, and until its report has been read.
	replacing sync.Mutex
	logger    *logger
	types     map[*C.eunomia_type]*Type
	last      string // name of the source of the last batch
	// Whether Stop was called. If a wait was stopped without that, its context had ended.
	stopped atomic.Bool
}

// New creates an empty vm. If options is nil, all have their defaults.
func New(options *Options) (*VM, error) {
	if found := uint32(C.eunomia_version()); found/100 != C.EUNOMIA_VERSION_NUM/100 {
		text := "the library is %s, this package was built for %d.%d"
		return nil, &Error{Status: ErrUnsupported, Message: fmt.Sprintf(text, LibraryVersion(),
			C.EUNOMIA_VERSION_MAJOR, C.EUNOMIA_VERSION_MINOR)}
	}
	if options == nil {
		options = &Options{}
	}
	copies, err := cTexts(append([]string{options.BTFPath, options.PinPath}, options.WasmDirs...))
	if err != nil {
		return nil, err
	}
	defer copies.free()

	vm := &VM{logger: &logger{log: options.Log}, types: map[*C.eunomia_type]*Type{}}
	vm.log = cgo.NewHandle(vm.logger)
	c := C.eunomia_options{
		log_level: C.uint32_t(options.LogLevel), flags: C.uint32_t(options.Flags),
		btf_path: copies.or(0), pin_path: copies.or(1),
		perf_pages: C.uint32_t(options.PerfPages), poll_budget: C.uint32_t(options.PollBudget),
		wasm_stack: C.uint32_t(options.WasmStack), wasm_heap: C.uint32_t(options.WasmHeap),
		wasm_memory: C.uint32_t(options.WasmMemory), wasm_budget_ms: C.uint32_t(options.WasmBudgetMS),
		max_kernel_memory: C.uint64_t(options.MaxKernelMemory),
	}
	if len(options.WasmDirs) > 0 {
		c.wasm_dirs = copies.from(2)
	}
	if status := C.eunomia_go_new(&vm.c, &c, C.uintptr_t(vm.log)); status < 0 {
		vm.log.Delete()
		return nil, &Error{Status: Status(status), Message: vm.logger.last} // without a vm, only the log has the reason
	}
	runtime.SetFinalizer(vm, (*VM).Close)
	return vm, nil
}

// LibraryVersion returns one human-readable line: the versions of the library, of its libbpf and WAMR, and the build.
func LibraryVersion() string {
	return C.GoString(C.eunomia_version_string())
}

// Close detaches and unloads the package and frees the vm. It may be called several times, from any goroutine and from a
// callback. Calls that wait return ErrState or ErrStopped, and the last of them frees the vm. Close returns nil.
func (vm *VM) Close() error {
	vm.life.Lock()
	defer vm.life.Unlock()
	if !vm.closed.Swap(true) {
		vm.stopOrFree()
	}
	return nil
}

// hold prevents the vm from being freed until release is called.
func (vm *VM) hold() error {
	vm.life.Lock()
	defer vm.life.Unlock()
	if vm.closed.Load() {
		return &Error{Status: ErrState, Message: "the vm is closed"}
	}
	vm.users++
	return nil
}

func (vm *VM) release() {
	vm.life.Lock()
	defer vm.life.Unlock()
	vm.users--
	if vm.closed.Load() {
		vm.stopOrFree()
	}
}

// stopOrFree frees a closed vm. If calls are in progress it wakes one of them, and each that returns wakes the next.
func (vm *VM) stopOrFree() {
	if vm.users > 0 {
		C.eunomia_stop(vm.c)
		return
	}
	runtime.SetFinalizer(vm, nil)
	C.eunomia_destroy(vm.c)
	vm.log.Delete()
}

// call calls a C function, one goroutine at a time, and converts a negative result into an error.
func (vm *VM) call(function func(c *C.eunomia_vm) C.int) (int, error) {
	if err := vm.hold(); err != nil {
		return 0, err
	}
	defer vm.release()
	vm.turn.Lock()
	defer vm.turn.Unlock()
	// The thread that fails gets the error.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	status := function(vm.c)
	vm.logger.raise()
	if status < 0 {
		return 0, vm.failure(status)
	}
	return int(status), nil
}

// callNamed is call for a function that takes strings.
func (vm *VM) callNamed(names []string, function func(c *C.eunomia_vm, names texts) C.int) (int, error) {
	copies, err := cTexts(names)
	if err != nil {
		return 0, err
	}
	defer copies.free()
	return vm.call(func(c *C.eunomia_vm) C.int { return function(c, copies) })
}

// callForText is callNamed for a function that returns a borrowed string.
func (vm *VM) callForText(names []string, function func(c *C.eunomia_vm, names texts, out **C.char) C.int) (string, error) {
	var text string
	_, err := vm.callNamed(names, func(c *C.eunomia_vm, names texts) C.int {
		var out *C.char
		status := function(c, names, &out)
		if status >= 0 {
			text = C.GoString(out)
		}
		return status
	})
	return text, err
}

// ---- package ----

// Open opens a package from memory and returns its kind. kinds are the kinds that the caller accepts.
func (vm *VM) Open(data []byte, kinds Kind) (Kind, error) {
	kind, err := vm.call(func(c *C.eunomia_vm) C.int {
		return C.eunomia_open(c, pointer(data), C.size_t(len(data)), C.uint32_t(kinds))
	})
	return Kind(kind), err
}

// OpenFile opens the package in a file. See Open.
func (vm *VM) OpenFile(path string, kinds Kind) (Kind, error) {
	kind, err := vm.callNamed([]string{path}, func(c *C.eunomia_vm, names texts) C.int {
		return C.eunomia_open_file(c, names.at(0), C.uint32_t(kinds))
	})
	return Kind(kind), err
}

// OpenObject opens a compiled BPF object. meta is its metadata (*.skel.json), or "" to use the object's BTF alone.
func (vm *VM) OpenObject(elf []byte, meta string) (Kind, error) {
	kind, err := vm.callNamed([]string{meta}, func(c *C.eunomia_vm, names texts) C.int {
		return C.eunomia_open_object(c, pointer(elf), C.size_t(len(elf)), names.or(0))
	})
	return Kind(kind), err
}

// Load creates the maps and loads the programs into the kernel.
func (vm *VM) Load() error {
	_, err := vm.call(func(c *C.eunomia_vm) C.int { return C.eunomia_load(c) })
	return err
}

// Attach attaches all programs. It loads them first if they are not loaded.
func (vm *VM) Attach() error {
	_, err := vm.call(func(c *C.eunomia_vm) C.int { return C.eunomia_attach(c) })
	return err
}

// Detach detaches all programs. Maps and variables remain, and Attach may be called again.
func (vm *VM) Detach() error {
	_, err := vm.call(func(c *C.eunomia_vm) C.int { return C.eunomia_detach(c) })
	return err
}

// Describe returns a description of the package as JSON. eunomia.h lists the keys.
func (vm *VM) Describe() (json.RawMessage, error) {
	text, err := vm.callForText(nil, func(c *C.eunomia_vm, _ texts, out **C.char) C.int {
		return C.eunomia_describe(c, out, nil)
	})
	return json.RawMessage(text), err
}

// ---- variables and arguments ----

// VarSet sets a global variable. Constants can be set before Load only.
func (vm *VM) VarSet(name string, value any) error {
	if data, ok := value.([]byte); ok {
		_, err := vm.callNamed([]string{name}, func(c *C.eunomia_vm, names texts) C.int {
			return C.eunomia_var_set(c, names.at(0), pointer(data), C.size_t(len(data)))
		})
		return err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	_, err = vm.callNamed([]string{name, string(text)}, func(c *C.eunomia_vm, names texts) C.int {
		return C.eunomia_var_set_json(c, names.at(0), names.at(1))
	})
	return err
}

// VarGet stores the current value of a variable in the value that into points to: its bytes in a []byte, any other value as
// json.Unmarshal does.
func (vm *VM) VarGet(name string, into any) error {
	if data, ok := into.(*[]byte); ok {
		return vm.varGetBytes(name, data)
	}
	text, err := vm.callForText([]string{name}, func(c *C.eunomia_vm, names texts, out **C.char) C.int {
		return C.eunomia_var_get_json(c, names.at(0), out)
	})
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), into)
}

func (vm *VM) varGetBytes(name string, into *[]byte) error {
	var data []byte
	_, err := vm.callNamed([]string{name}, func(c *C.eunomia_vm, names texts) C.int {
		var size C.size_t
		status := C.eunomia_var_get(c, names.at(0), nil, &size)
		if status == C.EUNOMIA_ERR_TOO_SMALL {
			data = make([]byte, size)
			status = C.eunomia_var_get(c, names.at(0), pointer(data), &size)
		}
		return status
	})
	if err == nil {
		*into = data
	}
	return err
}

// ArgsSet sets variables from a command line. argv[0] is the program's name. It returns true if the command line asks for
// help or the version, which ArgsHelp then returns.
func (vm *VM) ArgsSet(argv []string) (bool, error) {
	help, err := vm.callNamed(argv, func(c *C.eunomia_vm, names texts) C.int {
		return C.eunomia_args_set(c, C.int(len(argv)), names.from(0))
	})
	return help == 1, err
}

// ArgsHelp returns the help text of the package, or the version if the last ArgsSet asked for that.
func (vm *VM) ArgsHelp() (string, error) {
	return vm.callForText(nil, func(c *C.eunomia_vm, _ texts, out **C.char) C.int {
		return C.eunomia_args_help(c, out)
	})
}

// ---- other goroutines ----

// Fd returns a descriptor for the host's own event loop. It is readable when a Poll with timeout 0 has something to do. -1
// after Close.
func (vm *VM) Fd() int {
	if vm.hold() != nil {
		return -1
	}
	defer vm.release()
	return int(C.eunomia_epoll_fd(vm.c))
}

// Stop ends the call that waits for events, or else the next one, with ErrStopped.
func (vm *VM) Stop() {
	if vm.hold() != nil {
		return
	}
	defer vm.release()
	vm.stopped.Store(true)
	C.eunomia_stop(vm.c)
}

// Pause pauses or resumes delivery. While it is paused, records stay in the kernel's buffers.
func (vm *VM) Pause(on bool) error {
	if err := vm.hold(); err != nil {
		return err
	}
	defer vm.release()
	C.eunomia_pause(vm.c, flag(on))
	return nil
}

// QueueStart starts a thread that reads the kernel's buffers into a queue of maxBytes while the host is busy.
func (vm *VM) QueueStart(maxBytes uint64) error {
	_, err := vm.call(func(c *C.eunomia_vm) C.int { return C.eunomia_queue_start(c, C.size_t(maxBytes)) })
	return err
}

// QueueStop stops that thread. Queued events are still delivered.
func (vm *VM) QueueStop() error {
	_, err := vm.call(func(c *C.eunomia_vm) C.int { return C.eunomia_queue_stop(c) })
	return err
}

// ---- values for C ----

// texts are C strings copied from Go strings, with NULL at the end.
type texts []*C.char

func cTexts(all []string) (texts, error) {
	for _, text := range all {
		for i := range text {
			if text[i] == 0 {
				return nil, &Error{Status: ErrInval, Message: fmt.Sprintf("%q has a NUL in it", text)}
			}
		}
	}
	// Allocated by C, because it holds pointers that C follows.
	size := C.size_t(len(all)+1) * C.size_t(unsafe.Sizeof((*C.char)(nil)))
	copies := unsafe.Slice((**C.char)(C.malloc(size)), len(all)+1)
	for i, text := range all {
		copies[i] = C.CString(text)
	}
	copies[len(all)] = nil
	return copies, nil
}

func (t texts) free() {
	for _, text := range t {
		C.free(unsafe.Pointer(text))
	}
	C.free(unsafe.Pointer(&t[0]))
}

func (t texts) at(i int) *C.char { return t[i] }

// or returns string i, or NULL if it is empty.
func (t texts) or(i int) *C.char {
	if *t[i] == 0 {
		return nil
	}
	return t[i]
}

func (t texts) from(i int) **C.char { return &t[i] }

func pointer(data []byte) unsafe.Pointer {
	if len(data) == 0 {
		return nil
	}
	return unsafe.Pointer(&data[0])
}

func flag(on bool) C.int {
	if on {
		return 1
	}
	return 0
}
