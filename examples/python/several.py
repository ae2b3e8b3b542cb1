"""Runs several packages at once, each in a vm, and handles all events in one loop, until Ctrl-C.

usage: several.py PACKAGE...
"""

from __future__ import annotations

import contextlib
import selectors
import sys

import eunomia


def main(packages: list[str]) -> None:
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for package in packages:
            vm = stack.enter_context(eunomia.VM())
            vm.open_file(package)
            vm.attach()
            selector.register(vm, selectors.EVENT_READ, package)
        while True:
            for key, _ in selector.select():
                assert isinstance(key.fileobj, eunomia.VM)
                for event in key.fileobj.events(timeout=0):
                    print(key.data, event, flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1:])
