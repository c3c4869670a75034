"""How a memory begins: in a folder, built aside and moved to its place in one step, or in RAM."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from recollect.errors import InvalidParameter, MemoryExists, WriteFailed
from recollect.memory.catalog import connect, make_tables
from recollect.memory.schema import Configuration
from recollect.memory.segments import sync_folder
from recollect.memory.store import CATALOG, SEGMENTS, Store


def create_folder(folder: Path, config: Configuration, clock: Callable[[], float]) -> None:
    """Make an empty memory: built aside, then moved to its place in one step.

    Raises:
        MemoryExists: There is something at this place.
        WriteFailed: The disk refused.
    """
    folder = folder.resolve()
    name = f".creating-{os.getpid()}-{threading.get_ident()}"
    building = folder.with_name(f".{folder.name}{name}")
    try:
        if folder.exists():
            # It may be a mount point or someone's current folder, so it is filled, not replaced.
            if not folder.is_dir() or any(folder.iterdir()):
                raise _exists(folder)
            building = folder / name
        shutil.rmtree(building, ignore_errors=True)  # of a process that had our number before
        (building / SEGMENTS).mkdir(parents=True)
        db = connect(building / CATALOG, new=True)
        make_tables(db, config, clock)
        db.close()
        sync_folder(building / SEGMENTS)
        sync_folder(building)
        if building.parent == folder:
            (folder / SEGMENTS).mkdir()  # fails if another process was quicker
            (building / CATALOG).rename(folder / CATALOG)
            shutil.rmtree(building)
            sync_folder(folder)
        else:
            building.rename(folder)
        sync_folder(folder.parent)
    except (OSError, sqlite3.Error) as error:
        if isinstance(error, MemoryExists):
            raise
        if isinstance(error, OSError) and error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            raise _exists(folder) from error  # someone made it in the meantime
        raise WriteFailed(
            f"a memory cannot be made at {str(folder)!r}",
            got=str(error),
            remedy="Check that the parent folder is writable and has room.",
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _exists(folder: Path) -> MemoryExists:
    return MemoryExists(
        f"there is something at {str(folder)!r} already",
        expected="a new path, or an empty folder",
        got="a memory" if (folder / CATALOG).exists() else "other files",
        remedy="Open it with Memory.open, or choose another path.",
    )


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def as_folder(uri: Any) -> Path:
    """Return the path of a memory's folder.

    Raises:
        InvalidParameter: It is no path.
    """
    try:
        place: Any = uri or None  # "" would mean the current folder
        # Absolute, so that a later change of the working directory moves no memory.
        folder = Path(place).expanduser().absolute()
        with suppress(FileNotFoundError, NotADirectoryError):
            Path(folder).stat()  # refuses what no file system can name
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        raise InvalidParameter(
            "this is no place for a memory",
            expected="the path of a folder, or ':memory:'",
            got=f"{uri!r:.80} ({error})",
            remedy="Pass a str or a pathlib.Path.",
        ) from error
    if not folder.name or (isinstance(uri, str) and (uri != uri.strip() or _SCHEME.match(uri))):
        raise InvalidParameter(
            "this is no place for a memory",
            expected="the path of a folder on this machine, or ':memory:'",
            got=repr(uri),
            remedy="Leave out blanks at the ends; export to Parquet for an object store.",
        )
    return folder


def create_ram(config: Configuration, clock: Callable[[], float]) -> Store:
    """Make an empty memory that does not outlive the process."""
    store = Store(None, clock=clock)
    store.found(config)
    return store
