"""port-pressure: more and more connections to one address, and few source ports for them."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.stage import Stage

LOW, PORTS = 33000, 256
PER_SECOND = 25.0
"""In all: seven of ten ports are taken after seven seconds."""
INTERVAL_S = 4.0

CONFIG = """    maxconn 2000
defaults
    mode tcp
    timeout connect 2s
    timeout client 1h
    timeout server 1h
frontend fe
    bind 127.0.0.1:{front}
    bind 127.0.0.2:{front}
    default_backend app
backend app
    server s1 127.0.0.1:{service} check inter 1s
"""


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: clients that talk and stay, half of them to each address of the frontend."""
    stage.enter_network({"net/ipv4/ip_local_port_range": f"{LOW} {LOW + PORTS - 1}"})
    ports = {name: stage.port() for name in ("front", "service")}
    start(stage, [Serve("echo", ports["service"])], "servers")
    instance = haproxy.start(stage, CONFIG.format(**ports), binary)
    start(
        stage,
        [
            Call("close", ports["front"], PER_SECOND / 2, seconds=3600, address=address)
            for address in ("127.0.0.1", "127.0.0.2")
        ],
        "clients",
    )
    return Running(instance, {**ports, "ports": PORTS})


SCENARIO = Scenario(
    name="port-pressure",
    title="The source ports towards one server run out",
    real="HAProxy and clients whose sessions stay, in a network namespace of their own; then "
    "connect() fails, and HAProxy takes its server for down.",
    injected="A range of 256 local ports (net.ipv4.ip_local_port_range of that namespace; a host "
    "has 28,232), so that few sessions are enough.",
    expects=Expected("port-pressure", "as many connections at once"),
    interval_s=INTERVAL_S,
    play=play,
)
