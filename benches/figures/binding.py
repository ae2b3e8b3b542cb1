"""Events per second through the Python binding, and leaks of many vm life cycles.

usage: binding.py events PACKAGE          prints NAME and events per second, the median of the rounds
       binding.py lives PACKAGE COUNT     prints the growth: descriptors and kB of resident memory
"""

from __future__ import annotations

import ctypes
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable

import eunomia

# Events of one run of the program "produce", see signal.h, and how many runs a round consumes.
PER_RUN = 1000
RUNS = 16
ROUNDS = 60

SYS_BPF = 321
BPF_PROG_TEST_RUN = 10
BPF_PROG_GET_FD_BY_ID = 13

libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, *words: int, size: int) -> int:
    attributes = (ctypes.c_uint32 * (size // 4))(*words)
    answer: int = libc.syscall(SYS_BPF, command, ctypes.byref(attributes), size)
    if answer < 0:
        raise OSError(ctypes.get_errno(), "bpf")
    return answer


def rounds(vm: eunomia.VM, consume: Callable[[], int]) -> list[float]:
    """Events per second of each round. All events are produced before the clock starts."""
    produce = bpf(BPF_PROG_GET_FD_BY_ID, vm.prog_find("produce").id, size=12)
    speeds = []
    for _ in range(ROUNDS):
        for _ in range(RUNS):
            bpf(BPF_PROG_TEST_RUN, produce, size=80)
        seen, start = 0, time.perf_counter()
        while seen < PER_RUN * RUNS:
            seen += consume()
        speeds.append(seen / (time.perf_counter() - start))
    os.close(produce)
    return speeds


def events(package: str) -> None:
    with eunomia.VM() as vm:
        vm.open_file(package)
        vm.load()
        left = vm.events(timeout=0)

        def dicts() -> int:
            nonlocal left
            count = sum(1 for _ in left)
            left = vm.events(timeout=0)
            return count

        def lines() -> int:
            batch = vm.read(timeout=0)
            return batch.count if batch else 0

        ways: dict[str, Callable[[], int]] = {
            "read_array": lambda: len(vm.read_array(timeout=0)),
            "lines": lines,
            "events": dicts,
            "batches": lambda: vm.poll_batch(lambda _: None, timeout=0),
            "poll": lambda: vm.poll(lambda _: None, eunomia.Format.RAW, timeout=0),
        }
        for name, consume in ways.items():
            speeds = rounds(vm, consume)
            print(name, statistics.median(speeds))


def resident_kb() -> int:
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def live(package: str, lives: int) -> None:
    for _ in range(lives):
        with eunomia.VM() as vm:
            vm.open_file(package)
            vm.attach()


def lives(package: str, count: int) -> None:
    live(package, 10 + count // 10)
    descriptors, resident = len(os.listdir("/proc/self/fd")), resident_kb()
    live(package, count)
    print(len(os.listdir("/proc/self/fd")) - descriptors, resident_kb() - resident)


if __name__ == "__main__":
    if sys.argv[1] == "events":
        events(sys.argv[2])
    else:
        lives(sys.argv[2], int(sys.argv[3]))
