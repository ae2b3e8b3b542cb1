"""What the tests share: the package that sends events for each getpgid(2), and vms with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import eunomia

PACKAGES = Path(os.environ["EUNOMIA_TEST_PACKAGES"])

# A shell that runs the tests in the background ignores the signal.
signal.signal(signal.SIGINT, signal.default_int_handler)


def running(package: str = "calls.json", **options: Any) -> eunomia.VM:
    """A vm that sends events for this process."""
    vm = eunomia.VM(**options)
    vm.open_file(PACKAGES / package)
    vm.var_set("target", os.getpid())
    vm.attach()
    return vm


def replaceable() -> eunomia.VM:
    """A running vm whose package can be replaced."""
    return running(flags=eunomia.OptionFlag.REPLACEABLE)


def next_package() -> bytes:
    """The package of `running` with another time-out in its metadata."""
    meta = b'"meta":{'
    return (PACKAGES / "calls.json").read_bytes().replace(meta, meta + b'"poll_timeout_ms":77,', 1)


def trigger(vm: eunomia.VM, events: int) -> None:
    """Lets the package send events."""
    vm.var_set("burst", events)
    os.getpgid(0)


def descriptors() -> int:
    """Returns the number of open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def resident_kb() -> int:
    """Returns the bytes of memory that this process uses."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in an interpreter of its own, which can import this file."""
    tests = str(Path(__file__).parent)
    path = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
