"""Each function of the binding: arguments and results. The conformance scenarios check the behaviour."""

from __future__ import annotations

import asyncio
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
from typing import Any

from host import PACKAGES, next_package, replaceable, running, trigger

import eunomia
from eunomia import Error, Event, EventKind, Format, Kind, ReplaceFlag, Status, TypeKind


class Groups(unittest.TestCase):
    def test_one_call_polls_many_vms(self) -> None:
        with eunomia.Group() as group, running() as one, running() as other:
            counts: dict[eunomia.VM, int] = {one: 0, other: 0}

            def count(vm: eunomia.VM, event: Event) -> None:
                counts[vm] += event.kind == EventKind.SAMPLE

            def fail(_: eunomia.VM, __: Event) -> None:
                raise ZeroDivisionError

            group.add(one)
            group.add(other)
            with self.assertRaises(Error) as caught:
                group.add(one)
            self.assertIs(caught.exception.status, Status.ERR_STATE)
            other.var_set("burst", 3)
            trigger(one, 2)
            self.assertEqual(group.poll(count), 5)
            self.assertEqual(counts, {one: 2, other: 3})
            self.assertEqual(group.poll(count, timeout=0), 0)
            trigger(one, 1)
            with self.assertRaises(ZeroDivisionError):
                group.poll(fail)
            self.assertEqual(group.poll(lambda vm, event: True, Format.RAW), 1)
            other.stop()
            with self.assertRaises(Error) as caught:
                while True:
                    group.poll(count)
            self.assertIs(caught.exception.status, Status.ERR_STOPPED)
            self.assertIs(group.failed, other)
            group.add(other)
            group.remove(one)
            with self.assertRaises(Error) as caught:
                group.remove(one)
            self.assertIs(caught.exception.status, Status.ERR_NOT_FOUND)

    def test_a_callback_may_close_its_vm(self) -> None:
        with eunomia.Group() as group, running() as vm:
            group.add(vm)
            trigger(vm, 3)
            self.assertEqual(group.poll(lambda vm, event: vm.close()), 1)
            self.assertEqual(group.poll(lambda vm, event: None, timeout=0), 0)
            with self.assertRaises(Error):
                vm.maps()

    def test_a_stop_ends_a_waiting_poll(self) -> None:
        with eunomia.Group() as group:
            timer = threading.Timer(0.02, group.stop)
            timer.start()
            with self.assertRaises(Error) as caught:
                group.poll(lambda vm, event: None)
            self.assertIs(caught.exception.status, Status.ERR_STOPPED)
            self.assertIsNone(group.failed)
            timer.join()
        with self.assertRaises(Error):
            group.stop()


class Variables(unittest.TestCase):
    def test_values_are_json_and_bytes_are_bytes(self) -> None:
        with running() as vm:
            vm.var_set("pair", {"left": -5, "right": 6})
            self.assertEqual(vm.var_get("pair"), {"left": -5, "right": 6})
            self.assertEqual(struct.unpack("=iHxx", vm.var_get_bytes("pair")), (-5, 6))
            vm.var_set("bonus", struct.pack("=Q", 2**64 - 1))
            self.assertEqual(vm.var_get("bonus"), 2**64 - 1)
            vm.var_set("text", "größe")
            self.assertEqual(vm.var_get("text"), "größe")

    def test_an_error_has_status_message_and_text(self) -> None:
        with running() as vm, self.assertRaises(Error) as caught:
            vm.var_set("small", 70000)
        error = caught.exception
        self.assertIs(error.status, Status.ERR_TYPE)
        self.assertEqual(error.message, 'variable "small": 70000 does not fit u16')
        self.assertEqual(str(error), f"{error.message} (EUNOMIA_ERR_TYPE)")
        self.assertEqual((error.detail, error.errno, error.need), ("", 0, 0))

    def test_errors_are_also_the_matching_builtin_exceptions(self) -> None:
        with running() as vm:
            for missing in (lambda: vm.var_get("none"), lambda: vm.map_find("none"), lambda: vm.prog_find("none")):
                with self.assertRaises(KeyError) as caught:
                    missing()
                self.assertIsInstance(caught.exception, eunomia.NotFoundError)
                self.assertIn("none", str(caught.exception))
            with self.assertRaises(ValueError) as value:
                vm.var_set("small", 70000)
            self.assertIsInstance(value.exception, eunomia.InvalidError)
        with eunomia.VM() as vm:
            with self.assertRaises(FileNotFoundError) as file:
                vm.open_file("/none/package.json")
            self.assertIsInstance(file.exception, Error)
            self.assertEqual(file.exception.errno, 2)
            # The errno text in the message is not repeated.
            self.assertEqual(str(file.exception).count("No such file or directory"), 1)
            self.assertTrue(str(file.exception).startswith("/none/package.json: "), str(file.exception))
            self.assertEqual(
                repr(file.exception),
                f"MissingFileError(EUNOMIA_ERR_NOT_FOUND, {file.exception.args[1]!r})",
            )
            again = pickle.loads(pickle.dumps(file.exception))
            self.assertEqual((type(again), again.args), (eunomia.MissingFileError, file.exception.args))
            with self.assertRaises(Error) as state:
                vm.attach()
            self.assertIs(type(state.exception), Error)

    def test_loading_without_privileges_raises_permission_error(self) -> None:
        program = (
            "import eunomia, sys\n"
            "with eunomia.VM() as vm:\n"
            "    vm.open_file(sys.argv[1])\n"
            "    try: vm.load()\n"
            "    except PermissionError as error: print(type(error).__name__)\n"
        )
        command = ["unshare", "--user", sys.executable, "-c", program, str(PACKAGES / "calls.json")]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        self.assertEqual(ran.stdout, "DeniedError\n")

    def test_repr_names_the_package_and_state(self) -> None:
        with eunomia.VM() as vm:
            self.assertEqual(repr(vm), "<eunomia.VM, empty>")
            vm.open_file(PACKAGES / "calls.json")
            self.assertRegex(repr(vm), r"<eunomia\.VM of \w+_bpf, opened>")
            vm.attach()
            self.assertRegex(repr(vm), r"<eunomia\.VM of \w+_bpf, attached>")
        self.assertEqual(repr(vm), "<eunomia.VM, closed>")

    def test_values_that_c_would_truncate_are_refused(self) -> None:
        with running() as vm:
            self.assertRaises(ValueError, vm.var_set, "burst\0x", 1)
            self.assertRaises(ValueError, vm.queue_start, -1)
            self.assertRaises(ValueError, vm.queue_start, 2**64)
            self.assertRaises(ValueError, vm.open_file, "a\0b")
        self.assertRaises(ValueError, eunomia.VM, poll_budget=2**32)

    def test_str_is_refused_where_bytes_are_expected(self) -> None:
        with running() as vm:
            text: Any = "\0\0\0\0"
            self.assertRaises(TypeError, vm.map_next, "counts", text)
        with eunomia.VM() as vm:
            self.assertRaises(TypeError, vm.open, (PACKAGES / "calls.json").read_text())
            self.assertRaises(TypeError, vm.open_object, text)

    def test_a_file_name_may_contain_any_bytes(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            name = os.fsdecode(os.fsencode(folder) + b"/\xff")
            os.mkdir(name)
            with eunomia.VM(pin_path=name, wasm_dirs=[name]) as vm, self.assertRaises(Error) as caught:
                vm.open_file(name + "/missing")
        self.assertEqual(caught.exception.status, Status.ERR_INVAL)

    def test_a_command_line_sets_variables(self) -> None:
        with eunomia.VM() as vm:
            self.assertEqual(vm.open((PACKAGES / "calls.json").read_bytes()), Kind.JSON)
            self.assertFalse(vm.args_set(["calls", "--target", "7"]))
            self.assertEqual(vm.var_get("target"), 7)
            self.assertTrue(vm.args_set(["calls", "--help"]))
            self.assertIn("--target", vm.args_help())


class Events(unittest.TestCase):
    def test_poll_passes_events_that_may_be_kept(self) -> None:
        kept: list[Event] = []
        with running() as vm:
            trigger(vm, 3)
            self.assertEqual(vm.poll(kept.append), 3)
            trigger(vm, 1)
            self.assertEqual(vm.poll(kept.append, Format.RAW), 1)
            self.assertEqual(vm.poll(kept.append, timeout=0), 0)
        self.assertEqual([event.json()["seq"] for event in kept[:3]], [0, 1, 2])
        raw = kept[3]
        self.assertEqual(raw.data, struct.pack("=IIQ8s", 0, 5, 7, b"hello"))
        self.assertEqual((raw.kind, raw.format, raw.source), (EventKind.SAMPLE, Format.RAW, "events"))
        self.assertEqual((raw.key, raw.lost, raw.cpu), (b"", 0, -1))
        assert raw.type is not None
        self.assertEqual(raw.type.name, "struct event")

    def test_poll_batch_passes_records_that_may_be_kept(self) -> None:
        with running() as vm:
            for _ in range(3):
                trigger(vm, 100)
            batches: list[eunomia.Records] = []
            self.assertEqual(300, vm.poll_batch(batches.append))
            self.assertEqual([256, 44], [len(batch.data) for batch in batches])
            numbers = [int.from_bytes(data[:4], "little") for batch in batches for data in batch.data]
            self.assertEqual(3 * list(range(100)), numbers)
            self.assertEqual({24}, {len(data) for batch in batches for data in batch.data})
            first = batches[0]
            self.assertEqual(
                (eunomia.EventKind.SAMPLE, "events", 0, b"", 0, -1),
                (first.kind, first.source, first.source_index, first.key, first.lost, first.cpu),
            )
            self.assertTrue(first.type is not None and first.type.name == "struct event" and first.time_ns > 0)
            self.assertEqual(0, vm.poll_batch(batches.append, timeout=0))

    def test_a_batch_at_the_end_of_a_ring_buffer_is_copied_in_order(self) -> None:
        with running() as vm:
            size = vm.map_find("events").max_entries
            numbers: list[int] = []
            for _ in range(4 * size // (32 * 100)):  # a record has 24 bytes and a header of 8
                trigger(vm, 100)
                numbers.clear()
                vm.poll_batch(lambda batch: numbers.extend(data[0] for data in batch.data))
                self.assertEqual(list(range(100)), numbers)

    def test_a_batch_callback_ends_a_poll_by_true_and_by_an_exception(self) -> None:
        with running() as vm:
            for _ in range(3):
                trigger(vm, 100)
            self.assertEqual(256, vm.poll_batch(lambda _: True))
            with self.assertRaises(ZeroDivisionError):
                vm.poll_batch(lambda _: bool(1 // 0))
            self.assertEqual(0, vm.poll_batch(lambda _: None, timeout=0))
            self.assertEqual(300, vm.stats().events)

    def test_a_callback_that_returns_true_ends_a_poll_and_a_run(self) -> None:
        seen = []

        def first(event: Event) -> bool:
            seen.append(event.json()["seq"])
            return True

        with running() as vm:
            trigger(vm, 3)
            self.assertEqual(vm.poll(first), 1)
            vm.run(first)
            self.assertEqual(seen, [0, 1])
            vm.poll(first, Format.JSON)

    def test_text_is_a_table_with_a_header(self) -> None:
        kinds: list[int] = []
        with running() as vm:
            trigger(vm, 2)
            self.assertEqual(vm.poll(lambda event: kinds.append(event.kind), Format.TEXT), 2)
        self.assertEqual(kinds, [EventKind.HEADER, EventKind.SAMPLE, EventKind.SAMPLE])

    def test_events_are_dicts_and_none_is_lost_after_break(self) -> None:
        with running() as vm:
            trigger(vm, 5)
            seen = []
            for event in vm.events():
                seen.append(event["seq"])
                if event["seq"] == 1:
                    break
            seen += [event["seq"] for event in vm.events(timeout=0)]
            self.assertEqual(seen, [0, 1, 2, 3, 4])
            self.assertEqual(list(vm.events(timeout=0.01)), [])

    def test_a_replace_returns_its_report_or_raises_all_parts_of_its_error(self) -> None:
        with running() as vm:
            self.assertIsNone(vm.replace_report())
            report = vm.replace((PACKAGES / "calls.json").read_bytes(), ReplaceFlag.FRESH_MAPS | ReplaceFlag.ORDERED)
            self.assertIs(report["unchanged"], True)
            with self.assertRaises(eunomia.NotFoundError) as caught:
                vm.replace((PACKAGES / "sampled.json").read_bytes())
            error = caught.exception
            self.assertEqual((error.subject_kind, error.subject), (eunomia.Subject.VARIABLE, "target"))
            self.assertIn("no such variable", error.message)
            failed = vm.replace_report()
            assert failed is not None
            self.assertEqual(failed["error"], error.message)
            trigger(vm, 1)
            busy: list[int] = []

            def inside(_: Event) -> None:
                with self.assertRaises(Error) as caught:
                    vm.replace(b"")
                busy.append(caught.exception.status)

            vm.poll(inside)
            self.assertEqual(busy, [Status.ERR_BUSY])
            self.assertEqual(vm.stats().replaces, 0)

    def test_a_prepared_version_runs_or_is_given_up(self) -> None:
        with replaceable() as vm:
            with vm.prepare(next_package()) as prepared:
                self.assertEqual({program["change"] for program in prepared.report["programs"]}, {"swapped"})
                with self.assertRaises(Error) as caught:
                    vm.replace(next_package())
                self.assertEqual(caught.exception.status, Status.ERR_BUSY)
            with self.assertRaises(Error) as caught:
                prepared.flip()
            self.assertEqual(caught.exception.status, Status.ERR_STATE)
            with vm.prepare(next_package(), ReplaceFlag.KEEP_OLD) as prepared:
                self.assertIs(prepared.flip()["grace_complete"], True)
            with self.assertRaisesRegex(Error, "roll back"):
                vm.prepare(next_package())
            self.assertEqual(vm.rollback()["programs"], [])
            with self.assertRaisesRegex(Error, "no old version"):
                vm.commit()
            vm.replace(next_package(), ReplaceFlag.KEEP_OLD)
            vm.commit()
            self.assertIs(vm.drained(), True)

    def test_another_vm_reads_what_is_exported(self) -> None:
        package = (PACKAGES / "calls.json").read_bytes()
        with replaceable() as vm, eunomia.VM() as reader:
            with vm.export() as exported:
                fds = list(exported.fds)
                reader.import_fds(package, exported)
                with self.assertRaises(Error) as caught:
                    reader.import_fds(package, exported)
                self.assertEqual(caught.exception.status, Status.ERR_STATE)
            for fd in fds:
                self.assertRaises(OSError, os.fstat, fd)
            with vm.prepare(next_package()) as prepared, prepared.export() as its:
                reader.adopt(next_package(), its)
                prepared.flip()
            trigger(vm, 1)
            self.assertEqual(reader.poll(print, timeout=20), 1)
            reader.commit()
            with vm.export(eunomia.ExportFlag.ALL) as every:
                self.assertGreater(len(every.fds), len(fds))

    def test_stop_ends_events_and_poll_raises_stopped(self) -> None:
        with running() as vm:
            timer = threading.Timer(0.05, vm.stop)
            timer.start()
            self.assertEqual(list(vm.events()), [])
            timer.join()
            vm.stop()
            with self.assertRaises(Error) as caught:
                vm.poll(print)
            self.assertIs(caught.exception.status, Status.ERR_STOPPED)

    def test_other_threads_use_a_vm_during_a_wait(self) -> None:
        with running() as vm:
            waiting = threading.Thread(target=lambda: seen.extend(vm.events(timeout=20)))
            seen: list[dict[str, Any]] = []
            waiting.start()
            trigger(vm, 4)
            while vm.stats().events < 4:
                self.assertEqual(vm.var_get("burst"), 4)
            vm.stop()
            waiting.join()
        self.assertEqual([event["seq"] for event in seen], [0, 1, 2, 3])

    def test_asyncio_receives_events_beside_other_tasks(self) -> None:
        async def take(vm: eunomia.VM, count: int) -> list[int]:
            seen = []
            async for event in vm.async_events():
                seen.append(event["seq"])
                if len(seen) == count:
                    break
            return seen

        async def program() -> None:
            with running() as one, running() as other:
                tasks = [asyncio.ensure_future(take(one, 3)), asyncio.ensure_future(take(other, 2))]
                await asyncio.sleep(0.01)
                trigger(one, 3)
                self.assertEqual((await tasks[0]), [0, 1, 2])
                trigger(other, 2)
                self.assertEqual((await tasks[1])[0], 0)
                cut = asyncio.ensure_future(take(one, 10))
                await asyncio.sleep(0.01)
                cut.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await cut
                one.stop()
                rest = [event async for event in one.async_events()]
                self.assertLessEqual(len(rest), 10)

        asyncio.run(program())

    def test_a_flood_of_events_does_not_starve_other_tasks(self) -> None:
        async def program() -> None:
            turns = 0

            async def work() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            with running() as vm:
                other = asyncio.ensure_future(work())
                trigger(vm, 1)
                seen = 0
                async for _ in vm.async_events():
                    seen += 1
                    if seen == 10:
                        break
                    trigger(vm, 1)  # so that there is always one more
                self.assertGreater(turns, 5)
                other.cancel()

        asyncio.run(program())

    def test_the_descriptor_is_readable_when_there_are_events(self) -> None:
        import select

        with running() as vm:
            self.assertEqual(select.select([vm], [], [], 0)[0], [])
            trigger(vm, 1)
            self.assertEqual(select.select([vm], [], [], 20)[0], [vm])
            vm.pause()
            self.assertEqual(select.select([vm], [], [], 0)[0], [])
            vm.pause(False)
            self.assertEqual(vm.poll(lambda _: None), 1)

    def test_the_queue_delivers(self) -> None:
        with running() as vm:
            vm.queue_start(1 << 20)
            trigger(vm, 2)
            seen = 0
            while seen < 2:
                seen += vm.poll(lambda _: None)
            vm.queue_stop()


class Batches(unittest.TestCase):
    def test_raw_batches_are_split_into_records(self) -> None:
        with running() as vm:
            trigger(vm, 2)
            batch = vm.read(Format.RAW)
        assert batch is not None
        self.assertEqual((batch.source, batch.count, batch.format), ("events", 2, Format.RAW))
        records = list(batch.records())
        self.assertEqual([struct.unpack_from("=I", record.data)[0] for record in records], [0, 1])
        self.assertEqual({(len(record.data), len(record.key), record.cpu) for record in records}, {(24, 0, -1)})

    def test_a_buffer_of_the_host_is_filled(self) -> None:
        buffer = bytearray(4096)
        with running() as vm:
            trigger(vm, 2)
            with self.assertRaises(Error) as caught:
                vm.read(Format.RAW, buffer=memoryview(buffer)[:8])
            self.assertEqual((caught.exception.status, caught.exception.need), (Status.ERR_TOO_SMALL, 40))
            batch = vm.read(Format.JSON, buffer=buffer)
            assert batch is not None
            self.assertEqual(bytes(buffer[: len(batch.data)]), bytes(batch.data))
            self.assertEqual([event["seq"] for event in batch.json()], [0, 1])
            self.assertIsNone(vm.read(timeout=0, buffer=buffer))

    def test_arrays_match_json(self) -> None:
        import numpy as np

        with running() as vm:
            trigger(vm, 100)
            array = vm.read_array()
            trigger(vm, 100)
            dicts = list(vm.events(timeout=0))
            empty = vm.read_array(timeout=0.01)
        self.assertEqual(array.dtype, np.dtype([("seq", "u4"), ("mode", "u4"), ("value", "u8"), ("text", "S8")]))
        self.assertEqual((len(empty), empty.dtype), (0, array.dtype))
        for name in ("seq", "value"):
            self.assertEqual(array[name].tolist(), [event[name] for event in dicts])
        self.assertEqual(set(array["text"]), {b"hello"})

    def test_arrays_have_strings_on_request(self) -> None:
        with running() as vm:
            trigger(vm, 3)
            array = vm.read_array(strings=True)
            empty = vm.read_array(timeout=0.01, strings=True)
        self.assertEqual(array["text"].tolist(), ["hello"] * 3)
        self.assertEqual([array.dtype[name].kind for name in ("seq", "text")], ["u", "U"])
        self.assertEqual(empty.dtype["text"].kind, "U")

    def test_records_of_uneven_lengths_are_padded(self) -> None:
        from eunomia import _array

        char = eunomia.Type("char", TypeKind.CHAR, 1, (), None, 0)
        text = eunomia.Type("char[4]", TypeKind.ARRAY, 4, (), char, 4)
        u16 = eunomia.Type("__u16", TypeKind.UINT, 2, (), None, 0)
        fields = (eunomia.Field("id", u16, 0, 16, 0), eunomia.Field("text", text, 16, 32, 0))
        struct_type = eunomia.Type("struct s", TypeKind.STRUCT, 6, fields, None, 2)
        data = b""
        for payload in (b"\1\0abcd", b"\2\0x", b"\3\0wxyz, and more"):
            room = (len(payload) + 7) // 8 * 8
            data += struct.pack("=IIIi", 16 + room, len(payload), 0, -1) + payload.ljust(room, b"\xee")
        found = _array.records(memoryview(data), 3, struct_type)
        self.assertEqual(found.tolist(), [(1, b"abcd"), (2, b"x"), (3, b"wxyz")])

    def test_types_become_dtypes_with_the_layout_of_c(self) -> None:
        from eunomia import _array

        def plain(kind: TypeKind, size: int) -> eunomia.Type:
            return eunomia.Type("", kind, size, (), None, 0)

        inner = eunomia.Type(
            "", TypeKind.UNION, 8, (eunomia.Field("a", plain(TypeKind.UINT, 8), 0, 64, 0),
                                    eunomia.Field("b", plain(TypeKind.FLOAT, 4), 0, 32, 0)), None, 2)  # fmt: skip
        numbers = eunomia.Type("", TypeKind.ARRAY, 12, (), plain(TypeKind.INT, 4), 3)
        enum = eunomia.Type(
            "", TypeKind.ENUM, 4, (eunomia.Field("X", plain(TypeKind.INT, 4), 0, 0, -1),), None, 1)  # fmt: skip
        large = eunomia.Type(
            "", TypeKind.ENUM, 8, (eunomia.Field("Y", plain(TypeKind.UINT, 8), 0, 0, 2**64 - 1),), None, 1)  # fmt: skip
        members = [("", inner, 0, 64), ("numbers", numbers, 64, 96), ("bits", plain(TypeKind.UINT, 4), 160, 3),
                   ("enum", enum, 192, 32), ("big", plain(TypeKind.UINT, 16), 256, 128),
                   ("large", large, 384, 64)]  # fmt: skip
        fields = tuple(eunomia.Field(name, kind, offset, size, 0) for name, kind, offset, size in members)
        found = _array.dtype(eunomia.Type("struct s", TypeKind.STRUCT, 56, fields, None, len(fields)))
        self.assertEqual(found.itemsize, 56)
        assert found.fields is not None
        layout = {name: (str(field[0]), field[1]) for name, field in found.fields.items()}
        self.assertEqual(layout, {"a": ("uint64", 0), "b": ("float32", 0), "numbers": ("('<i4', (3,))", 8),
                                  "enum": ("int32", 24), "big": ("|V16", 32), "large": ("uint64", 48)})  # fmt: skip


class Parts(unittest.TestCase):
    def test_maps_by_value_and_by_bytes(self) -> None:
        with running() as vm:
            vm.map_set("counts", 1, 10)
            vm.map_set("counts", b"\2\0\0\0", struct.pack("=Q", 20))
            self.assertEqual(vm.map_get("counts", 2), 20)
            self.assertEqual(vm.map_get("counts", b"\1\0\0\0"), struct.pack("=Q", 10))
            vm.map_set("pairs", 0, {"left": 1, "right": 2})
            self.assertEqual(vm.map_get("pairs", 0), {"left": 1, "right": 2})
            cpus = vm.map_find("per_cpu").cpus
            self.assertEqual(len(vm.map_get("per_cpu", b"\0\0\0\0")), 8 * cpus)
            self.assertEqual(vm.map_get("per_cpu", 0), [0] * cpus)
            entries = vm.map_dump("counts").json()
            self.assertEqual({entry["key"]: entry["value"] for entry in entries}, {1: 10, 2: 20})
            keys = []
            vm.map_each("counts", lambda event: keys.append(event.key), Format.RAW)
            self.assertEqual(sorted(keys), [b"\1\0\0\0", b"\2\0\0\0"])
            vm.map_del("counts", 1)
            self.assertEqual(vm.map_next("counts"), b"\2\0\0\0")
            vm.map_del("counts", b"\2\0\0\0")
            self.assertIsNone(vm.map_next("counts"))
            self.assertEqual(vm.map_dump("counts", Format.RAW).count, 0)

    def test_a_package_is_described(self) -> None:
        with running() as vm:
            self.assertEqual(vm.describe()["state"], "attached")
            self.assertEqual([prog.name for prog in vm.progs()], ["on_call", "on_return"])
            self.assertIn("counts", [found.name for found in vm.maps()])
            [source] = vm.sources()
        assert source.type is not None
        mode = next(field for field in source.type.fields if field.name == "mode")
        self.assertEqual([(field.name, field.value) for field in mode.type.fields], [("MODE_OFF", 0), ("MODE_ON", 5)])

    def test_programs_have_autoload_and_targets(self) -> None:
        with eunomia.VM() as vm:
            vm.open_file(PACKAGES / "calls.json")
            vm.prog_set_autoload("on_return", False)
            vm.prog_set_target("on_call", {"attach": "raw_tp/sys_exit"})
            self.assertIn("sys_exit", vm.prog_find("on_call").target)
            vm.attach()
            self.assertEqual(vm.prog_find("on_return").id, 0)
            vm.detach()

    def test_an_iterator_delivers_lines(self) -> None:
        with eunomia.VM() as vm:
            vm.open_object((PACKAGES / "tasks.o").read_bytes())
            vm.attach()
            lines: list[bytes] = []
            count = vm.iter_each("tasks", lambda event: lines.append(event.data))
            self.assertEqual(count, len(lines))
            self.assertIn(b"pid %d" % os.getpid(), lines)

    def test_a_guest_runs_with_arguments(self) -> None:
        printed: list[str] = []
        with eunomia.VM() as vm:
            self.assertEqual(vm.open_file(PACKAGES / "hello.wasm"), Kind.WASM)
            self.assertEqual(vm.wasm_run(["guest", "one"], lambda event: printed.append(event.data.decode())), 5)
            self.assertEqual(vm.wasm_run(["guest"]), 5)
        self.assertEqual(printed, ['hello ["guest","one"]'])

    def test_the_log_is_called_once_per_line(self) -> None:
        lines: list[tuple[int, str]] = []
        log_level = eunomia.LogLevel.DEBUG
        with running(log=lambda level, line: lines.append((level, line)), log_level=log_level):
            pass
        self.assertTrue(lines)
        self.assertFalse([line for _, line in lines if "\n" in line])


if __name__ == "__main__":
    unittest.main()
