"""Life cycle: exceptions in callbacks, signals, use after close, threads, fork, interpreter shutdown."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time
import traceback
import unittest
from collections.abc import Callable

from host import PACKAGES, descriptors, python, resident_kb, running, trigger

import eunomia
from eunomia import Error, Event, Format, Status

# Seconds; far longer than any test takes, so only a hang reaches it.
PATIENCE = 60


class Callbacks(unittest.TestCase):
    def test_the_delivering_call_raises_and_no_event_is_lost(self) -> None:
        def fail(event: Event) -> None:
            raise LookupError(event.json().get("seq"))

        with running() as vm:
            trigger(vm, 3)
            for seq in (0, 1):
                try:
                    vm.poll(fail)
                except LookupError as error:
                    self.assertEqual(error.args, (seq,))
                    self.assertIn("in fail", traceback.format_exc())
                else:
                    self.fail("nothing was raised")
            self.assertEqual(vm.poll(lambda _: None), 1)
            vm.map_set("counts", 1, 1)
            self.assertRaises(LookupError, vm.map_each, "counts", fail)

    def test_an_exception_in_a_guests_callback_is_raised(self) -> None:
        def fail(_: Event) -> None:
            raise SystemExit(7)

        with eunomia.VM() as vm:
            vm.open_file(PACKAGES / "hello.wasm")
            self.assertRaises(SystemExit, vm.wasm_run, ["guest"], fail)

    def test_an_exception_in_the_log_goes_to_the_unraisable_hook(self) -> None:
        code = (
            "import eunomia, host\n"
            "def fail(level, line): raise LookupError(line)\n"
            "host.running(log=fail, log_level=eunomia.LogLevel.DEBUG).close(); print('went on')"
        )
        found = python(code)
        self.assertEqual((found.returncode, found.stdout), (0, "went on\n"), found.stderr)
        self.assertIn("LookupError", found.stderr)

    def test_a_callback_may_use_the_vm_but_not_poll(self) -> None:
        seen: list[object] = []

        def use(event: Event) -> None:
            vm.var_set("bonus", 1000)
            seen.append(vm.var_get("bonus"))
            with self.assertRaises(Error) as caught:
                vm.poll(lambda _: None)
            seen.append(caught.exception.status)

        with running() as vm:
            trigger(vm, 1)
            vm.poll(use)
        self.assertEqual(seen, [1000, Status.ERR_BUSY])

    def test_a_stop_of_another_vm_is_an_exception_of_the_callback(self) -> None:
        with running() as vm, running() as other:
            trigger(vm, 1)
            other.stop()
            with self.assertRaises(Error) as caught:
                vm.run(lambda _: bool(other.poll(print)))
        self.assertEqual(caught.exception.status, Status.ERR_STOPPED)

    def test_a_guest_does_not_run_inside_a_callback(self) -> None:
        """Runs in its own process, which a deadlock would keep from exiting."""
        code = (
            "import eunomia, host\n"
            "def again(event): vm.wasm_run(['guest'])\n"
            "vm = host.running()\n"
            "host.trigger(vm, 1)\n"
            "try: vm.poll(again)\n"
            "except eunomia.Error as error: print(error.status.name)\n"
            "vm = eunomia.VM()\n"
            "vm.open_file(host.PACKAGES / 'hello.wasm')\n"
            "try: vm.wasm_run(['guest'], again)\n"
            "except eunomia.Error as error: print(error.status.name)\n"
            "print(vm.wasm_run(['guest']))\n"
        )
        found = python(code)
        self.assertEqual((found.returncode, found.stdout), (0, "ERR_BUSY\nERR_BUSY\n5\n"), found.stderr)

    def test_a_vm_closed_in_a_callback_ends_with_the_poll(self) -> None:
        vm = running()
        before = descriptors()
        trigger(vm, 3)
        seen = []

        def close(event: Event) -> None:
            seen.append(event)
            vm.close()

        vm.poll(close)
        self.assertEqual(len(seen), 1)
        self.assertLess(descriptors(), before)
        self.assertRaises(Error, vm.poll, close)


class Signals(unittest.TestCase):
    def test_ctrl_c_ends_a_waiting_poll(self) -> None:
        for wait in (lambda vm: vm.poll(print), lambda vm: list(vm.events()), lambda vm: vm.read_array()):
            with running() as vm:
                timer = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT])
                timer.start()
                self.assertRaises(KeyboardInterrupt, wait, vm)
                timer.join()
                trigger(vm, 1)
                self.assertEqual(vm.poll(lambda _: None), 1)

    def test_ctrl_c_ends_a_guest_in_a_loop(self) -> None:
        with eunomia.VM() as vm:
            vm.open_file(PACKAGES / "loop.wasm")
            timer = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT])
            timer.start()
            self.assertRaises(KeyboardInterrupt, vm.wasm_run, ["guest"])
            timer.join()

    def test_an_exception_of_a_signal_handler_is_never_lost(self) -> None:
        """The signal may arrive anywhere: in C, before the first line of a callback, or in it."""
        fired = 0

        def handler(*_: object) -> None:
            nonlocal fired
            fired += 1
            raise TimeoutError

        def no_more(*_: object) -> None:
            raise AssertionError("an exception was lost")

        previous = signal.signal(signal.SIGALRM, handler)
        self.addCleanup(signal.signal, signal.SIGALRM, previous)
        before = descriptors()
        with running() as vm:
            vm.var_set("burst", 100)
            for round in range(300):
                with self.assertRaises(TimeoutError):
                    signal.setitimer(signal.ITIMER_REAL, 0.0005 + round * 1e-6)
                    while fired == round:
                        os.getpgid(0)
                        vm.poll(lambda _: None, Format.RAW, timeout=0)
                    no_more()
            # No lock is left held, wherever the signal arrived.
            other = threading.Thread(target=vm.var_get, args=["burst"], daemon=True)
            other.start()
            other.join(PATIENCE)
            self.assertFalse(other.is_alive())
        del vm, other
        gc.collect()
        self.assertEqual(descriptors(), before)

    def test_stop_works_in_a_signal_handler(self) -> None:
        with running() as vm:
            previous = signal.signal(signal.SIGALRM, lambda *_: vm.stop())
            self.addCleanup(signal.signal, signal.SIGALRM, previous)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            vm.run(lambda _: None)


class Ends(unittest.TestCase):
    def test_a_closed_vm_raises_state_errors(self) -> None:
        vm = running()
        vm.close()
        vm.close()
        uses: list[Callable[[], object]] = [
            vm.load,
            vm.stop,
            vm.stats,
            vm.fileno,
            vm.describe,
            lambda: next(vm.events()),
            lambda: vm.poll(print),
        ]
        for use in uses:
            with self.assertRaises(Error) as caught:
                use()
            self.assertIs(caught.exception.status, Status.ERR_STATE)
            self.assertEqual(caught.exception.message, "the vm is closed")

    def test_types_and_events_outlive_their_vm(self) -> None:
        with running() as vm:
            trigger(vm, 2)
            kept: list[Event] = []
            vm.poll(kept.append, Format.RAW)
            trigger(vm, 2)
            batch = vm.read(Format.RAW)
            source = vm.sources()[0]
        assert batch is not None and source.type is not None and kept[0].type is not None
        self.assertEqual(len(list(batch.records())), 2)
        self.assertEqual(source.type.fields, kept[0].type.fields)

    def test_close_ends_waits_in_other_threads(self) -> None:
        before = descriptors()
        for _ in range(20):
            vm = running()
            ends: list[Error] = []

            def wait(vm: eunomia.VM = vm, ends: list[Error] = ends) -> None:
                try:
                    vm.poll(lambda _: None)
                except Error as error:
                    ends.append(error)

            threads = [threading.Thread(target=wait) for _ in range(3)]
            for thread in threads:
                thread.start()
            vm.close()
            for thread in threads:
                thread.join(PATIENCE)
                self.assertFalse(thread.is_alive())
            self.assertEqual(len(ends), 3)
            self.assertLessEqual({end.status for end in ends}, {Status.ERR_STATE, Status.ERR_STOPPED})
        self.assertEqual(descriptors(), before)

    def test_close_under_constant_use(self) -> None:
        for _ in range(20):
            vm = running()

            def use(vm: eunomia.VM = vm) -> None:
                with contextlib.suppress(Error):
                    while True:
                        trigger(vm, 3)
                        vm.poll(lambda _: None, timeout=0)
                        vm.stats()

            threads = [threading.Thread(target=use) for _ in range(3)]
            for thread in threads:
                thread.start()
            time.sleep(0.002)
            vm.close()
            for thread in threads:
                thread.join(PATIENCE)
                self.assertFalse(thread.is_alive())

    def test_a_forgotten_vm_is_freed(self) -> None:
        gc.collect()
        before = descriptors()
        running()
        self.assertEqual(descriptors(), before)

    def test_the_garbage_collector_frees_nothing_in_use(self) -> None:
        threshold = gc.get_threshold()
        self.addCleanup(gc.set_threshold, *threshold)
        gc.set_threshold(1)
        lines: list[str] = []
        seen: list[Event] = []
        vms = [running(log=lambda _, line: lines.append(line)) for _ in range(3)]
        for vm in vms:
            vm.var_set("burst", 20)
        for _ in range(20):
            for vm in vms:
                os.getpgid(0)  # each vm sends its burst
                while vm.poll(lambda event: seen.append(event), timeout=0):
                    cycle: list[object] = []
                    cycle.append(cycle)
        for vm in vms:
            vm.close()
        # Events of the last calls are still unread: 20 in the first vm, 40 in the next ...
        self.assertEqual(len(seen) + 20 * (2 + 1), 3 * 3 * 20 * 20)

    def test_many_life_cycles_leak_nothing(self) -> None:
        def live(count: int) -> None:
            for _ in range(count):
                with running("perf.json") as vm:
                    trigger(vm, 2)
                    vm.poll(lambda _: None)
                    self.assertRaises(Error, vm.load)

        live(20)
        gc.collect()
        before = descriptors(), resident_kb()
        live(60)
        gc.collect()
        self.assertEqual(descriptors(), before[0])
        self.assertLessEqual(resident_kb(), before[1] + 1024)

    def test_a_forked_child_closes_and_the_parent_continues(self) -> None:
        with running() as vm:
            child = os.fork()
            if child == 0:
                code = 1
                with contextlib.suppress(BaseException):
                    try:
                        vm.poll(print, timeout=0)
                    except Error as error:
                        code = 0 if "after fork" in error.message else 2
                    vm.close()
                    vm.close()
                os._exit(code)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
            trigger(vm, 2)
            self.assertEqual(vm.poll(lambda _: None), 2)

    def test_a_child_forked_during_a_wait_closes(self) -> None:
        with running() as vm:
            waiting = threading.Thread(target=lambda: list(vm.events()))
            waiting.start()
            child = os.fork()
            if child == 0:
                vm.close()
                os._exit(0)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
            vm.stop()
            waiting.join(PATIENCE)
            self.assertFalse(waiting.is_alive())


class Interpreters(unittest.TestCase):
    def check(self, code: str) -> None:
        found = python(code)
        self.assertEqual((found.returncode, found.stdout, found.stderr), (0, "done\n", ""))

    def test_exit_with_a_live_vm(self) -> None:
        self.check("import host; vm = host.running(); print('done')")

    def test_exit_with_a_vm_in_a_reference_cycle(self) -> None:
        self.check("import host; vm = host.running(); vm.me = vm; print('done')")

    def test_exit_while_a_daemon_thread_waits(self) -> None:
        self.check(
            "import host, threading, time; vm = host.running()\n"
            "def wait():\n"
            "    try: vm.run(lambda event: None)\n"
            "    except host.eunomia.Error: pass\n"
            "threading.Thread(target=wait, daemon=True).start(); time.sleep(0.1); print('done')"
        )

    def test_exit_while_a_daemon_thread_is_in_a_callback(self) -> None:
        self.check(
            "import host, threading, time; vm = host.running(); inside = threading.Event()\n"
            "def callback(event): inside.set(); time.sleep(0.2)\n"
            "def wait():\n"
            "    try: vm.run(callback)\n"
            "    except host.eunomia.Error: pass\n"
            "threading.Thread(target=wait, daemon=True).start()\n"
            "host.trigger(vm, 50); inside.wait(); print('done')"
        )

    def test_a_missing_library_is_reported_with_the_searched_paths(self) -> None:
        found = python("import eunomia", EUNOMIA_LIBRARY="/nowhere/libeunomia.so")
        self.assertIn("ImportError: libeunomia cannot be loaded", found.stderr)
        self.assertIn("/nowhere/libeunomia.so: cannot open shared object file", found.stderr)
        found = python("import eunomia", EUNOMIA_LIBRARY="", LD_LIBRARY_PATH="/somewhere/else")
        self.assertIn("/eunomia/libeunomia.so: cannot open", found.stderr)
        self.assertIn("libeunomia.so.0.", found.stderr)
        self.assertIn('LD_LIBRARY_PATH="/somewhere/else"', found.stderr)
        self.assertNotEqual(found.returncode, 0)

    def test_a_library_of_another_version_is_refused(self) -> None:
        found = python("import eunomia", EUNOMIA_LIBRARY=os.environ["EUNOMIA_TEST_OTHER_VERSION"])
        self.assertIn("is libeunomia 0.2.7, this package is for 0.1.", found.stderr)
        found = python("import eunomia", EUNOMIA_LIBRARY="libm.so.6")
        self.assertIn("ImportError: libm.so.6 is not libeunomia: it has no eunomia_version", found.stderr)

    def test_numpy_is_needed_only_for_arrays(self) -> None:
        code = (
            "import sys; sys.modules['numpy'] = None; import host; vm = host.running(); host.trigger(vm, 2)\n"
            "assert len(list(vm.events(timeout=0))) == 2; host.trigger(vm, 2)\n"
            "try: vm.read_array()\n"
            "except ImportError as error: print('done')"
        )
        self.check(code)


if __name__ == "__main__":
    unittest.main()
