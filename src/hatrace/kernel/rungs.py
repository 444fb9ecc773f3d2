"""The ladder: which sets of hooks there are, best first, and what each cannot see.

A rung is a C file of hooks; what the hooks do is shared (bpf/track.h).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hatrace.kernel import bpf


class Via(StrEnum):
    """How a program gets to its hook."""

    TRACEPOINT = "tp_btf"
    CGROUP = "cgroup"
    FENTRY = "fentry"
    FEXIT = "fexit"
    KPROBE = "kprobe"
    ITERATOR = "iter"
    RUN = "run"
    """No hook: it is run when it is wanted (kernel/walk.py)."""

    @property
    def typed(self) -> bool:
        """Whether its programs are loaded for one thing of the kernel's types."""
        return self not in (Via.CGROUP, Via.KPROBE, Via.RUN)


@dataclass(frozen=True, slots=True)
class Hook:
    """One C function and what it is attached to."""

    function: str
    via: Via
    target: str
    """Tracepoint, kernel function or iterator; for cgroup hooks their name; else what is read."""
    attach_type: int = 0
    """enum bpf_attach_type, include/uapi/linux/bpf.h."""
    optional: bool = False
    """The rung works without it; it then says what is missing."""
    without: str = ""
    """The blind spot where it is missing."""
    source: str = ""
    """The C file of bpf/ that holds the function."""

    @property
    def program_type(self) -> int:
        """Of what is attached."""
        if self.via is Via.CGROUP:
            by_value = self.function == "sock_release"
            return bpf.PROG_CGROUP_SOCK if by_value else bpf.PROG_CGROUP_SOCK_ADDR
        return bpf.PROG_KPROBE if self.via is Via.KPROBE else bpf.PROG_TRACING


@dataclass(frozen=True, slots=True)
class Rung:
    """A set of hooks."""

    name: str
    hooks: tuple[Hook, ...]
    blind_spots: tuple[str, ...]

    @property
    def needs_cgroup(self) -> bool:
        return any(hook.via is Via.CGROUP for hook in self.hooks)

    @property
    def capabilities(self) -> frozenset[str]:
        """What a process without root needs (measured: docs/kernels.md); less is refused."""
        needed = {"CAP_BPF", "CAP_PERFMON"}
        return frozenset(needed | {"CAP_NET_ADMIN"} if self.needs_cgroup else needed)


_TRACE_RAW_TP, _TRACE_FENTRY, _TRACE_FEXIT, _TRACE_ITER = 23, 24, 25, 28


def _tracepoint(name: str) -> Hook:
    return Hook(name, Via.TRACEPOINT, name, _TRACE_RAW_TP, source="tracepoints.bpf.c")


def _cgroup(function: str, attach_type: int, target: str = "") -> Hook:
    target = f"cgroup/{target or function}"
    return Hook(function, Via.CGROUP, target, attach_type, source="cgroup.bpf.c")


_UNIX_SAMPLED = "who connects to a command-line socket is traced, how that ends is sampled"
_NO_UNIX = "connections to command-line sockets shorter than a second are not seen"


def _unix(function: str, via: Via, target: str, attach_type: int = 0) -> Hook:
    return Hook(function, via, target, attach_type, True, _NO_UNIX, "unix.bpf.c")


READERS = (
    Hook("scan", Via.RUN, "flows", source="scan.bpf.c"),
    Hook("inventory", Via.ITERATOR, "task_file", _TRACE_ITER, source="inventory.bpf.c"),
)
FOLLOWERS = (_tracepoint("sched_process_fork"), _tracepoint("task_rename"))
STATES = (
    _tracepoint("inet_sock_set_state"),
    _tracepoint("tcp_destroy_sock"),
    _tracepoint("tcp_receive_reset"),
)

CGROUP = Rung(
    "cgroup",
    (
        *STATES,
        _cgroup("sock_release", 34),
        _cgroup("connect4", 10),
        _cgroup("connect6", 11),
        _cgroup("getpeername", 29, "getpeername4"),
        _cgroup("getpeername", 30, "getpeername6"),
        _unix("connect_unix", Via.CGROUP, "cgroup/connect_unix", 49),
        *FOLLOWERS,
        *READERS,
    ),
    (
        "the owner of a socket accepted without asking for the peer's address (HAProxy asks) "
        "is known from the fd table or at its end, not at accept()",
        _UNIX_SAMPLED,
    ),
)

FENTRY = Rung(
    "fentry",
    (
        *STATES,
        Hook("tcp_connect", Via.FENTRY, "tcp_connect", _TRACE_FENTRY, source="fentry.bpf.c"),
        Hook("inet_csk_accept", Via.FEXIT, "inet_csk_accept", _TRACE_FEXIT, source="fentry.bpf.c"),
        Hook("inet_release", Via.FENTRY, "inet_release", _TRACE_FENTRY, source="fentry.bpf.c"),
        _unix("unix_stream_connect", Via.FENTRY, "unix_stream_connect", _TRACE_FENTRY),
        *FOLLOWERS,
        *READERS,
    ),
    (_UNIX_SAMPLED,),
)

KPROBE = Rung(
    "kprobe",
    (
        *STATES,
        Hook("tcp_connect", Via.KPROBE, "tcp_connect", source="kprobe.bpf.c"),
        Hook("security_sock_graft", Via.KPROBE, "security_sock_graft", source="kprobe.bpf.c"),
        Hook("inet_release", Via.KPROBE, "inet_release", source="kprobe.bpf.c"),
        _unix("kprobe_unix_connect", Via.KPROBE, "unix_stream_connect"),
        *FOLLOWERS,
        *READERS,
    ),
    (
        "on a preemptible kernel, what a process does that takes the CPU from hatrace's own look "
        "may be missed until the next inventory",
        _UNIX_SAMPLED,
    ),
)

LADDER = (FENTRY, KPROBE, CGROUP)
"""Best first.  Below them: ``netlink``, without BPF (hatrace.sockets.sampled)."""
