"""Sets variables of the example "opensnoop" before it runs, and reads its maps afterwards.

usage: variables.py target/packages/opensnoop/package.json
"""

from __future__ import annotations

import os
import sys

import eunomia


def main(package: str) -> None:
    with eunomia.VM() as vm:
        vm.open_file(package)
        for variable in vm.describe()["variables"]:
            print(variable["name"], variable["type"], variable["value"])
        vm.var_set("targ_pid", os.getpid())  # constants: before load only
        vm.var_set("targ_failed", True)
        vm.attach()

        # With targ_failed, only the second open is reported.
        with open("/proc/self/stat"):
            pass
        try:
            open("/nothing/here").close()
        except OSError as error:
            print("expected:", error.strerror)
        for event in vm.events(timeout=1):
            print(event["comm"], event["fname"], event["ret"])

        for found in vm.maps():
            print("map", found.name, found.max_entries)
        print("opens under way:", vm.map_dump("started").json())


if __name__ == "__main__":
    main(sys.argv[1])
