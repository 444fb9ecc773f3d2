"""A proxy of the configuration with the places of its lines, as the static checks read it."""

from __future__ import annotations

from collections.abc import Iterator

from hatrace.haproxy.config_proxy import Params, Proxy
from hatrace.haproxy.config_words import number
from hatrace.model.setup import BindLine, Section, ServerLine

RISE, FALL = 2, 3
"""Defaults of HAProxy."""


def section(proxy: Proxy) -> Section:
    """What the lines of one frontend, backend or listen say, defaults included."""
    return Section(
        kind=proxy.kind,
        name=proxy.name,
        mode=proxy.mode,
        place=proxy.place,
        timeouts=dict(proxy.timeouts),
        places=dict(proxy.places),
        binds=tuple(_binds(proxy)),
        servers=tuple(_servers(proxy)),
        check=proxy.check,
        dialogue=proxy.dialogue,
        splices=any(option.startswith("option splice-") for option in proxy.options),
    )


def _binds(proxy: Proxy) -> Iterator[BindLine]:
    for text, place in zip(proxy.binds, proxy.bind_places, strict=True):
        where = proxy.at(text)
        if where is None:
            yield BindLine(text, None, None, None, place, stream=False)
        else:
            stream = where.stream and where.path is None
            yield BindLine(text, where.host, where.low, where.high, place, stream)


def _servers(proxy: Proxy) -> Iterator[ServerLine]:
    for name, (text, params) in proxy.lines().items():
        yield _server(proxy, name, text, params)


def _server(proxy: Proxy, name: str, text: str, params: Params) -> ServerLine:
    own = proxy.at(text)
    other = proxy.at(params["addr"]) if "addr" in params else None
    host, port = (own.host, own.low) if own else (None, None)
    return ServerLine(
        name=name,
        place=proxy.server_places.get(name),
        address=host,
        port=port,
        checked="check" in params,
        check_address=other.host if other else host,
        check_port=number(params.get("port", "")) or (other.low if other else None) or port,
        agent_checked="agent-check" in params,
        backup="backup" in params,
        encrypted="ssl" in params or "check-ssl" in params,
        tracks=params.get("track", ""),
        rise=number(params.get("rise", "")) or RISE,
        fall=number(params.get("fall", "")) or FALL,
        settings=proxy.settings(params),
    )
