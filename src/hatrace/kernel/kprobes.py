"""Kprobes through perf_event_open(2): gone when the fd is closed, no tracefs needed.

Layout: ``struct perf_event_attr``, include/uapi/linux/perf_event.h; the ``kprobe`` PMU takes the
function's name in config1 (kernel 4.17).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import struct
from pathlib import Path

_PMU = Path("/sys/bus/event_source/devices/kprobe")
_PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
_ENABLE, _SET_BPF = 0x2400, 0x40042408
_ATTR_BYTES = 112
_CLOSE_ON_EXEC = 8


def admin_only() -> bool:
    """Whether kernel.perf_event_paranoid is above 2, a level of Debian's and Ubuntu's kernels:
    then CAP_PERFMON is not enough for perf_event_open, and CAP_SYS_ADMIN is needed."""
    with contextlib.suppress(OSError, ValueError):
        return int(_PARANOID.read_text()) > 2
    return False


def open_kprobe(program: int, function: str) -> int:
    """Attach a kprobe program; returns the perf event's fd.  Raises OSError."""
    try:
        kind = int((_PMU / "type").read_text())
    except OSError:
        raise OSError(errno.ENOENT, "this kernel has no kprobes (CONFIG_KPROBE_EVENTS)") from None
    name = ctypes.create_string_buffer(function.encode())
    attr = struct.pack(
        "<IIQQQQQIIQQ",
        kind,
        _ATTR_BYTES,
        0,
        1,
        0,
        0,
        0,
        1,
        0,
        ctypes.addressof(name),
        0,
    )
    buffer = ctypes.create_string_buffer(attr, _ATTR_BYTES)
    libc = ctypes.CDLL(None, use_errno=True)
    number = _PERF_EVENT_OPEN.get(platform.machine(), 298)
    event = int(libc.syscall(number, buffer, -1, 0, -1, _CLOSE_ON_EXEC))
    if event < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    try:
        fcntl.ioctl(event, _SET_BPF, program)
        fcntl.ioctl(event, _ENABLE, 0)
    except OSError:
        os.close(event)
        raise
    return event
