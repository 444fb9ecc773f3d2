"""`hatrace` with a ring of one page, room for 21 finished flows, and lanes that are as short:
``python -m bench.tiny_ring ...``.

Nothing else is changed: it is there to see that what finds no room is counted.
"""

from __future__ import annotations

import mmap
import sys
from dataclasses import replace
from functools import partial

from hatrace import cli
from hatrace.commands import _tracing
from hatrace.kernel.maps import fitting, sockets_here
from hatrace.kernel.probes import attach

if __name__ == "__main__":
    sizes = replace(fitting(sockets_here()), ring_bytes=mmap.PAGESIZE)
    _tracing.attach = partial(attach, sizes=sizes)  # type: ignore[attr-defined]
    sys.argv[0] = "hatrace"
    cli.main()
