"""Options that several commands share: which processes, how long, how to print."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from hatrace.errors import UsageError
from hatrace.model.capture_info import Scope, ScopeKind

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST_S = 100 * 365 * 86400.0
"""A hundred years; time.sleep() takes three times that."""
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class Duration(click.ParamType[float]):
    """``30s``, ``5m``, ``1h``, ``500ms``; a bare number is seconds.  Gives seconds."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)?", str(value))
        seconds = float(found[1]) * _UNITS[found[2] or "s"] if found else 0.0
        if not 0 < seconds <= LONGEST_S:
            self.fail(f"{value!r} is no duration: write 30s, 5m or 1h", param, ctx)
        return seconds


class Size(click.ParamType[int]):
    """``500k``, ``20m``, ``1g``; a bare number is bytes.  Gives bytes."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        found = re.fullmatch(r"([0-9]{1,18})([kmg]?)b?", str(value).lower())
        if not found or int(found[1]) == 0:
            self.fail(f"{value!r} is no size: write 500k, 20m or 1g", param, ctx)
        return int(found[1]) * _SIZES[found[2]]


def scope_options(command: F) -> F:
    """``--pid``, ``--comm``, ``--cgroup``, ``--all``; at most one kind."""
    for option in (
        click.option("--all", "everybody", is_flag=True, help="Every process of this host."),
        click.option("--cgroup", metavar="DIR", help="Processes of this cgroup v2 directory."),
        click.option("--comm", multiple=True, metavar="NAME", help="Processes of this name."),
        click.option(
            "--pid", multiple=True, type=click.IntRange(1), help="This process and its children."
        ),
    ):
        command = option(command)
    return command


def cost_options(command: F) -> F:
    """``--max-cpu`` and ``--no-bpf-stats``: what hatrace itself may cost, and how that is told."""
    for option in (
        click.option(
            "--no-bpf-stats",
            is_flag=True,
            help="Never have the kernel time BPF programs (else a second in 30).",
        ),
        click.option(
            "--max-cpu",
            metavar="PERCENT",
            type=click.FloatRange(0.1, 10_000),
            help="Of one CPU, for hatrace: detail goes before it takes more, findings never.",
        ),
    ):
        command = option(command)
    return command


def share(percent: float | None) -> float | None:
    """``--max-cpu`` as a part of one CPU."""
    if percent is not None and math.isnan(percent):  # it is above and below any limit
        raise UsageError("--max-cpu nan", "it is no number", "give a percentage: 5")
    return None if percent is None else percent / 100


def duration_option(command: F) -> F:
    return click.option(
        "-d", "--duration", type=Duration(), help="Stop after this time: 30s, 5m ..."
    )(command)


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="JSON lines, for machines.")(
        command
    )


def rung_option(command: F) -> F:
    return click.option(
        "--rung",
        type=click.Choice(["fentry", "kprobe", "cgroup", "netlink"]),
        help="How to look into the kernel; the best that works, if not given.",
    )(command)


def logs_option(command: F) -> F:
    return click.option(
        "--logs",
        metavar="auto|none|FILE",
        default="none",
        show_default=True,
        help="HAProxy's log lines as evidence; auto: from its rings, a file it names or the "
        "journal.  An access log of thousands of lines a second costs what it costs.",
    )(command)


def scope(
    pid: tuple[int, ...], comm: tuple[str, ...], cgroup: str | None, everybody: bool
) -> Scope:
    """The scope that these options ask for; HAProxy's processes if none."""
    asked = [
        Scope(ScopeKind.PID, tuple(map(str, pid))) if pid else None,
        Scope(ScopeKind.COMM, comm) if comm else None,
        None if cgroup is None else Scope(ScopeKind.CGROUP, (cgroup,)),
        Scope(ScopeKind.ALL) if everybody else None,
    ]
    given = [one for one in asked if one]
    if len(given) > 1:
        raise UsageError(
            "two scopes at once",
            " and ".join(f"--{one.kind}" for one in given),
            "give one of --pid, --comm, --cgroup and --all",
        )
    return given[0] if given else Scope()
