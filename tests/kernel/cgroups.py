"""A cgroup v2 of a test's own."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from hatrace.kernel.preflight import cgroup_mount
from hatrace.lab.stage import wait_until


@contextmanager
def new_cgroup(name: str, below: str = "") -> Iterator[Path]:
    """``below``: of one more inside it.  Both are removed when their processes have ended."""
    mount = cgroup_mount()
    assert mount is not None
    folder = mount / f"hatrace-{name}-{os.getpid()}"
    folders = [folder / below, folder] if below else [folder]
    folders[0].mkdir(parents=True)
    yield folder
    for each in folders:
        assert wait_until(partial(removed, each)), each


def removed(folder: Path) -> bool:
    """A process leaves cgroup.procs a moment before the kernel lets go of its cgroup."""
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True
