"""Answers of the runtime API that are lines of words: `show sess`, `show fd`, the check trace.

They are made for HAProxy's own developers and change with each version, so only words that
2.2 to 3.4 share are read, each by its name and none by its place.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass

from hatrace.model.event import Descriptor, Stream

_UNIT_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_PART = re.compile(r"(\d+)(ms|[dhms])")
_SIDE = re.compile(r"\b(?:scf|s0)=\[[^\]]*?fd=(-?\d+)|\b(?:scb|s1)=\[[^\]]*?fd=(-?\d+)")
_WORD = re.compile(r"(?:^|\s)([\w.]+)=(\S*)")
AGE_LIMIT_MS = 30 * _UNIT_MS["d"]
"""`show sess` of 2.9 to 3.1 prints 20778d or 49d for streams without a full request (fixed by
1cdf2869f): an age above this is taken for that."""
IDLE_FLAGS = 0x2 | 0x4
"""CO_FL_SAFE_LIST and CO_FL_IDLE_LIST in `cflg`: the connection is in an idle pool."""


def streams(text: str) -> tuple[Stream, ...]:
    """`show sess`: every stream but those of command-line sockets, one a line."""
    found = (_stream(line) for line in whole_lines(text) if line.startswith("0x"))
    return tuple(stream for stream in found if stream.frontend not in ("GLOBAL", "MASTER"))


def whole_lines(text: str) -> list[str]:
    """Without a last line that was cut."""
    return text[: text.rfind("\n") + 1].splitlines()


def _stream(line: str) -> Stream:
    words = dict(_WORD.findall(line))
    fds: list[int | None] = [None, None]
    for match in _SIDE.finditer(line):
        side = 0 if match[1] is not None else 1
        fd = int(match[1] or match[2])
        fds[side] = fd if fd >= 0 else None
    age_ms = duration_ms(words.get("age", ""))
    return Stream(
        pointer=line.partition(":")[0],
        source=words.get("src", ""),
        frontend=_name(words.get("fe")),
        backend=_name(words.get("be")),
        server=_name(words.get("srv")),
        front_fd=fds[0],
        back_fd=fds[1],
        expires_ms=_expiry(line),
        age_ms=age_ms if age_ms is not None and age_ms < AGE_LIMIT_MS else None,
    )


def _name(text: str | None) -> str:
    return "" if text in (None, "<NONE>", "<none>", "?") else str(text)


def _expiry(line: str) -> int | None:
    """``exp=54s``, ``exp=<PAST>`` (negative: it is past), ``exp=<NEVER>`` or nothing."""
    text = re.search(r"\sexp=(\S*)", line)
    if text is None:
        return None
    return -1 if text[1] == "<PAST>" else duration_ms(text[1])


def duration_ms(text: str) -> int | None:
    """``3s``, ``4m12s``, ``1d2h``; None for anything else."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(int(number) * _UNIT_MS[unit] for number, unit in parts)


def descriptors(
    text: str,
    back_fds: Container[int] | None = None,
    labels: Container[str] = frozenset(),
) -> tuple[Descriptor, ...]:
    """`show fd`: what HAProxy takes each fd for.

    A check over HTTP says so (its stream endpoint calls ``srv_chk_io_cb``).  One over plain
    TCP does not: ``back_fds``, the back fds of `show sess` asked just before, tell them apart.
    A connection to a server that no stream owns and that is not idle is a check's; without
    ``back_fds`` it counts as ``server``.  ``labels``: ``backend/server`` of known servers
    (2.2 prints them the other way round).
    """
    found = (_descriptor(line, back_fds, labels) for line in whole_lines(text))
    return tuple(each for each in found if each is not None)


def _descriptor(
    line: str, back_fds: Container[int] | None, labels: Container[str]
) -> Descriptor | None:
    match = re.match(r"\s*(\d+) : (.*)", line)
    if match is None:
        return None
    words: dict[str, str] = {}
    for name, value in _WORD.findall(match[2]):
        words.setdefault(name, value)
    fd = int(match[1])
    return Descriptor(
        fd=fd,
        kind=_kind(fd, words, line, back_fds),
        server=_label(words, labels),
        frontend=words.get("fe", ""),
        local_port=_port(words.get("lport")),
        remote_port=_port(words.get("rport")),
        suspicious=line.rstrip().endswith("!"),
    )


def _kind(fd: int, words: dict[str, str], line: str, back_fds: Container[int] | None) -> str:
    if "l.st" in words:
        return "listener"
    if words.get("back") == "0":
        return {"GLOBAL": "cli", "MASTER": "master-cli"}.get(words.get("fe", ""), "client")
    if words.get("back") != "1" or "sv" not in words:
        return "other"
    if "srv_chk_io_cb" in line:
        return "check"
    if "sc_conn_io_cb" in line or back_fds is None or fd in back_fds or _is_unused(words):
        return "server"
    return "check"


PASS = "PASS"
"""The multiplexer without one: a plain TCP stream."""


def _is_unused(words: dict[str, str]) -> bool:
    """An idle connection, or one of a multiplexer without an exchange: data's, not a check's."""
    flags = words.get("cflg", "0x0")
    idle = int(flags, 16) & IDLE_FLAGS if re.fullmatch(r"0x[0-9a-fA-F]+", flags) else 0
    return bool(idle) or (words.get("mux", PASS) != PASS and "h1s" not in words)


def _label(words: dict[str, str], labels: Container[str]) -> str:
    """Up to 2.3 ``sv=`` has the server first; those versions call ``conn_fd_handler``."""
    label = words.get("sv", "")
    first, _, second = label.partition("/")
    turned = f"{second}/{first}"
    old = labels == frozenset() and "conn_fd_handler" in words.get("iocb", "")
    return turned if label and label not in labels and (turned in labels or old) else label


def _port(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and text != "0" else None


@dataclass(frozen=True, slots=True)
class CheckLine:
    """A line of the check trace: ``server`` is the bare name, HAProxy does not print more."""

    server: str
    agent: bool
    action: str
    """``init new health-check``, ``health-check complete or aborted`` ..."""
    text: str
    """From the action on, without the pointers."""


_CHECK = re.compile(
    r"\[\d+\|check\|\d\|[^\]]*\] (?P<text>(?P<action>.*?) : \[(?P<kind>[HA])\] SRV=(?P<srv>\S+)"
    r".*?)(?: check=0x.*)?$"
)
_DROPPED = re.compile(r"(\d+) events? dropped")


def check_lines(text: str) -> Iterator[CheckLine]:
    """`show events` of a sink that `trace check` writes to; other lines are passed over."""
    for line in text.splitlines():
        match = _CHECK.search(line)
        if match is not None:
            yield CheckLine(match["srv"], match["kind"] == "A", match["action"], match["text"])


def dropped_events(text: str) -> int:
    """How many events HAProxy says, in the feed itself, that it had to drop."""
    return sum(int(number) for number in _DROPPED.findall(text))
