"""``hatrace doctor``: what works on this host, what does not, why, and what to do."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.util import find_spec

import click

from hatrace.commands import _options as options
from hatrace.haproxy.discovery import Finder
from hatrace.kernel import preflight
from hatrace.kernel.rungs import LADDER
from hatrace.model.topology import Kind
from hatrace.resources import bpf_dir
from hatrace.sinks.text import escape


class Says(StrEnum):
    """How a line of the doctor's begins."""

    WELL = "ok"
    NOTE = "note"
    BAD = "no"


WITHOUT = {
    "CAP_SYS_PTRACE": "of other users' HAProxy neither version nor working directory is known",
    "CAP_DAC_READ_SEARCH": "configuration files closed to this user are not read, nor (it takes "
    "both) other users' fd tables: `netlink` then cannot tell whose a socket is",
    "CAP_DAC_OVERRIDE": "command-line sockets closed to this user are not asked",
    "CAP_SYS_ADMIN": "`netlink` looks into no other network namespace, and the cost of BPF is "
    "not measured",
    "CAP_NET_ADMIN": "`hatrace close` destroys no socket",
    "CAP_KILL": "`hatrace retire` ends no other user's process",
}
"""What a process without root lacks beside what its rung needs; measured: docs/privileges.md."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing examined."""

    says: Says
    subject: str
    text: str
    do: str = ""


@click.command()
@options.json_option
def command(as_json: bool) -> int:
    """What works here, what does not, and why.  Exit code 3 if hatrace cannot run at all."""
    lines = list(examine())
    if as_json:
        click.echo(json.dumps([asdict(line) for line in lines], indent=2))
    else:
        for line in lines:
            click.echo(_printed(line))
    return 3 if any(line.says is Says.BAD for line in lines) else 0


def examine() -> Iterator[Line]:
    """Everything the doctor looks at, in a reader's order."""
    yield Line(Says.WELL, "kernel", f"{platform.release()} {platform.machine()}")
    yield from _privileges()
    yield from _surroundings()
    yield from _rungs()
    yield from _haproxy()


def _privileges() -> Iterator[Line]:
    held = preflight.capabilities()
    names = ", ".join(sorted(held)) or "no capability"
    who = "root" if os.geteuid() == 0 else f"uid {os.geteuid()}"
    lacking = {name: text for name, text in WITHOUT.items() if name not in held}
    if not lacking:
        yield Line(Says.WELL, "privileges", f"{who}, {names}")
        return
    yield Line(Says.NOTE, "privileges", f"{who}, {names}", "run it as root (sudo), or grant more:")
    for name, text in lacking.items():
        yield Line(Says.NOTE, "", f"without {name} {text}")


def _surroundings() -> Iterator[Line]:
    btf = preflight.VMLINUX_BTF
    if preflight.has_btf():
        yield Line(Says.WELL, "BTF", f"{btf}: no kernel headers are needed")
    else:
        yield Line(
            Says.NOTE, "BTF", f"{btf} is missing or empty: no BPF rung works", "a kernel with BTF"
        )
    mount = preflight.cgroup_mount()
    if mount:
        yield Line(Says.WELL, "cgroup v2", str(mount))
    else:
        why, do = preflight.why_no_cgroup()
        yield Line(Says.NOTE, "cgroup v2", f"{why}: the `cgroup` rung cannot run", do)
    if not preflight.in_host_pids():
        text = "a namespace of its own: the pids shown are those that this container sees"
        yield Line(Says.NOTE, "pids", text, "docker run --pid=host shows the host's")
    yield Line(Says.WELL, "lockdown", preflight.lockdown())
    if find_spec("bcc"):
        yield Line(Says.WELL, "bcc", f"installed; C files in {bpf_dir()}")
    else:
        do = "apt-get install python3-bpfcc, and a venv with --system-site-packages"
        yield Line(Says.NOTE, "bcc", "not installed: no BPF rung can be compiled", do)


def _rungs() -> Iterator[Line]:
    """Which rung is taken, and why not a better one: one sentence each."""
    taken = False
    needs = {rung.name: ", ".join(sorted(preflight.needed(rung))) for rung in LADDER}
    for answer in preflight.ladder():
        if not answer.works:
            yield Line(Says.NOTE, f"rung {answer.rung}", answer.why, answer.do)
            continue
        text = "works, and is not needed" if taken else "works: this one is taken"
        if answer.rung == preflight.NETLINK:
            text += "; it samples, and says what it cannot see"
        else:
            text += f"; without root it needs {needs[answer.rung]}"
        yield Line(Says.WELL, f"rung {answer.rung}", text)
        taken = True


def _haproxy() -> Iterator[Line]:
    found = Finder().scan()
    if not found:
        do = "start it, or watch another process: --comm, --pid or --all"
        yield Line(Says.NOTE, "HAProxy", "no process of that name runs here", do)
    for process in found:
        kind = {Kind.OLD_WORKER: "old worker"}.get(process.kind, process.kind.value)
        yield Line(
            Says.WELL,
            "HAProxy",
            f"{kind} pid {process.pid}, version {process.version or 'unknown'}, "
            f"{_unknown(process.fd_used)} of {_unknown(process.fd_limit)} fds",
        )


def _unknown(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _printed(line: Line) -> str:
    text = f"{line.says.value:5} {line.subject:14} {escape(line.text)}"
    return f"{text}\n{'':20} do: {escape(line.do)}" if line.do else text
