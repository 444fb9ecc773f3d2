"""Words of HAProxy's configuration language: lines, times, addresses.

Source: the configuration manual, 2.2 "Quoting and escaping", 2.3 "Environment variables",
2.5 "Time format", 11 "Address formats".  What cannot be read is None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hatrace.model.address import UNSPECIFIED, V4_PREFIX, packed

_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
_VARIABLE = re.compile(r"\$(?:\{(\w+)(\[\*\])?(?:-([^}]*))?\}|(\w+))")
_TIME = re.compile(r"(\d+)(us|ms|s|m|h|d)?")
_UNIT_MS = {"us": 0.001, "ms": 1, None: 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_FAMILY = re.compile(r"(?:(stream|dgram)\+)?(\w+)@(.*)", re.DOTALL)
_DATAGRAM = ("udp", "quic")
_STREAM = ("ipv4", "ipv6", "tcp", "tcp4", "tcp6", "mptcp", "mptcp4", "mptcp6")


def word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


def words(line: str, environment: Mapping[str, str]) -> list[str]:
    """One line as HAProxy splits it: quotes, escapes, comments; variables in double quotes.

    A variable that is not in ``environment`` stays as it is written.
    """
    found: list[str] = []
    word: str | None = None
    quote = ""
    rest = iter(range(len(line)))
    for at in rest:
        char = line[at]
        if char == "\\" and quote != "'":
            word = (word or "") + _escaped(line, at, rest)
        elif char == quote:
            quote = ""
        elif not quote and char in "\"'":
            quote, word = char, word or ""
        elif not quote and char == "#":
            break
        elif not quote and char.isspace():
            if word is not None:
                found.append(word)
            word = None
        elif char == "$" and quote == '"' and (name := _VARIABLE.match(line, at)):
            word = (word or "") + _value(name, environment)
            for _ in range(name.end() - at - 1):
                next(rest)
        else:
            word = (word or "") + char
    return [*found, word] if word is not None else found


def _escaped(line: str, at: int, rest: Iterator[int]) -> str:
    """What the escape at ``at`` stands for; moves ``rest`` past it."""
    char = line[at + 1 : at + 2]
    if not char:
        return ""
    next(rest)
    if char == "x" and re.fullmatch(r"[0-9a-fA-F]{2}", line[at + 2 : at + 4]):
        next(rest), next(rest)
        return chr(int(line[at + 2 : at + 4], 16))
    return _ESCAPES.get(char, char)


def _value(name: re.Match[str], environment: Mapping[str, str]) -> str:
    variable = name[1] or name[4]
    return environment.get(variable, name[3] if name[3] is not None else name[0])


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """An address may name variables without quotes (deprecated, but still read)."""
    return _VARIABLE.sub(lambda name: _value(name, environment), text)


def milliseconds(text: str) -> int | None:
    """``500``, ``2s``, ``1m`` ...; None for anything else."""
    match = _TIME.fullmatch(text)
    return int(int(match[1]) * _UNIT_MS[match[2]]) if match else None


def number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


@dataclass(frozen=True, slots=True)
class Address:
    """A socket's address as configured.  ``path``: AF_UNIX; abstract ones as ``@name``."""

    stream: bool = True
    path: str | None = None
    host: bytes | None = None
    """None: a name, or not readable."""
    low: int | None = None
    high: int | None = None
    """Ports from low to high; None: no port given, or not readable."""


def address(text: str) -> Address | None:
    """None for what is no address of a socket: ``fd@``, ``sockpair@``, ``ring@`` ..."""
    family = _FAMILY.fullmatch(text)
    stream = True
    if family:
        transport, name, text = family.groups()
        stream = transport != "dgram" and not name.startswith(_DATAGRAM)
        if name in ("unix", "uxst"):
            return Address(path=text)
        if name == "abns":
            return Address(path=f"@{text}")
        if stream and name not in _STREAM:
            return None
    elif text.startswith("/"):
        return Address(path=text)
    host, ports = _split(text)
    low, _, high = ports.partition("-")
    return Address(stream, None, _host(host), number(low), number(high or low))


def _split(text: str) -> tuple[str, str]:
    """The port follows the last colon; an IPv6 address without a port stays whole."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(":")
    if text.count(":") > 1 and _host(text) is not None and not text.startswith(":::"):
        head, _, last = text.rpartition(":")
        return (head, last) if _is_port(last) and _host(head) is not None else (text, "")
    head, colon, last = text.rpartition(":")
    return (head, last) if colon else (text, "")


def _is_port(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?\d+(-\d+)?", text))


def _host(text: str) -> bytes | None:
    if text in ("", "*"):
        return V4_PREFIX + bytes(4)
    if text == "::":
        return UNSPECIFIED
    try:
        return packed(text)
    except ValueError:
        return None
