"""healthy-operators: people and programs at the command-line sockets, as many as there is room."""

from __future__ import annotations

from hatrace.lab.peers import Call, Serve
from hatrace.lab.scenarios._healthy import healthy

CONFIG = """    maxconn 500
    stats timeout 1h
defaults
    mode tcp
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    server s1 127.0.0.1:{echo} check inter 1s
"""

SCENARIO = healthy(
    "operators",
    "operators at prompts, and scrapers that ask and leave",
    "Two prompts on the master's socket and three on the worker's, for long and mostly idle; "
    "scrapers that ask both once a second, and end their half, close, or leave at once.",
    CONFIG,
    lambda ports: [Serve("echo", ports["echo"])],
    lambda ports, haproxy: [
        Call("dictate", str(haproxy.master), count=2, send="prompt\nshow proc\n", seconds=9),
        Call("dictate", str(haproxy.stats), count=3, send="prompt\nshow info\n", seconds=9),
        Call("half-close", str(haproxy.master), per_second=1, send="show proc\n", most=3),
        Call("close", str(haproxy.master), per_second=1, send="@1 show stat\n", most=3),
        Call("leave", str(haproxy.stats), per_second=2, send="show stat\n", most=3),
        Call("leave", str(haproxy.stats), per_second=1, send="", most=2),
        Call("close", ports["front"], per_second=5),
    ],
)
