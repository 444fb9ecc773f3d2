"""healthy-half-closed: one side has ended its half, and rightly waits for the other."""

from __future__ import annotations

from hatrace.lab.peers import Call, Serve
from hatrace.lab.scenarios._healthy import healthy

CONFIG = """    maxconn 2000
defaults
    mode tcp
    timeout connect 2s
    timeout client 1m
    timeout server 1m
frontend down
    bind 127.0.0.1:{down}
    default_backend down
backend down
    server s1 127.0.0.1:{drip} check inter 1s
frontend up
    bind 127.0.0.1:{up}
    default_backend up
backend up
    server s1 127.0.0.1:{sink} check inter 1s
frontend forgets
    bind 127.0.0.1:{forgets}
    default_backend forgets
backend forgets
    server s1 127.0.0.1:{ends} check inter 1s
"""

SCENARIO = healthy(
    "half-closed",
    "half-closed sessions whose other half goes on slowly",
    "Clients that have ended their half while the server sends a little every twelve seconds; "
    "servers that have ended theirs while the client sends a little every five, or does not "
    "notice at all.",
    CONFIG,
    lambda ports: [
        Serve("drip", ports["drip"], seconds=12),
        Serve("sink", ports["sink"], seconds=1),
        Serve("half-close", ports["ends"]),
    ],
    lambda ports, _: [
        Call("half-close", ports["down"], per_second=10, count=30),
        Call("half-close", ports["down"], per_second=0.5),
        Call("slow-send", ports["up"], per_second=10, count=30, seconds=5),
        Call("hold", ports["forgets"], per_second=10, count=20),
    ],
)
