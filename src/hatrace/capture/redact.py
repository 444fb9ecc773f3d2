"""Redaction: names and addresses become tokens which still join, before anything is judged.

Events are redacted at their source, so the whole way through, the findings and the capture
only ever meet tokens.  A token is a keyed hash (BLAKE2s); the key is random for each capture
and is kept nowhere.  The same name gives the same token within one capture, in no other.

Kept: ports, pids, fds, inodes, times, counts, states, versions, limits, timeouts; loopback
and unspecified addresses; the names in `KEPT_NAMES`; the system's error messages.
Tokens: every other string, unless `_KEPT` names its field.  A field added later is redacted.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
import secrets
import struct
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import lru_cache
from hashlib import blake2s
from typing import Any, TypeVar

from hatrace.capture.writer import Writer
from hatrace.model import event as ev
from hatrace.model import topology as topo
from hatrace.model.address import V4_PREFIX, is_unspecified, packed, printable
from hatrace.model.capture_info import CaptureInfo, Scope
from hatrace.model.columns import Columns
from hatrace.model.finding import FindingChange
from hatrace.model.flow import FIELDS, LAYOUT

T = TypeVar("T", bound=ev.Event)

V4_TOKENS = ipaddress.IPv6Address("2001:db8:4::").packed[:6]
V6_TOKENS = ipaddress.IPv6Address("2001:db8:6::").packed[:6]
"""Addresses become documentation ones (RFC 3849): they cannot be anybody's, and one still
sees which were IPv4."""

KEPT_NAMES = frozenset({"", "haproxy", "hatrace", "unix"})
"""They tell nothing that a capture does not tell anyway."""

_SUFFIX = re.compile(r"(?P<name>.*?)(?P<suffix>\.\d+\.tmp)?", re.DOTALL)
"""A command-line socket's name in the kernel: ``<path>.<pid>.tmp``."""
_ROOT = re.compile(r"/|/proc/\d+/root/?")
_OPTION = re.compile(r"--[A-Za-z][\w-]*|-[A-Za-z]{1,2}")
"""``--timeout``, ``-f``, ``-sf``; a longer word after one dash may be a value: ``-pSecret``."""
_NUMBER = re.compile(r"\d+(\.\d+)?[a-zA-Z]{0,3}")
_ERRORS = sorted({os.strerror(n) for n in range(1, 134)} - {""}, key=len, reverse=True)


class Redactor:
    """One capture's key."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(32)
        self.address = lru_cache(65_536)(self._address)
        self.name = lru_cache(65_536)(self._name)

    def events(self, events: Iterable[ev.Event]) -> Iterator[ev.Event]:
        """The same events, redacted."""
        return map(self.event, events)

    def event(self, event: T) -> T:
        if isinstance(event, ev.Open):
            return dataclasses.replace(event, records=self.records(event.records))
        if isinstance(event, ev.Finished):
            records = self.records(event.flows.records())
            return dataclasses.replace(event, flows=Columns.of(records))
        redacted: T = self._object(event)
        return redacted

    def info(self, info: CaptureInfo) -> CaptureInfo:
        """The header: who and where is gone, what was measured how stays."""
        return dataclasses.replace(
            info,
            host=self.name(info.host),
            scope=Scope(info.scope.kind, tuple(map(self.word, info.scope.values))),
            command_line=tuple(map(self.word, info.command_line)),
            redacted=True,
        )

    def records(self, records: bytes) -> bytes:
        """Packed flows with both addresses and the process's name replaced."""
        patched = bytearray(records)
        for start in range(0, len(patched), LAYOUT.size):
            for offset, replace in (
                (_LADDR, self.address),
                (_RADDR, self.address),
                (_COMM, self._comm),
            ):
                at = slice(start + offset, start + offset + 16)
                patched[at] = replace(bytes(patched[at]))
        return bytes(patched)

    def words(self, text: str) -> str:
        """A command line: options and numbers stay."""
        return " ".join(map(self.word, text.split(" ")))

    def word(self, text: str) -> str:
        if _OPTION.fullmatch(text) or _NUMBER.fullmatch(text):
            return text
        option, equals, value = text.partition("=")
        if equals and _OPTION.fullmatch(option):
            return f"{option}={self.word(value)}"
        return self.path(text)

    def path(self, text: str) -> str:
        """A file or abstract socket, an address, or ``address:port``; a kernel name's suffix
        stays."""
        host, colon, port = text.rpartition(":")
        if colon and port.isdigit() and not _is_address(text):
            return f"{self.host(host)}:{port}"
        if _ROOT.fullmatch(text):
            return text
        if _is_address(text):
            return self.address_text(text)
        match = _SUFFIX.fullmatch(text)
        name, suffix = match.group("name", "suffix") if match else (text, None)
        mark = name[0] if name[:1] in ("/", "@") else ""
        return mark + self.name(name) + (suffix or "")

    def host(self, text: str) -> str:
        """What stands before a port: an address (IPv6 in brackets), or a name like ``unix``."""
        bare = text.removeprefix("[").removesuffix("]")
        if not _is_address(bare):
            return self.name(text)
        token = self.address_text(bare)
        return f"[{token}]" if ":" in token else token

    def address_text(self, text: str) -> str:
        return printable(self.address(packed(text)))

    def status(self, text: str) -> str:
        """``MAINT``, ``UP 1/3``; the server behind ``(via backend/server)`` goes."""
        return text.partition("(")[0].rstrip()

    def label(self, text: str) -> str:
        """``backend/server``: each part joins with the same name elsewhere."""
        return "/".join(map(self.name, text.split("/")))

    def message(self, text: str) -> str:
        """Free text: a token, and the system's error in it, if there is one."""
        known = next((error for error in _ERRORS if error in text), "")
        return " ".join(part for part in (known, self.name(text)) if part)

    def info_values(self, values: dict[str, str]) -> dict[str, str]:
        """`show info`: numbers, versions and dates stay, and what HAProxy calls itself."""
        return {
            key: value if key in _INFO_WORDS or _NUMBER.fullmatch(value) else self.name(value)
            for key, value in values.items()
        }

    def _comm(self, padded: bytes) -> bytes:
        name = padded.rstrip(b"\0").decode(errors="replace")
        return self.name(name).encode()[:15].ljust(16, b"\0")

    def _name(self, text: str) -> str:
        if text in KEPT_NAMES:
            return text
        return "x" + self._hash(text.encode(errors="surrogatepass"), 5).hex()

    def _address(self, address: bytes) -> bytes:
        if is_unspecified(address) or ipaddress.ip_address(printable(address)).is_loopback:
            return address
        prefix = V4_TOKENS if address.startswith(V4_PREFIX) else V6_TOKENS
        return prefix + self._hash(address, 10)

    def _hash(self, data: bytes, size_bytes: int) -> bytes:
        return blake2s(data, key=self._key, digest_size=size_bytes).digest()

    def _object(self, value: Any) -> Any:
        """A dataclass with each field by its rule."""
        changed = {
            field.name: self._field(type(value), field.name, getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
        return type(value)(**changed)

    def _field(self, kind: type, name: str, value: Any) -> Any:
        rule = _RULES.get((kind, name))
        if (kind, name) in _KEPT:
            return value
        return self._value(value, Redactor.name_of if rule is None else rule)

    def _value(self, value: Any, rule: Callable[[Redactor, Any], Any]) -> Any:
        if value is None or isinstance(value, int | float | Enum):
            return value
        if isinstance(value, bytes):
            return self.address(value)
        if dataclasses.is_dataclass(value):
            return self._object(value)
        if isinstance(value, tuple):
            return tuple(self._value(part, rule) for part in value)
        if isinstance(value, dict) and rule is not Redactor.info_values:
            return {key: self._value(part, rule) for key, part in value.items()}
        return rule(self, value)

    def name_of(self, text: str) -> str:
        return self.name(text)


class RedactedRecorder:
    """Records what another recorder keeps, redacted.

    Findings are left out: their sentences quote names.  A replay concludes them again.
    """

    def __init__(self, recorder: Writer, redactor: Redactor) -> None:
        self._recorder, self._redactor = recorder, redactor

    def write(self, event: ev.Event) -> None:
        self._recorder.write(self._redactor.event(event))

    def found(self, change: FindingChange) -> None:
        return


def _is_address(text: str) -> bool:
    try:
        packed(text)
    except ValueError:
        return False
    return True


def _offset(name: str) -> int:
    """Where a field lies in a packed flow, in bytes."""
    names = [field.name for field in FIELDS]
    before = FIELDS[: names.index(name)]
    return struct.calcsize("<" + "".join(field.code for field in before))


_LADDR, _RADDR, _COMM = map(_offset, ("laddr", "raddr", "comm"))

_INFO_WORDS = frozenset(
    {"Name", "Version", "Release_date", "Uptime", "Build info", "Stopping", "Maxpipes"}
)

_KEPT: frozenset[tuple[type, str]] = frozenset(
    {
        (topo.Process, "version"),
        (topo.CheckSettings, "kind"),
        (topo.Server, "mode"),
        (topo.Server, "check_status"),
        (topo.Bind, "mode"),
        (topo.Endpoint, "kind"),
        (ev.Configured, "options"),
        (ev.Stream, "pointer"),
        (ev.Descriptor, "kind"),
        (ev.Trouble, "source"),
    }
)
"""Strings that come from a fixed set of words of HAProxy or of hatrace."""

_RULES: dict[tuple[type, str], Callable[[Redactor, Any], Any]] = {
    (topo.CommandSocket, "path"): Redactor.path,
    (topo.Process, "config_files"): Redactor.path,
    (topo.Process, "command_line"): Redactor.word,
    (topo.Process, "root"): Redactor.path,
    (topo.Server, "status"): Redactor.status,
    (topo.Endpoint, "name"): Redactor.label,
    (ev.UnixSocket, "path"): Redactor.path,
    (ev.CommandSockets, "names"): Redactor.words,
    (ev.Info, "values"): Redactor.info_values,
    (ev.Stream, "source"): Redactor.path,
    (ev.Descriptor, "server"): Redactor.label,
    (ev.CheckResult, "server"): Redactor.label,
    (ev.Action, "command"): Redactor.words,
    (ev.Action, "result"): Redactor.message,
    (ev.Trouble, "subject"): Redactor.path,
    (ev.Trouble, "why"): Redactor.message,
    (ev.Trouble, "do"): Redactor.message,
}
"""How other strings are taken apart before; those without a rule become one token each."""
