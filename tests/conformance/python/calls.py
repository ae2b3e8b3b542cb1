"""Executes the steps of a scenario: one method for each call of the table."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import eunomia
from eunomia import Error, Event, Format, Kind, ReplaceFlag, Status, Subject

Step = dict[str, Any]

# The exception that the callback raises for the answer "fail".
FAILURE = RuntimeError("fail")


@dataclasses.dataclass
class Outcome:
    """The results of a step in the table's form."""

    status: str = "EUNOMIA_OK"
    returns: int = 0
    errmsg: str = ""
    errdetail: str = ""
    errsys: int = 0
    subject: str = ""
    need: int = 0
    out: str = "nothing"
    bytes: str = ""
    info: dict[str, Any] = dataclasses.field(default_factory=dict)
    fields: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    events: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    records: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    exit_code: int = 0


class Host:
    """The state of a scenario."""

    def __init__(self, take_inside: Callable[[list[Step]], None]) -> None:
        self._began_ns = time.monotonic_ns()
        self._take_inside = take_inside
        self._vm: Optional[eunomia.VM] = None
        self._other: Optional[eunomia.VM] = None
        self._group = eunomia.Group()
        self._next: Optional[eunomia.Prepared] = None
        self._exported = eunomia.Exported("", [])
        self._stopper: Optional[threading.Thread] = None
        self._lines: list[str] = []

    def take(self, step: Step) -> Outcome:
        """Executes a step."""
        out = Outcome()
        try:
            out.returns = getattr(self, "_" + step["call"])(step, out) or 0
        except Error as error:
            out.status = f"EUNOMIA_{Status(error.status).name}"
            out.returns = error.status
            out.errmsg, out.errdetail, out.errsys, out.need = error.message, error.detail, error.errno, error.need
            if error.subject_kind != Subject.NONE:
                out.subject = f"{Subject(error.subject_kind).name.lower()} {error.subject}"
        except RuntimeError as error:
            if error is not FAILURE:
                raise
            out.status, out.returns = "EUNOMIA_ERR_CALLBACK", Status.ERR_CALLBACK
        return out

    def end(self) -> None:
        """Releases the resources of the scenario."""
        if self._stopper is not None:
            self._stopper.join()
        for vm in (self._vm, self._other):
            if vm is not None:
                vm.close()
        self._group.close()
        self._exported.close()

    @property
    def vm(self) -> eunomia.VM:
        assert self._vm is not None, "the scenario makes a vm first"
        return self._vm

    # ---- life cycle ----

    def _new(self, step: Step, out: Outcome) -> None:
        options = dict(step.get("options", {}))
        flags = eunomia.OptionFlag(0)
        for name, bit in (
            ("raw_events", eunomia.OptionFlag.WASM_RAW_EVENTS),
            ("stdio", eunomia.OptionFlag.WASM_STDIO),
            ("replaceable", eunomia.OptionFlag.REPLACEABLE),
        ):
            if options.pop(name, False):
                flags |= bit
        self._vm = eunomia.VM(log=lambda _, line: self._lines.append(line), flags=flags, **options)

    def _destroy(self, step: Step, out: Outcome) -> None:
        self.vm.close()

    def _open(self, step: Step, out: Outcome) -> int:
        return self.vm.open(Path(step["file"]).read_bytes(), _kinds(step))

    def _open_file(self, step: Step, out: Outcome) -> int:
        return self.vm.open_file(step["path"], _kinds(step))

    def _open_object(self, step: Step, out: Outcome) -> int:
        meta = Path(step["meta"]).read_text() if "meta" in step else None
        return self.vm.open_object(Path(step["file"]).read_bytes(), meta)

    def _load(self, step: Step, out: Outcome) -> None:
        self.vm.load()

    def _attach(self, step: Step, out: Outcome) -> None:
        self.vm.attach()

    def _detach(self, step: Step, out: Outcome) -> None:
        self.vm.detach()

    def _replace(self, step: Step, out: Outcome) -> None:
        report = self.vm.replace(Path(step["file"]).read_bytes(), ReplaceFlag(step.get("flags", 0)))
        out.out = _text(report)

    def _prepare(self, step: Step, out: Outcome) -> None:
        flags = ReplaceFlag(step.get("flags", 0))
        self._next = self.vm.prepare(Path(step["file"]).read_bytes(), flags)
        out.out = _text(self._next.report)

    def _flip(self, step: Step, out: Outcome) -> None:
        assert self._next is not None, "the scenario prepares a version first"
        out.out = _text(self._next.flip())

    def _abort(self, step: Step, out: Outcome) -> None:
        assert self._next is not None, "the scenario prepares a version first"
        self._next.abort()

    def _commit(self, step: Step, out: Outcome) -> None:
        self.vm.commit()

    def _rollback(self, step: Step, out: Outcome) -> None:
        out.out = _text(self.vm.rollback())

    def _export(self, step: Step, out: Outcome) -> None:
        flags = eunomia.ExportFlag(step.get("flags", 0))
        exporter = self._next if flags & eunomia.ExportFlag.PREPARED else self.vm
        assert exporter is not None, "the scenario prepares a version first"
        self._exported = exporter.export(flags)
        out.out = self._exported.description

    def _import(self, step: Step, out: Outcome) -> None:
        self.vm.import_fds(Path(step["file"]).read_bytes(), self._exported)

    def _adopt(self, step: Step, out: Outcome) -> None:
        self.vm.adopt(Path(step["file"]).read_bytes(), self._exported)

    def _drained(self, step: Step, out: Outcome) -> int:
        return int(self.vm.drained())

    def _stop(self, step: Step, out: Outcome) -> None:
        self.vm.stop()

    def _stop_soon(self, step: Step, out: Outcome) -> None:
        self._stopper = threading.Timer(0.05, self.vm.stop)
        self._stopper.start()

    def _triggers_start(self, step: Step, out: Outcome) -> None:
        def trigger() -> None:
            for _ in range(step["count"]):
                os.getpgid(0)
                time.sleep(100e-6)

        self._stopper = threading.Thread(target=trigger)
        self._stopper.start()

    def _triggers_end(self, step: Step, out: Outcome) -> int:
        assert self._stopper is not None, "the scenario starts it first"
        self._stopper.join()
        while self.vm.poll(lambda event: None, Format.RAW, 0):
            pass
        stats = self.vm.stats()
        return int(stats.events + stats.lost_kernel)

    def _log(self, step: Step, out: Outcome) -> None:
        out.out = "\n".join(self._lines)

    # ---- variables ----

    def _var_set_json(self, step: Step, out: Outcome) -> None:
        self.vm.var_set(step["name"], _value(step["json"]))

    def _var_set(self, step: Step, out: Outcome) -> None:
        self.vm.var_set(step["name"], bytes.fromhex(step["bytes"]))
        out.bytes = step["bytes"]

    def _var_get_json(self, step: Step, out: Outcome) -> None:
        out.out = _text(self.vm.var_get(step["name"]))

    def _var_get(self, step: Step, out: Outcome) -> None:
        out.bytes = self.vm.var_get_bytes(step["name"]).hex()

    def _args_set(self, step: Step, out: Outcome) -> int:
        return self.vm.args_set(step["argv"])

    def _args_help(self, step: Step, out: Outcome) -> None:
        out.out = self.vm.args_help()

    def _describe(self, step: Step, out: Outcome) -> None:
        out.out = _text(self.vm.describe())

    # ---- events ----

    def _poll(self, step: Step, out: Outcome) -> int:
        return self.vm.poll(self._callback(step, out), _format(step), _timeout(step))

    def _poll_batch(self, step: Step, out: Outcome) -> int:
        take = self._callback(step, out)

        def callback(records: eunomia.Records) -> bool:
            names = ("kind", "source", "key", "type", "lost", "cpu", "time_ns")
            same = {name: getattr(records, name) for name in names}
            ended = [take(Event(format=Format.RAW, data=data, **same)) for data in records.data]
            return any(ended)

        return self.vm.poll_batch(callback, _timeout(step))

    def _run(self, step: Step, out: Outcome) -> None:
        self.vm.run(self._callback(step, out), _format(step))

    def _swap(self, step: Step, out: Outcome) -> None:
        self._vm, self._other = self._other, self._vm

    def _group_add(self, step: Step, out: Outcome) -> None:
        self._group.add(self.vm)

    def _group_remove(self, step: Step, out: Outcome) -> None:
        self._group.remove(self.vm)

    def _group_poll(self, step: Step, out: Outcome) -> int:
        take = self._callback(step, out)

        def callback(vm: eunomia.VM, event: Event) -> bool:
            current = vm is self._vm
            ended = take(event)
            out.events[-1]["vm"] = "current" if current else "other"
            return ended

        return self._group.poll(callback, _format(step), _timeout(step))

    def _group_stop(self, step: Step, out: Outcome) -> None:
        self._group.stop()

    def _group_readable(self, step: Step, out: Outcome) -> int:
        poll = select.poll()
        poll.register(self._group.fileno(), select.POLLIN)
        return len(poll.poll(step["timeout_ms"]))

    def _group_failed(self, step: Step, out: Outcome) -> int:
        return int(self._group.failed is self._vm)

    def _iter_each(self, step: Step, out: Outcome) -> int:
        return self.vm.iter_each(step["prog"], self._callback(step, out))

    def _wasm_run(self, step: Step, out: Outcome) -> None:
        out.exit_code = self.vm.wasm_run(step["argv"], self._callback(step, out), _format(step))

    def _read(self, step: Step, out: Outcome) -> int:
        return _keep(self.vm.read(_format(step), _timeout(step), bytearray(step["room"])), out)

    def _callback(self, step: Step, out: Outcome) -> Callable[[Event], bool]:
        def callback(event: Event) -> bool:
            out.events.append(_event(event, self._began_ns))
            if len(out.events) == 1:
                self._take_inside(step.get("inside", []))
            if step.get("answer") == "fail":
                raise FAILURE
            return step.get("answer") == "end"

        return callback

    def _trigger(self, step: Step, out: Outcome) -> None:
        if "events" in step:
            self.vm.var_set("burst", step["events"])
        os.getpgid(0)

    def _readable(self, step: Step, out: Outcome) -> int:
        poll = select.poll()
        poll.register(self.vm, select.POLLIN)
        return len(poll.poll(step["timeout_ms"]))

    def _pause(self, step: Step, out: Outcome) -> None:
        self.vm.pause(step["on"])

    def _stats_get(self, step: Step, out: Outcome) -> None:
        out.info = _info(self.vm.stats())

    def _queue_start(self, step: Step, out: Outcome) -> None:
        self.vm.queue_start(step["max_bytes"])

    def _queue_stop(self, step: Step, out: Outcome) -> None:
        self.vm.queue_stop()

    # ---- maps ----

    def _map_get(self, step: Step, out: Outcome) -> None:
        value = self.vm.map_get(step["map"], bytes.fromhex(step["key"]))
        if len(value) != step["size"]:
            _cannot_be_said()  # the binding allocates a buffer that fits
        out.bytes = value.hex()

    def _map_set(self, step: Step, out: Outcome) -> None:
        key, value = bytes.fromhex(step["key"]), bytes.fromhex(step["value"])
        self.vm.map_set(step["map"], key, value, step["flags"])

    def _map_del(self, step: Step, out: Outcome) -> None:
        self.vm.map_del(step["map"], bytes.fromhex(step["key"]))

    def _map_next(self, step: Step, out: Outcome) -> None:
        key = bytes.fromhex(step["key"]) if "key" in step else None
        found = self.vm.map_next(step["map"], key)
        if found is None:
            raise Error(Status.ERR_NOT_FOUND, "None")  # the binding returns None
        out.bytes = found.hex()

    def _map_get_json(self, step: Step, out: Outcome) -> None:
        out.out = _text(self.vm.map_get(step["map"], _value(step["key"])))

    def _map_set_json(self, step: Step, out: Outcome) -> None:
        self.vm.map_set(step["map"], _value(step["key"]), _value(step["value"]), step["flags"])

    def _map_del_json(self, step: Step, out: Outcome) -> None:
        self.vm.map_del(step["map"], _value(step["key"]))

    def _map_each(self, step: Step, out: Outcome) -> int:
        return self.vm.map_each(step["map"], self._callback(step, out), _format(step))

    def _map_dump(self, step: Step, out: Outcome) -> int:
        return _keep(self.vm.map_dump(step["map"], _format(step), bytearray(step["room"])), out)

    def _map_find(self, step: Step, out: Outcome) -> None:
        out.info = _info(self.vm.map_find(step["map"]))

    def _map_at(self, step: Step, out: Outcome) -> None:
        out.info = _at(self.vm.maps(), step)

    def _map_count(self, step: Step, out: Outcome) -> int:
        return len(self.vm.maps())

    def _map_set_max_entries(self, step: Step, out: Outcome) -> None:
        self.vm.map_set_max_entries(step["map"], step["count"])

    # ---- sources, programs ----

    def _source_at(self, step: Step, out: Outcome) -> None:
        out.info = _at(self.vm.sources(), step)

    def _source_count(self, step: Step, out: Outcome) -> int:
        return len(self.vm.sources())

    def _prog_at(self, step: Step, out: Outcome) -> None:
        out.info = _at(self.vm.progs(), step)

    def _prog_count(self, step: Step, out: Outcome) -> int:
        return len(self.vm.progs())

    def _prog_find(self, step: Step, out: Outcome) -> None:
        out.info = _info(self.vm.prog_find(step["prog"]))

    def _prog_run(self, step: Step, out: Outcome) -> int:
        data, ctx = (bytes.fromhex(step.get(name, "")) for name in ("data", "ctx"))
        run = self.vm.prog_run(step["prog"], data, ctx, data_out=step["size"])
        out.bytes = run.data.hex()
        return run.return_value

    def _prog_set_autoload(self, step: Step, out: Outcome) -> None:
        self.vm.prog_set_autoload(step["prog"], step["on"])

    def _prog_set_target_json(self, step: Step, out: Outcome) -> None:
        self.vm.prog_set_target(step["prog"], _value(step["json"]))

    def _status_name(self, step: Step, out: Outcome) -> None:
        out.out = f"EUNOMIA_{Status(step['number']).name}"

    def _fields(self, step: Step, out: Outcome) -> None:
        of = self.vm.sources()[step["index"]].type
        assert of is not None, "the source has a type"
        if "member" in step:
            [of] = [field.type for field in of.fields if field.name == step["member"]]
        out.fields = [{**_info(field), "kind": field.type.kind} for field in of.fields]


def _cannot_be_said() -> None:
    raise Error(Status.ERR_INVAL, "this mistake cannot be made in Python")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        _cannot_be_said()


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _kinds(step: Step) -> Kind:
    return {"json": Kind.JSON, "wasm": Kind.WASM, "any": Kind.ANY}[step["kinds"]]


def _format(step: Step) -> Format:
    return Format[step["format"].upper()]


def _timeout(step: Step) -> Optional[float]:
    return None if step["timeout_ms"] < 0 else step["timeout_ms"] / 1000


def _shown(data: bytes | memoryview, format: Format) -> str:
    return data.hex() if format == Format.RAW else bytes(data).decode()


def _event(event: Event, began_ns: int) -> dict[str, Any]:
    return {
        "kind": eunomia.EventKind(event.kind).name.lower(),
        "data": _shown(event.data, event.format),
        "key": _shown(event.key, event.format),
        "source": event.source,
        "type": event.type.name if event.type else "",
        "cpu": "known" if event.cpu >= 0 else "unknown",
        "time": "known" if began_ns <= event.time_ns <= time.monotonic_ns() else "unknown",
    }


def _keep(batch: Optional[eunomia.Batch], out: Outcome) -> int:
    if batch is None:
        out.out = ""
        return 0
    if batch.format == Format.RAW:
        out.records = [{"data": record.data.hex(), "key": record.key.hex()} for record in batch.records()]
    else:
        out.out = bytes(batch.data).decode()
    return batch.count


def _info(found: Any) -> dict[str, Any]:
    """Returns the members of a dataclass; types by name."""
    values = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    return {name: value.name if isinstance(value, eunomia.Type) else value for name, value in values.items()}


def _at(found: list[Any], step: Step) -> dict[str, Any]:
    if step["index"] >= len(found):
        raise Error(Status.ERR_NOT_FOUND, "beyond the list")  # Python would raise IndexError
    return _info(found[step["index"]])
