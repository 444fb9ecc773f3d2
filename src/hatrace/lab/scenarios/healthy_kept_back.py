"""healthy-kept-back: answers that HAProxy keeps back while both peers have left."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Running, Scenario
from hatrace.lab.scenarios._healthy import GET
from hatrace.lab.stage import Stage

CONFIG = """    maxconn 2000
    lua-load {script}
defaults
    timeout connect 2s
    timeout client 20s
    timeout server 20s
    timeout tarpit 8s
frontend web
    mode http
    bind 127.0.0.1:{web}
    default_backend web
backend web
    mode http
    http-response lua.nap
    server s1 127.0.0.1:{once} check inter 1s
frontend tcp
    mode tcp
    bind 127.0.0.1:{tcp}
    default_backend tcp
backend tcp
    mode tcp
    tcp-response inspect-delay 10s
    tcp-response content lua.nap
    server s1 127.0.0.1:{ends} check inter 1s
frontend waits
    mode tcp
    bind 127.0.0.1:{waits}
    tcp-request inspect-delay 8s
    tcp-request content accept if WAIT_END
    default_backend plain
frontend tarpit
    mode http
    bind 127.0.0.1:{tarpit}
    http-request tarpit
    default_backend web
backend plain
    mode tcp
    server s1 127.0.0.1:{ends} check inter 1s
"""
NAP = """
core.register_action("nap", {"http-res", "tcp-res"}, function(txn) core.msleep(8000) end)
"""
PORTS = ("web", "once", "tcp", "ends", "waits", "tarpit")


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: servers that close after their answer, clients that leave before it comes."""
    ports = {name: stage.port() for name in PORTS}
    script = stage.directory / "nap.lua"
    script.write_text(NAP)
    start(stage, [Serve("http", ports["once"]), Serve("half-close", ports["ends"])], "servers")
    instance = haproxy.start(stage, CONFIG.format(script=script, **ports), binary)
    calls = [
        Call(behaviour, ports[port], send=send)
        for port, send in (("web", GET), ("tcp", "ping"), ("waits", "ping"), ("tarpit", GET))
        for behaviour in ("half-close", "leave", "close")
    ]
    start(stage, calls, "clients")
    return Running(instance, ports)


SCENARIO = Scenario(
    name="healthy-kept-back",
    title="Healthy: answers kept back by Lua, inspection and tarpits after both peers have left",
    real="Lua actions that sleep before an answer goes on, `inspect-delay`, `tarpit`; servers that "
    "close after their answer, clients that leave or end their half before it.",
    injected="Nothing.",
    expects=None,
    interval_s=10.0,
    play=play,
)
