"""Replaces a running package with a new version, and returns to the old one if no event comes within 10 seconds.

usage: replace.py PACKAGE.json NEW.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import eunomia


def show(event: eunomia.Event) -> None:
    print(event.data.decode())


def main(package: str, next_package: str) -> None:
    with eunomia.VM(flags=eunomia.OptionFlag.REPLACEABLE) as vm:
        vm.open_file(package)
        vm.attach()
        vm.poll(show)

        # Everything that can fail or takes long is in prepare. If it fails, the old version keeps running.
        with vm.prepare(Path(next_package).read_bytes(), eunomia.ReplaceFlag.KEEP_OLD) as prepared:
            print(json.dumps(prepared.flip()))  # from here on, each event is one of the new version

        if vm.poll(show, timeout=10) > 0:
            vm.commit()
            print("the new version stays")
        else:
            vm.rollback()
            print("the old version is back")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
