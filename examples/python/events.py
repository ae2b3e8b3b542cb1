"""Runs a package and prints one line of JSON per event, until Ctrl-C.

usage: events.py PACKAGE [ARGUMENT]...   (arguments are those that the package describes, such as --help)
"""

from __future__ import annotations

import sys

import eunomia


def main(package: str, *arguments: str) -> None:
    with eunomia.VM(log=lambda _, line: print(line, file=sys.stderr)) as vm:
        vm.open_file(package)
        if vm.args_set([package, *arguments]):
            print(vm.args_help())
            return
        vm.attach()
        vm.run(lambda event: print(event.data.decode(), flush=True))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except eunomia.Error as error:
        sys.exit(f"{error}\n{error.detail}")
    except KeyboardInterrupt:
        pass
