"""Handles events in an asyncio program, alongside its other work, until SIGINT or SIGTERM.

usage: loop.py PACKAGE
"""

from __future__ import annotations

import asyncio
import signal
import sys

import eunomia


async def tick() -> None:
    """The other work."""
    while True:
        await asyncio.sleep(1)
        print("tick", flush=True)


async def main(package: str) -> None:
    with eunomia.VM() as vm:
        vm.open_file(package)
        vm.attach()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, vm.stop)
        work = asyncio.ensure_future(tick())
        async for event in vm.async_events():
            print(event, flush=True)
        work.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
