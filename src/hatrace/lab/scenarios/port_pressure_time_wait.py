"""port-pressure: short sessions, one after the other, whose ports stay in TIME_WAIT."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.scenarios.port_pressure import CONFIG, LOW, PORTS
from hatrace.lab.stage import Stage

PER_SECOND = 40.0
INTERVAL_S = 5.0
SETTINGS = {
    "net/ipv4/ip_local_port_range": f"{LOW} {LOW + PORTS - 1}",
    "net/ipv4/tcp_tw_reuse": "0",
}


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: each client ends its half, so that HAProxy ends the server side first."""
    stage.enter_network(SETTINGS)
    ports = {name: stage.port() for name in ("front", "service")}
    start(stage, [Serve("echo", ports["service"])], "servers")
    instance = haproxy.start(stage, CONFIG.format(**ports), binary)
    start(
        stage,
        [
            Call("half-close", ports["front"], PER_SECOND / 2, address=address)
            for address in ("127.0.0.1", "127.0.0.2")
        ],
        "clients",
    )
    return Running(instance, {**ports, "ports": PORTS})


SCENARIO = Scenario(
    name="port-pressure-time-wait",
    title="Short sessions leave their source ports in TIME_WAIT until none is left",
    real="HAProxy in mode tcp and 40 short sessions a second that the client's side ends, so that "
    "HAProxy's connection to the server waits for a minute; a network namespace of its own.",
    injected="A range of 256 local ports, and net.ipv4.tcp_tw_reuse=0 (in life loopback may reuse "
    "them, other addresses may not), both of that namespace.",
    expects=Expected("port-pressure", "this side ends them first"),
    interval_s=INTERVAL_S,
    play=play,
)
