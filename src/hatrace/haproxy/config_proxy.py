"""One proxy of the configuration: defaults, frontend, backend or listen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from hatrace.haproxy.config_words import Address, milliseconds, number, word_set
from hatrace.model.address import UNSPECIFIED, is_unspecified
from hatrace.model.setup import Place
from hatrace.model.topology import CheckSettings

CHECKS = {
    "httpchk": "http",
    "tcp-check": "tcp-check",
    "ssl-hello-chk": "ssl-hello",
    "mysql-check": "mysql",
    "pgsql-check": "pgsql",
    "ldap-check": "ldap",
    "redis-check": "redis",
    "smtpchk": "smtp",
    "spop-check": "spop",
    "external-check": "external",
}
"""`option` of a proxy → kind of check; without any it is a plain connect: ``tcp``."""

TELLING = word_set(
    "splice-auto splice-request splice-response log-health-checks transparent http_proxy"
)
"""Options that change what leaks, where sessions go, or what the log tells."""

TIMES = frozenset(("inter", "fastinter", "downinter", "agent-inter"))
FLAGS = word_set("check agent-check backup check-reuse-pool disabled ssl check-ssl")
VALUES = word_set(
    "port addr agent-port agent-addr check-proto rise fall socks4 source track usesrc"
)
ONE_MORE = word_set(
    "alpn ca-file check-alpn check-sni ciphers ciphersuites cookie crl-file crt error-limit"
    " id init-addr init-state interface log-bufsize log-proto max-reuse maxconn maxqueue minconn"
    " namespace observe on-error on-marked-down on-marked-up pool-conn-name pool-low-conn"
    " pool-max-conn pool-purge-delay proto redir resolve-net resolve-opts resolve-prefer resolvers"
    " slowstart sni ssl-max-ver ssl-min-ver tcp-ut verify verifyhost weight"
    " ws agent-send check-pool-conn-name"
)
"""Words of a server that take one value, which must not be mistaken for a word of its own."""

DIALOGUE = word_set("send send-binary send-lf send-binary-lf expect")
"""Rules of `tcp-check` and `http-check` that make a check more than a connect."""

ELSEWHERE = word_set("port addr via-socks4 socks4")
"""Words of `connect` there that take a check to another place than its server says."""

DESTINATIONS = word_set("set-dst set-dst-port")
"""Actions by which sessions go where no server's line says."""

Params = dict[str, str]


@dataclass(frozen=True, slots=True)
class ConfiguredServer:
    """A server's line with what it inherits.  ``None``: not said, or not readable."""

    mode: str
    address: Address | None
    checked: bool
    check_address: Address | None
    check_port: int | None
    agent_checked: bool
    agent_address: Address | None
    agent_port: int | None
    backup: bool
    settings: CheckSettings


class Proxy:
    """Reads the lines of one section, on top of what its defaults say."""

    def __init__(
        self,
        kind: str,
        name: str,
        parent: Proxy | None,
        address: Callable[[str], Address | None],
        place: Place | None = None,
    ) -> None:
        self.kind, self.name, self.place = kind, name, place
        self.places: dict[str, Place] = dict(parent.places) if parent else {}
        """Of its `mode`, timeouts and options; see `model.setup.Section`."""
        self.binds: list[str] = []
        self.bind_places: list[Place | None] = []
        self.bind_limits: list[int | None] = []
        """`maxconn` of each bind."""
        self.limit: int | None = parent.limit if parent else None
        """Its own `maxconn`; None: not said."""
        self.server_places: dict[str, Place | None] = {}
        self.dialogue: bool = parent.dialogue if parent else False
        self.mode: str = parent.mode if parent else "tcp"
        self.timeouts: dict[str, int] = dict(parent.timeouts) if parent else {}
        self.set_timeouts: list[tuple[str, int]] = list(parent.set_timeouts) if parent else []
        """By rules (`http-request set-timeout`), in place of those above for some sessions."""
        self.options: set[str] = set(parent.options) if parent else set()
        self._check: str | None = parent._check if parent else "tcp"
        self._default: Params = dict(parent._default) if parent else {}
        self._source: Params = dict(parent._source) if parent else {}
        self._servers: dict[str, tuple[str, Params]] = {}
        self._address = address

    def line(self, words: list[str], place: Place | None = None) -> None:
        self._keep_place(words, place)
        word, rest = words[0], words[1:]
        if word == "bind" and rest:
            texts = [text for text in rest[0].split(",") if text]
            self.binds += texts
            self.bind_places += [place] * len(texts)
            own = number(dict(pairwise(rest)).get("maxconn", ""))
            self.bind_limits += [own] * len(texts)
        elif word == "maxconn" and rest:
            self.limit = number(rest[0])
        elif word == "mode" and rest:
            self.mode = rest[0]
        elif word == "timeout" and len(rest) > 1:
            value = milliseconds(rest[1])
            if value is not None:
                self.timeouts[rest[0]] = value
        elif word == "option" and rest:
            self._option(rest[0], True)
        elif words[:2] == ["no", "option"] and len(words) > 2:
            self._option(words[2], False)
        elif word == "default-server":
            self._default = _parameters(rest, self._default)
        elif word == "server" and len(rest) > 1:
            self._servers[rest[0]] = rest[1], _parameters(rest[2:], self._default)
            self.server_places[rest[0]] = place
        elif word == "server-template" and len(rest) > 2:
            params = _parameters(rest[3:], self._default)
            for name in _template(rest[0], rest[1]):
                self._servers[name] = rest[2], params
                self.server_places[name] = place
        elif word == "source":
            self._source = _parameters(words, {})
        elif word == "healthcheck":
            self._check = None
        elif word == "http-reuse" and rest:
            self.options.add(f"http-reuse {rest[0]}")
        elif word in ("tcp-check", "http-check") and DIALOGUE.intersection(rest[:1]):
            self.dialogue = True
        elif word in ("tcp-check", "http-check") and rest[:1] == ["connect"]:
            if ELSEWHERE.intersection(rest):
                self.options.add("check connect elsewhere")
        elif "set-timeout" in words[:-2]:
            name, text = words[words.index("set-timeout") + 1 :][:2]
            self.set_timeouts.append((name, milliseconds(text) or 0))
        elif DESTINATIONS.intersection(words):
            self.options.add("set-dst")

    def _keep_place(self, words: list[str], place: Place | None) -> None:
        if words[:2] == ["no", "option"]:
            self.places.pop(" ".join(words[1:3]), None)
        elif place is not None and words[0] in ("mode", "timeout", "option"):
            self.places[words[0] if words[0] == "mode" else " ".join(words[:2])] = place

    def _option(self, name: str, on: bool) -> None:
        if name in CHECKS:
            self._check = CHECKS[name] if on else "tcp"
        elif name in TELLING:
            (self.options.add if on else self.options.discard)(f"option {name}")

    def configured(self) -> dict[str, ConfiguredServer]:
        """Its servers by ``backend/server``: last, since a timeout may follow a server."""
        found = {}
        for name, (text, params) in self._servers.items():
            if "check-reuse-pool" in params:
                self.options.add("check-reuse-pool")
            if "socks4" in params:
                self.options.add("socks4")
            found[f"{self.name}/{name}"] = self._server(self._address(text), params)
        return found

    def sources(self) -> Iterator[tuple[str, bytes]]:
        """Servers by ``backend/server`` whose connections come from an address of their own, and
        that; unspecified where it is their clients' (`usesrc`) or cannot be read.

        A server's own `source` keeps the `usesrc` of its `default-server` (seen in 2.6;
        srv_parse_source() leaves CO_SRC_TPROXY_MASK as it is).
        """
        for name, (_, params) in self._servers.items():
            own = params if "source" in params else self._source
            where = self._address(own["source"]) if "source" in own else None
            host = where.host if where is not None and "usesrc" not in own else None
            if "source" in own and (host is None or not is_unspecified(host)):
                yield f"{self.name}/{name}", host or UNSPECIFIED

    def lines(self) -> dict[str, tuple[str, Params]]:
        """Its servers by name: the address as it stands there, and their words."""
        return self._servers

    @property
    def check(self) -> str | None:
        """Kind of its health checks; None: not readable."""
        return self._check

    def at(self, text: str) -> Address | None:
        """An address as it stands in one of its lines."""
        return self._address(text)

    def _server(self, where: Address | None, params: Params) -> ConfiguredServer:
        def at(word: str) -> Address | None:
            return self._address(params[word]) if word in params else None

        return ConfiguredServer(
            mode=self.mode,
            address=where,
            checked="check" in params,
            check_address=at("addr"),
            check_port=number(params.get("port", "")),
            agent_checked="agent-check" in params,
            agent_address=at("agent-addr") or at("addr"),
            agent_port=number(params.get("agent-port", "")),
            backup="backup" in params,
            settings=self.settings(params),
        )

    def settings(self, params: Params) -> CheckSettings:
        return CheckSettings(
            inter_ms=milliseconds(params.get("inter", "")),
            fastinter_ms=milliseconds(params.get("fastinter", "")),
            downinter_ms=milliseconds(params.get("downinter", "")),
            agent_inter_ms=milliseconds(params.get("agent-inter", "")),
            timeout_check_ms=self.timeouts.get("check") or None,
            timeout_connect_ms=self.timeouts.get("connect") or None,
            kind=self._check,
        )


def _parameters(words: list[str], inherited: Params) -> Params:
    """The words of a server's line over those of `default-server`."""
    params = dict(inherited)
    rest = iter(words)
    for word in rest:
        if word in TIMES or word in VALUES:
            params[word] = next(rest, "")
        elif word in ONE_MORE:
            next(rest, None)
        elif word in FLAGS:
            params[word] = ""
        elif word.startswith("no-"):
            params.pop(word.removeprefix("no-"), None)
    return params


def _template(prefix: str, numbers: str) -> Iterator[str]:
    """``server-template web 1-3`` → web1, web2, web3; ``3`` means the same."""
    low, dash, high = numbers.partition("-")
    first, last = (number(low), number(high)) if dash else (1, number(low))
    if first is not None and last is not None:
        yield from (f"{prefix}{each}" for each in range(first, min(last, first + 4095) + 1))
