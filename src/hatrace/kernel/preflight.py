"""Can it run here?  Asked of each rung by trying a hook of each kind.

A no explains itself in one sentence.  Nothing stays attached: every fd is closed again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hatrace.errors import EnvironmentLacks
from hatrace.kernel import bpf, walk
from hatrace.kernel.btf import Btf, maps_may_grow
from hatrace.kernel.kprobes import admin_only, open_kprobe
from hatrace.kernel.rungs import LADDER, Hook, Rung, Via

NETLINK = "netlink"
"""The rung below all others: sock_diag and /proc, no BPF."""

_READ = "bfa1000000000000 07010000f8ffffff b702000008000000 b703000000000000 8500000071000000"
"""r1 = r10 - 8; r2 = 8; r3 = 0; call bpf_probe_read_kernel (113): what every hook does first."""
_READ_RETURN_0 = bytes.fromhex(_READ + "b700000000000000 9500000000000000")
_READ_RETURN_1 = bytes.fromhex(_READ + "b700000001000000 9500000000000000")
_ANCESTOR_CGROUP = bytes.fromhex(
    "b701000000000000 850000007b000000 b700000000000000 9500000000000000"
)
"""r1 = 0; call bpf_get_current_ancestor_cgroup_id (123); return 0."""

_CAPABILITIES = {1: "CAP_DAC_OVERRIDE", 2: "CAP_DAC_READ_SEARCH", 5: "CAP_KILL"}
_CAPABILITIES |= {12: "CAP_NET_ADMIN", 19: "CAP_SYS_PTRACE", 21: "CAP_SYS_ADMIN"}
_CAPABILITIES |= {38: "CAP_PERFMON", 39: "CAP_BPF"}
VMLINUX_BTF = Path("/sys/kernel/btf/vmlinux")
_LOCKDOWN = Path("/sys/kernel/security/lockdown")
_HOST_PIDS = 0xEFFFFFFC
"""PROC_PID_INIT_INO, include/linux/proc_ns.h."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a rung works here; ``why`` not, and what to ``do``."""

    rung: str
    works: bool
    why: str = ""
    do: str = ""


def cgroup_mount() -> Path | None:
    """Where the whole of cgroup v2 is mounted, as seen here: a container's part of it is none.

    Only the root has no ``cgroup.events`` (Documentation/admin-guide/cgroup-v2.rst).
    """
    mounts = _cgroup_mounts()
    return next((mount for mount in mounts if not (mount / "cgroup.events").exists()), None)


def why_no_cgroup() -> tuple[str, str]:
    """Why there is no such mount, and what to do."""
    if next(_cgroup_mounts(), None):
        return (
            "only a container's part of cgroup v2 is mounted here, and hooks there see no others",
            "run it on the host, or with the host's: docker run --cgroupns=host --privileged",
        )
    do = "mount -t cgroup2 none /run/cgroup2  (after mkdir; umount it when done)"
    return "no cgroup v2 is mounted", do


def _cgroup_mounts() -> Iterator[Path]:
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, where, kind, *_ = line.split(" ")
        if kind == "cgroup2" and Path(where).is_dir():
            yield Path(where)


def in_host_pids() -> bool:
    """Whether pids here are those of the host: BPF programs know no others."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino == _HOST_PIDS
    except OSError:
        return False


def capabilities() -> frozenset[str]:
    """The effective capabilities that matter here."""
    lines = Path("/proc/self/status").read_text().splitlines()
    mask = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
    return frozenset(name for bit, name in _CAPABILITIES.items() if mask >> bit & 1)


def has_btf() -> bool:
    """Whether the kernel tells its types; a file that hides them is empty."""
    with contextlib.suppress(OSError):
        return VMLINUX_BTF.stat().st_size > 0 and os.access(VMLINUX_BTF, os.R_OK)
    return False


def needed(rung: Rung) -> frozenset[str]:
    """The capabilities a process without root needs for a rung on this kernel."""
    by_perf = any(hook.via is Via.KPROBE for hook in rung.hooks)
    return frozenset({"CAP_SYS_ADMIN"}) if by_perf and admin_only() else rung.capabilities


def lockdown() -> str:
    """``none``, ``integrity``, ``confidentiality``; ``unknown`` if securityfs is not mounted."""
    try:
        words = _LOCKDOWN.read_text()
    except OSError:
        return "unknown"
    return words.partition("[")[2].partition("]")[0] or "unknown"


def ask(rung: Rung) -> Answer:
    """Whether a rung's hooks can be attached by this process, on this kernel."""
    for condition in (_may_use_bpf, _has_host_pids, _has_btf, _has_cgroup, _is_quiet):
        if answer := condition(rung):
            return answer
    why = refusal(rung)
    if why and lockdown() == "confidentiality":
        why = f"lockdown is `confidentiality`: no BPF program may read kernel memory ({why})"
    return Answer(rung.name, not why, why)


def refusal(rung: Rung) -> str:
    """What the kernel says to the first hook of each kind; empty: they attach.

    Of the others it is asked whether their targets exist: functions may be inlined or left out.
    """
    bpf.unlimit_memory()
    needed = [hook for hook in reversed(rung.hooks) if not hook.optional]
    first_of_a_kind = {hook.via: hook for hook in needed}
    btf = Btf()
    try:
        for hook in needed:
            if hook.via.typed or hook.via is Via.KPROBE:
                btf.target(hook.via, hook.target)
        for hook in first_of_a_kind.values():
            if why := _try(hook, btf):
                return f"{hook.via} {hook.target}: {why}"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def ladder() -> tuple[Answer, ...]:
    """Every rung, best first, the one without BPF last."""
    return (*(ask(rung) for rung in LADDER), Answer(NETLINK, True))


def why_none() -> EnvironmentLacks:
    """Why no BPF rung works here: what the one that needs least says."""
    answer = ask(LADDER[-1])
    return EnvironmentLacks(
        f"the `{answer.rung}` rung cannot run here", answer.why, answer.do or "hatrace doctor"
    )


def choose(name: str | None = None) -> Rung | None:
    """The rung to take: the named one or the best that works; None stands for ``netlink``.

    Raises EnvironmentLacks if the named rung cannot run here.
    """
    if name == NETLINK:
        return None
    for rung in LADDER:
        if name in (None, rung.name):
            answer = ask(rung)
            if answer.works:
                return rung
            if name:
                raise EnvironmentLacks(
                    f"the `{name}` rung cannot run here", answer.why, answer.do or "hatrace doctor"
                )
    return None


def _may_use_bpf(rung: Rung) -> Answer | None:
    held = capabilities()
    if "CAP_SYS_ADMIN" in held or needed(rung) <= held:
        return None
    missing = ", ".join(sorted(needed(rung) - held))
    return Answer(rung.name, False, f"this process lacks {missing}", "run it as root (sudo)")


def _has_btf(rung: Rung) -> Answer | None:
    if has_btf():
        return None
    return Answer(rung.name, False, "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)")


def _has_host_pids(rung: Rung) -> Answer | None:
    if in_host_pids():
        return None
    return Answer(
        rung.name,
        False,
        "this is a pid namespace of its own (a container), and BPF tells the host's pids",
        "run it on the host, or with the host's pids: docker run --pid=host --privileged",
    )


def _has_cgroup(rung: Rung) -> Answer | None:
    if not rung.needs_cgroup or cgroup_mount():
        return None
    return Answer(rung.name, False, *why_no_cgroup())


def _is_quiet(rung: Rung) -> Answer | None:
    """A warning of the kernel's taints it, and is a panic where panic_on_warn is set."""
    if maps_may_grow() or not any(hook.via is Via.KPROBE for hook in rung.hooks):
        return None
    return Answer(
        rung.name,
        False,
        "before 6.1 the kernel warns, with a stack trace, of kprobes whose maps take memory as "
        "they grow",
    )


def _try(hook: Hook, btf: Btf, code: bytes = b"") -> str:
    """Attach a program that reads kernel memory, or ``code``, for a moment; empty: it worked."""
    opened: list[int] = []
    try:
        code = code or (_READ_RETURN_1 if hook.via is Via.CGROUP else _READ_RETURN_0)
        opened.append(_load(hook, btf, code))
        if hook.via is Via.RUN:
            walk.run(opened[0])
        if link := _LINKS.get(hook.via):
            opened.append(link(opened[0], hook))
    except OSError as error:
        return _first_words(error)
    finally:
        for fd in opened:
            os.close(fd)
    return ""


def _load(hook: Hook, btf: Btf, code: bytes) -> int:
    name = "hatrace_ask"
    if hook.via is Via.RUN:
        return walk.load(code, name)
    attach_type = 0 if hook.via is Via.KPROBE else hook.attach_type
    target = btf.target(hook.via, hook.target) if hook.via.typed else 0
    return bpf.load_program(hook.program_type, code, name, attach_type, target)


def knows_ancestor_cgroup(btf: Btf) -> bool:
    """Whether tracing programs may call bpf_get_current_ancestor_cgroup_id (kernel 5.15)."""
    hook = next(hook for hook in LADDER[0].hooks if hook.via is Via.TRACEPOINT)
    return not _try(hook, btf, _ANCESTOR_CGROUP)


def _first_words(error: OSError) -> str:
    """The errno's text, without the verifier's statistics."""
    return (error.strerror or str(error)).split("; processed")[0]


def _link_cgroup(program: int, hook: Hook) -> int:
    directory = os.open(cgroup_mount() or "/", os.O_RDONLY)
    try:
        return bpf.link_cgroup(program, directory, hook.attach_type)
    finally:
        os.close(directory)


_LINKS: dict[Via, Callable[[int, Hook], int]] = {
    Via.CGROUP: _link_cgroup,
    Via.TRACEPOINT: lambda program, _: bpf.open_tracing(program),
    Via.FENTRY: lambda program, _: bpf.open_tracing(program),
    Via.FEXIT: lambda program, _: bpf.open_tracing(program),
    Via.KPROBE: lambda program, hook: open_kprobe(program, hook.target),
}
