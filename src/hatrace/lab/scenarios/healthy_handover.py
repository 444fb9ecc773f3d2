"""healthy-handover: one reload; the old worker serves out long sessions, and has handed over."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Running, Scenario
from hatrace.lab.scenarios._healthy import GET
from hatrace.lab.stage import Stage

CONFIG = """    maxconn 500
    stats socket unix@{handover} mode 600 level admin expose-fd listeners
defaults
    timeout connect 2s
    timeout client 1h
    timeout server 1h
frontend tcp
    mode tcp
    bind 127.0.0.1:{tcp}
    default_backend tcp
backend tcp
    mode tcp
    server s1 127.0.0.1:{echo} check inter 1s
frontend web
    mode http
    bind 127.0.0.1:{web}
    default_backend web
backend web
    mode http
    http-reuse always
    server kept 127.0.0.1:{kept} check inter 1s pool-purge-delay 1h
{more}
"""
REMOVED = "    server removed 127.0.0.1:{removed} check inter 1s"
PORTS = ("tcp", "echo", "web", "kept", "removed")


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: sessions of all ages, then a server is removed by a reload."""
    ports = {name: stage.port() for name in PORTS}
    start(
        stage,
        [
            Serve("echo", ports["echo"]),
            Serve("http-keep-alive", ports["kept"]),
            Serve("http-keep-alive", ports["removed"]),
        ],
        "servers",
    )
    handover = stage.directory / "handover.sock"
    before = CONFIG.format(handover=handover, more=REMOVED.format(**ports), **ports)
    instance = haproxy.start(stage, before, binary)
    start(
        stage,
        [
            Call("talk", ports["tcp"], per_second=20, count=10),
            Call("hold", ports["tcp"], per_second=20, count=10),
            Call("talk", ports["tcp"], per_second=2, seconds=5),
            Call("keep-alive", ports["web"], per_second=5, send=GET, seconds=0.3),
            Call("hold", ports["web"], per_second=20, count=10, send=GET),
        ],
        "clients",
    )
    old = instance.worker()
    haproxy.configure(instance, CONFIG.format(handover=handover, more="", **ports))
    new = instance.reload()
    return Running(instance, {**ports, "old": old, "new": new})


SCENARIO = Scenario(
    name="healthy-handover",
    title="Healthy: a reload after which the old worker serves out its sessions",
    real="One reload with listeners handed over (`expose-fd listeners`) and one server less; "
    "long sessions stay with the old worker, idle ones too; short ones go on with the new one.",
    injected="Nothing.",
    expects=None,
    interval_s=10.0,
    play=play,
)
