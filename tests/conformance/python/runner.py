"""The Python runner of tests/conformance: executes the table with the packages of a directory and prints results."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from calls import Host, Outcome, Step


class Difference(Exception):
    """The first difference from the table."""


def main(table: str, packages: str) -> None:
    text = Path(table).read_text().replace("$pid", str(os.getpid())).replace("$packages", packages)
    scenarios = json.loads(text)
    for scenario in scenarios["scenarios"]:
        steps = scenarios["setups"][scenario["setup"]] + scenario["steps"]
        print(f"{scenario['name']}\t{found(steps)}", flush=True)


def found(steps: list[Step]) -> str:
    """Returns "ok" or the first difference."""
    inside: list[str] = []

    def take_inside(steps: list[Step]) -> None:
        # An exception would end the poll.
        inside.extend(difference for difference in [first_difference(host, steps)] if difference)

    host = Host(take_inside)
    try:
        difference = first_difference(host, steps)
        return (inside or [difference or "ok"])[0].replace("\n", " ")
    finally:
        host.end()


def first_difference(host: Host, steps: list[Step]) -> str | None:
    for number, step in enumerate(steps, 1):
        try:
            compare(step, host.take(step))
        except Difference as difference:
            return f"step {number}, {step['call']}: {difference}"
    return None


def compare(step: Step, out: Outcome) -> None:
    same("status", step.get("status", "EUNOMIA_OK"), out.status if "status" in step else f"{out.status}{said(out)}")
    for name in ("errmsg", "errdetail"):
        part(name, step.get(name, ""), getattr(out, name))
    part("out", step.get("has", ""), out.out)
    plain = ("returns", "errsys", "need", "exit_code", "subject")
    for name in (*plain, "out", *(["bytes"] if step["call"] != "var_set" else [])):
        if name in step:
            same(name, step[name], getattr(out, name))
    members("info", step.get("info", {}), out.info)
    for name in ("fields", "events", "records"):
        if isinstance(step.get(name), list):
            compare_list(name, step[name], getattr(out, name))
    if "some" in step and not any(is_like(step["some"], event) for event in out.events):
        raise Difference(f"no event of {len(out.events)} is like some")


def said(out: Outcome) -> str:
    return f" ({out.errmsg})" if out.errmsg else ""


def same(what: str, expected: Any, found: Any) -> None:
    if expected != found:
        raise Difference(f"{what} is {found}, not {expected}")


def part(what: str, expected: str, found: str) -> None:
    if expected not in found:
        raise Difference(f"{what} is {found}, without {expected}")


def members(what: str, expected: dict[str, Any], found: dict[str, Any]) -> None:
    for name, value in expected.items():
        same(f"{what}.{name}", value, found.get(name, "missing"))


def compare_list(what: str, expected: list[dict[str, Any]], found: list[dict[str, Any]]) -> None:
    same(f"length of {what}", len(expected), len(found))
    for index, (one, other) in enumerate(zip(expected, found)):
        if what == "events" and not is_like(one, other):
            raise Difference(f"event {index} is {other}, not like {one}")
        if what != "events":
            members(f"{what}[{index}]", one, other)


def is_like(expected: dict[str, Any], event: dict[str, Any]) -> bool:
    wanted = {"kind": "sample", **expected}
    has = wanted.pop("has", "")
    return has in event["data"] and all(event.get(name) == value for name, value in wanted.items())


if __name__ == "__main__":
    main(*sys.argv[1:])
