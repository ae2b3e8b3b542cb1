"""Puts libeunomia and its licences into the wheel, and names the systems that it runs on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# The lowest glibc that the library needs, as `auditwheel show` finds it.
TAG = f"py3-none-manylinux_2_34_{platform.machine()}"


class Hook(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling for each build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """`version` is `editable` for a development install, which finds the library by itself."""
        if version == "editable":
            return
        root = Path(self.root).parents[1]
        library = Path(os.environ.get("EUNOMIA_LIBRARY") or root / "target/dist/libeunomia.so")
        if not library.exists():
            raise FileNotFoundError(f"{library} is missing: run `make wheel`, or set EUNOMIA_LIBRARY to the library")
        build_data["pure_python"] = False
        build_data["tag"] = TAG
        build_data["force_include"][str(library.resolve())] = "eunomia/libeunomia.so"
        for licence in ("LICENSE", "NOTICE"):
            if (root / licence).exists():
                build_data["force_include"][str(root / licence)] = f"eunomia/{licence}"
