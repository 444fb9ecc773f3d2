"""What a scan has found: whole flows, one after the other, in a map that is mapped here."""

from __future__ import annotations

import mmap

from hatrace.kernel.wire import SCAN_LIMIT
from hatrace.model.flow import LAYOUT


class Report:
    """Only what is read of it counts as resident memory; ``fd`` stays the caller's."""

    def __init__(self, fd: int) -> None:
        self._mapped = mmap.mmap(fd, SCAN_LIMIT * LAYOUT.size, prot=mmap.PROT_READ)

    def records(self, count: int) -> bytes:
        """The first so many flows, packed; never more than there is room for."""
        return self._mapped[: count * LAYOUT.size]

    def close(self) -> None:
        self._mapped.close()
