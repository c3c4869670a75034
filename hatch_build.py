"""Compile the optional kernel of the exact search, for hatchling or by hand.

    python hatch_build.py          # into src/recollect/index/native, for work on the library

Where there is no C compiler, or it fails, the package is built without the kernel and says so; its
answers are the same (docs/decisions/0010-compiled-kernel.md). ``RECOLLECT_BUILD_KERNEL=0`` leaves
the kernel out on purpose, ``=1`` makes its absence an error. ``CC`` and ``CFLAGS`` are honored.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zlib
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # by hand: nothing but a compiler is needed
    BuildHookInterface = object

NATIVE = Path(__file__).resolve().parent / "src" / "recollect" / "index" / "native"
LIBRARY = "_kernel.so"
# What one head alone uses has a library of its own; it chooses among processors when called.
SMALL = {"_tables.so": "tables.c", "_refine.so": "refine.c", "_holding.so": "holding.c"}
# Headers that belong to the source of such a library.
HEADERS = {"refine.c": ("fold.h",)}
SOURCES = (
    "kernel.h", "search.h", "tiles.h", "fold.h", "lanes.c", "threads.c", "intake.c", "search.c",
    "decide.c",
)  # fmt: skip
FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-fvisibility=hidden", "-fno-math-errno")
# Products must not be contracted: similarities have NumPy's bits (src/recollect/index/scoring.py).
FLAGS += ("-ffp-contract=off",)
WIDE = "-mfma -mavx2 -mavx512f -mavx512bw -mavx512vl"
INTEL = {
    "plain": "",
    "avx2": "-mavx2 -mfma",
    "avx512": WIDE,
    "avx512vnni": f"{WIDE} -mavx512vnni",
}
ARM = {"plain": "", "dotprod": "-march=armv8.2-a+dotprod"}
INSTRUCTIONS = {"x86_64": INTEL, "amd64": INTEL, "aarch64": ARM, "arm64": ARM}


class BuildFailed(Exception):
    """There is no compiler, or it cannot compile the kernel."""


def source_mark() -> str:
    """Number of these sources; the library refuses a kernel that was built from others."""
    return _mark(SOURCES)


def _mark(names: tuple[str, ...]) -> str:
    text = b"".join((NATIVE / name).read_bytes().replace(b"\r\n", b"\n") for name in names)
    return f"{zlib.crc32(text):08x}"


def compile_small(folder: Path) -> list[Path]:
    """Compile the libraries of one source each into a folder; returns them.

    Raises:
        BuildFailed: With what the compiler said.
    """
    for library, source in SMALL.items():
        _compile_one(NATIVE / source, folder / library)
    return [folder / library for library in SMALL]


def _compile_one(source: Path, target: Path) -> None:
    mark = f'-DSOURCE="{_mark((source.name, *HEADERS.get(source.name, ())))}"'
    compiler = shlex.split(os.environ.get("CC", "cc")) or ["cc"]
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, target.name)
        made = ["-shared", "-o", str(whole), str(source)]
        _run([*compiler, *_flags(), mark, *made])
        staged = target.with_suffix(".new")
        shutil.copyfile(whole, staged)
        staged.replace(target)


def compile_kernel(target: Path) -> list[str]:
    """Compile the kernel to ``target``; returns the sets of instructions it knows.

    Raises:
        BuildFailed: With what the compiler said.
    """
    if os.name != "posix":
        raise BuildFailed("the kernel needs POSIX threads; this is not a POSIX system")
    machine = platform.machine().lower()
    compiler = shlex.split(os.environ.get("CC", "cc")) or ["cc"]
    if shutil.which(compiler[0]) is None:
        raise BuildFailed(f"there is no C compiler: {compiler[0]!r} was not found")
    with tempfile.TemporaryDirectory() as folder:
        known, objects = [], []
        for name, flags in INSTRUCTIONS.get(machine, {"plain": ""}).items():
            made = Path(folder, f"{name}.o")
            options = [*flags.split(), f"-DLANES_{name}", "-c", str(NATIVE / "lanes.c")]
            try:
                _run([*compiler, *_flags(), *options, "-o", str(made)])
            except BuildFailed:
                if name == "plain":
                    raise
                continue  # a compiler older than these instructions
            known.append(name)
            objects.append(str(made))
        options = [f"-DHAVE_{name}" for name in known] + [f'-DSOURCE="{source_mark()}"']
        whole = Path(folder, LIBRARY)
        driving = [str(NATIVE / name) for name in SOURCES if name.endswith(".c")]
        driving.remove(str(NATIVE / "lanes.c"))
        options += ["-shared", "-o", str(whole), *driving]
        _run([*compiler, *_flags(), *options, *objects, "-pthread", "-lm"])
        # A process that has the old library mapped keeps it: the new one is another file.
        staged = target.with_suffix(".new")
        shutil.copyfile(whole, staged)
        staged.replace(target)
    return known


def _flags() -> list[str]:
    own = shlex.split(os.environ.get("CFLAGS", ""))
    return [*own, *FLAGS]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as problem:
        raise BuildFailed(f"{command[0]} could not be started: {problem}") from problem
    if done.returncode:
        raise BuildFailed(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stderr}")


def platform_tag() -> str:
    """Tag of a wheel for this platform and any Python 3: the kernel knows nothing of Python."""
    system = os.environ.get("_PYTHON_HOST_PLATFORM") or sysconfig.get_platform()
    return "py3-none-" + system.replace("-", "_").replace(".", "_")


class KernelHook(BuildHookInterface):  # type: ignore[misc]
    """Puts the kernel into wheels and editable installs, where one can be compiled."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the files are collected."""
        self._folder = tempfile.TemporaryDirectory()
        wish = os.environ.get("RECOLLECT_BUILD_KERNEL", "")
        # An editable install runs from the source tree, so the kernel goes there.
        editable = version == "editable"
        folder = NATIVE if editable else Path(self._folder.name)
        built = folder / LIBRARY
        if editable:
            for name in (LIBRARY, *SMALL):
                (folder / name).unlink(missing_ok=True)
        if wish == "0":
            return
        try:
            known = compile_kernel(built)
            small = compile_small(folder)
        except BuildFailed as problem:
            if wish == "1":
                raise
            self.app.display_warning(f"recollect is built without its compiled kernel: {problem}")
            return
        self.app.display_info(f"the kernel was compiled for {', '.join(known)}")
        build_data["pure_python"] = False
        build_data["tag"] = platform_tag()
        if not editable:
            for library in (built, *small):
                place = f"recollect/index/native/{library.name}"
                build_data["force_include"][str(library)] = place

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Clean up after the files were collected."""
        self._folder.cleanup()


def main() -> int:
    """Compile in place and say how it went."""
    try:
        known = compile_kernel(NATIVE / LIBRARY)
        compile_small(NATIVE)
    except BuildFailed as problem:
        print(f"no kernel: {problem}", file=sys.stderr)
        return 1
    print(f"compiled {NATIVE / LIBRARY} for {', '.join(known)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
