"""healthy-spoe: requests that wait for an agent, over connections which HAProxy makes itself."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Running, Scenario
from hatrace.lab.scenarios._healthy import GET
from hatrace.lab.stage import Stage

CONFIG = """    maxconn 500
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend fe
    bind 127.0.0.1:{front}
    filter spoe engine lab config {engine}
    default_backend app
backend app
    server s1 127.0.0.1:{kept} check inter 1s
backend agents
    mode tcp
    timeout server 3m
    option spop-check
    server answers 127.0.0.1:{agent} check inter 1s
    server mute 127.0.0.1:{mute}
"""
ENGINE = """[lab]
spoe-agent lab
    messages client
    option var-prefix lab
    timeout hello 1s
    timeout idle 30s
    timeout processing 500ms
    use-backend agents
spoe-message client
    args ip=src
    event on-frontend-http-request
"""


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: each request is told to an agent first; every other agent never answers."""
    ports = {name: stage.port() for name in ("front", "kept", "agent", "mute")}
    engine = stage.directory / "engine.conf"
    engine.write_text(ENGINE)
    start(
        stage,
        [
            Serve("http-keep-alive", ports["kept"]),
            Serve("spop", ports["agent"]),
            Serve("silent", ports["mute"]),
        ],
        "servers",
    )
    instance = haproxy.start(stage, CONFIG.format(engine=engine, **ports), binary)
    calls = [
        Call("keep-alive", ports["front"], per_second=2, send=GET, seconds=0.5),
        Call("close", ports["front"], per_second=3, send=GET),
        Call("leave", ports["front"], per_second=1, send=GET),
    ]
    start(stage, calls, "clients")
    return Running(instance, ports)


SCENARIO = Scenario(
    name="healthy-spoe",
    title="Healthy: agents (SPOE), over connections that no client makes",
    real="A filter that tells an agent of each request over connections of its own, kept idle for "
    "half a minute; a second agent that accepts and never answers.",
    injected="Nothing.",
    expects=None,
    interval_s=10.0,
    play=play,
)
