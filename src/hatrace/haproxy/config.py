"""HAProxy's configuration files, read for what its command line does not tell.

Tolerant: what is not known here is passed over, what cannot be read is None; HAProxy's own
``-c`` validates.  Both ways of an ``.if`` are read: what they say may not be in force.
Source: the configuration manual of 3.2; older versions say the same with fewer words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import chain, pairwise
from pathlib import Path

from hatrace.haproxy import config_words
from hatrace.haproxy.config_proxy import ConfiguredServer, Proxy
from hatrace.haproxy.config_sections import section
from hatrace.haproxy.config_words import Address, milliseconds, number, word_set
from hatrace.model.setup import Place, Section, Setting
from hatrace.model.topology import Bind, Endpoint, Level, Timeouts

LIMIT_BYTES = 16 << 20
PROXIES = ("defaults", "frontend", "backend", "listen")
SECTIONS = frozenset(PROXIES) | word_set(
    "global peers resolvers ring log-forward log-profile cache userlist mailers program"
    " http-errors fcgi-app crt-store traces acme"
)
TELLING = word_set(
    "tune.disable-zero-copy-forwarding tune.disable-fast-forward noreuseport nosplice"
    " tune.fd.edge-triggered tune.pt.zero-copy-forwarding tune.h1.zero-copy-fwd-recv"
    " tune.h1.zero-copy-fwd-send master-worker nbproc"
)
"""Words of `global` that change what leaks, kept with their value."""


@dataclass(frozen=True, slots=True)
class StatsSocket:
    """A `stats socket`; ``limit`` its own `maxconn`, or `stats maxconn`, or 10."""

    path: str
    level: Level
    limit: int


@dataclass(slots=True)
class Configuration:
    """What one set of files says; paths as HAProxy sees them."""

    servers: dict[str, ConfiguredServer] = field(default_factory=dict)
    """By ``backend/server``."""
    binds: tuple[Bind, ...] = ()
    unread_binds: tuple[str, ...] = ()
    """Those whose address or port cannot be read: names, variables."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    hard_stop_after_ms: int | None = None
    options: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    sockets: tuple[StatsSocket, ...] = ()
    chroot: str | None = None
    general: dict[str, Setting] = field(default_factory=dict)
    """Lines of `global` by keyword; of `stats` by its second word, too."""
    global_place: Place | None = None
    sections: tuple[Section, ...] = ()
    peer_sections: int = 0
    peers: int = 0
    logs: tuple[str, ...] = ()
    """Where it logs to, as configured: ``/dev/log``, ``ring@r1``, ``192.0.2.1:514`` ..."""


def read(
    files: Iterable[Path], environment: Mapping[str, str] | None = None, local_peer: str = ""
) -> Configuration:
    """All of the files, folders in HAProxy's order; raises OSError for one that is unreadable.

    ``environment`` is HAProxy's own; ``local_peer`` the name whose line in `peers` it binds.
    """
    reader = _Reader(dict(environment or {}), local_peer)
    left = LIMIT_BYTES
    for path in chain.from_iterable(map(files_of, files)):
        if not path.is_file():
            why = "is no regular file" if path.exists() else "is not there"
            raise FileNotFoundError(f"{path} {why}")
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            text = file.read(left)
        left -= len(text)
        reader.begin(str(path))
        for line in text.splitlines():
            reader.line(line)
    return reader.result()


def files_of(path: Path) -> tuple[Path, ...]:
    """A folder stands for its ``*.cfg`` in the order of their names, without hidden ones."""
    if not path.is_dir():
        return (path,)
    found = (each for each in path.iterdir() if each.suffix == ".cfg" and each.name[0] != ".")
    return tuple(sorted(found))


class _Reader:
    """Lines in, a `Configuration` out."""

    def __init__(self, environment: dict[str, str], local_peer: str) -> None:
        self._environment = environment
        self._local_peer = local_peer
        self._result = Configuration()
        self._section = ""
        self._name = ""
        self._proxy: Proxy | None = None
        self._proxies: list[Proxy] = []
        self._defaults: dict[str, Proxy] = {}
        self._last_defaults: Proxy | None = None
        self._binds: list[Bind] = []
        self._endpoints: list[Endpoint] = []
        self._sockets: list[tuple[str, Level, int | None]] = []
        self._stats_maxconn = 10
        self._options: list[str] = []
        self._logs: list[str] = []
        self._file = ""
        self._number = 0
        self._conditions = 0
        """How many `.if` are open."""
        self._place = Place("", 0)

    def begin(self, file: str) -> None:
        self._file, self._number = file, 0

    def line(self, text: str) -> None:
        self._number += 1
        words = config_words.words(text, self._environment)
        if not words:
            return
        if words[0].startswith("."):
            self._conditions += {".if": 1, ".endif": -1}.get(words[0], 0)
            return
        self._place = Place(self._file, self._number, text.strip(), self._conditions > 0)
        if words[0] == "log" and len(words) > 2:
            self._logs.append(words[1])
        if words[0] in SECTIONS:
            self._open(words)
        elif self._proxy is not None:
            self._proxy.line(words, self._place)
        else:
            getattr(self, f"_in_{self._section.replace('-', '_')}", _ignore)(words)

    def _open(self, words: list[str]) -> None:
        self._section, self._name = words[0], words[1] if len(words) > 1 else ""
        self._proxy = None
        if self._section in PROXIES:
            parent = self._last_defaults
            if "from" in words[:-1]:
                parent = self._defaults.get(words[words.index("from") + 1], parent)
            self._proxy = Proxy(self._section, self._name, parent, self._address, self._place)
            if self._section == "defaults":
                self._last_defaults = self._defaults[self._name] = self._proxy
            else:
                self._proxies.append(self._proxy)
        elif self._section == "global":
            self._result.global_place = self._result.global_place or self._place
        elif self._section == "peers":
            self._result.peer_sections += 1

    def _address(self, text: str) -> Address | None:
        return config_words.address(config_words.expanded(text, self._environment))

    def _in_global(self, words: list[str]) -> None:
        word, rest = words[0], words[1:]
        size = 2 if word in ("stats", "no") else 1
        value = " ".join(words[size:])
        self._result.general[" ".join(words[:size])] = Setting(value, self._place)
        if word == "stats" and rest[:1] == ["socket"] and len(rest) > 1:
            self._stats_socket(rest[1], rest[2:])
        elif word == "stats" and rest[:1] == ["maxconn"] and len(rest) > 1:
            self._stats_maxconn = number(rest[1]) or self._stats_maxconn
        elif word == "hard-stop-after" and rest:
            self._result.hard_stop_after_ms = milliseconds(rest[0])
        elif word in ("setenv", "presetenv") and len(rest) > 1:
            if word == "setenv" or rest[0] not in self._environment:
                self._environment[rest[0]] = rest[1]
        elif word == "chroot" and rest:
            self._result.chroot = rest[0]
        elif word == "localpeer" and rest:
            self._local_peer = rest[0]
        elif word in TELLING:
            self._options.append(" ".join(words[:2]))
        elif word == "grace" and rest:
            self._options.append(f"grace {milliseconds(rest[0]) or 0} ms")
        elif word in ("lua-load", "lua-load-per-thread"):
            self._options.append("lua")

    def _stats_socket(self, path: str, rest: list[str]) -> None:
        settings = dict(pairwise(rest))
        level = settings.get("level", "")
        known = Level(level) if level in tuple(Level) else Level.OPERATOR
        self._sockets.append((path, known, number(settings.get("maxconn", ""))))
        self._bind("GLOBAL", path)

    def _bind(
        self, owner: str, text: str, mode: str | None = None, limit: int | None = None
    ) -> None:
        binds, unread = bound(owner, [self._address(text)], [text], mode)
        self._binds += [replace(one, limit=limit) for one in binds]
        self._result.unread_binds += tuple(unread)

    def _in_peers(self, words: list[str]) -> None:
        if words[0] == "bind" and len(words) > 1:
            self._bind(f"peers {self._name}", words[1])
        elif words[0] in ("peer", "server") and len(words) > 1:
            self._result.peers += 1
            if len(words) > 2:
                self._endpoint("peers", words[1], words[2])
            if len(words) > 2 and words[1] == self._local_peer:
                self._bind(f"peers {self._name}", words[2])

    def _in_resolvers(self, words: list[str]) -> None:
        if words[0] == "nameserver" and len(words) > 2 and words[2].startswith("tcp"):
            self._endpoint("resolver", words[1], words[2])

    def _in_ring(self, words: list[str]) -> None:
        if words[0] == "server" and len(words) > 2:
            self._endpoint("log", words[1], words[2])

    def _in_log_forward(self, words: list[str]) -> None:
        if words[0] == "bind" and len(words) > 1:
            self._bind(f"log-forward {self._name}", words[1])

    def _endpoint(self, kind: str, name: str, text: str) -> None:
        where = self._address(text)
        if where is not None and where.host is not None and where.low:
            label = f"{self._name}/{name}"
            self._endpoints.append(Endpoint(kind, label, where.host, where.low))

    def result(self) -> Configuration:
        result = self._result
        result.sections = tuple(section(proxy) for proxy in self._proxies)
        result.logs = tuple(dict.fromkeys(self._logs))
        for proxy in self._proxies:
            result.servers |= proxy.configured()
            for text, own in zip(proxy.binds, proxy.bind_limits, strict=True):
                limits = [limit for limit in (own, proxy.limit) if limit]
                self._bind(proxy.name, text, proxy.mode, min(limits, default=None))
        result.binds = tuple(dict.fromkeys(self._binds))
        result.timeouts = _longest(self._proxies)
        sources = chain.from_iterable(proxy.sources() for proxy in self._proxies)
        self._endpoints += [Endpoint("source", label, address, 0) for label, address in sources]
        result.endpoints = tuple(self._endpoints)
        result.options = tuple(dict.fromkeys((*self._options, *self._proxy_options())))
        result.sockets = tuple(
            StatsSocket(path, level, limit or self._stats_maxconn)
            for path, level, limit in self._sockets
        )
        return result

    def _proxy_options(self) -> Iterable[str]:
        return chain.from_iterable(sorted(proxy.options) for proxy in self._proxies)


def _ignore(words: list[str]) -> None:
    """A section that says nothing of interest."""


def bound(
    owner: str, addresses: Iterable[Address | None], texts: Iterable[str], mode: str | None
) -> tuple[list[Bind], list[str]]:
    """TCP binds, one for each port, and the texts of those that could not be read."""
    binds: list[Bind] = []
    unread: list[str] = []
    for where, text in zip(addresses, texts, strict=True):
        if where is None or where.path is not None or not where.stream:
            continue
        if where.host is None or where.low is None or where.high is None:
            unread.append(text)
            continue
        ports = range(where.low, min(where.high, 65535) + 1)
        binds += [Bind(owner, where.host, port, mode) for port in ports]
    return binds, unread


def _longest(proxies: Iterable[Proxy]) -> Timeouts:
    """The longest of each timeout over all proxies; 0 means none, so it says nothing."""
    longest: dict[str, int] = {}
    for proxy in proxies:
        for name, value in (*proxy.timeouts.items(), *proxy.set_timeouts):
            key = f"{name.replace('-', '_')}_ms"
            if value:
                longest[key] = max(value, longest.get(key, 0))
    names = {each.name for each in fields(Timeouts)}
    return Timeouts(**{name: value for name, value in longest.items() if name in names})
