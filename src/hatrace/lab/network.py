"""Network: a network namespace of the lab's own, with loopback and settings that harm nobody.

It lives as long as the process that holds it; what is to run in it is started by `nsenter`.
"""

from __future__ import annotations

import fcntl
import shutil
import socket
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from hatrace.errors import EnvironmentLacks
from hatrace.sockets.netlink import namespace_of, within

HOLD = ("unshare", "--net", "sleep", "infinity")
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_REQUEST = struct.Struct("16sh22x")
"""struct ifreq: name, flags."""


def ready(holder: subprocess.Popen[bytes]) -> bool:
    """Whether the process is in its own namespace; raises EnvironmentLacks if it never will."""
    if holder.poll() is not None:
        why = "unshare (util-linux) ended: it needs CAP_SYS_ADMIN"
        raise EnvironmentLacks("the lab gets no network namespace of its own", why, "run as root")
    return namespace_of(holder.pid) not in (None, namespace_of())


def configure(pid: int, settings: Mapping[str, str]) -> None:
    """Bring loopback up, and set what is of this namespace (``net/ipv4/...``).

    Never in hatrace's own: that would be the host's.
    """
    here = namespace_of()

    def work() -> None:
        assert namespace_of() != here
        with socket.socket() as any_socket:
            request = _REQUEST.pack(b"lo", _IFF_UP)
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)
        for name, value in settings.items():
            (Path("/proc/sys") / name).write_text(value)

    within(pid, work)


def inside(pid: int) -> tuple[str, ...]:
    """The words before a command that is to run there."""
    return (shutil.which("nsenter") or "nsenter", f"--net=/proc/{pid}/ns/net", "--")
