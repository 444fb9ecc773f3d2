"""`hatrace` with a ring of one page, room for 21 finished flows, and lanes that are as short:
``python -m bench.tiny_ring ...``.

Nothing else is changed: it is there to see that what finds no room is counted.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Collection
from dataclasses import replace

from hatrace import cli
from hatrace.commands import _tracing
from hatrace.kernel.maps import Sizes, fitting


def tiny(sockets: int | None, fd_limits: Collection[int | None] = ()) -> Sizes:
    return replace(fitting(sockets, fd_limits), ring_bytes=mmap.PAGESIZE)


if __name__ == "__main__":
    _tracing.fitting = tiny  # type: ignore[attr-defined]
    sys.argv[0] = "hatrace"
    cli.main()
