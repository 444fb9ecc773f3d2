"""healthy-pauses: applications that stop for seconds, and then do what they owe."""

from __future__ import annotations

from hatrace.lab.peers import Call, Serve
from hatrace.lab.scenarios._healthy import GET, healthy

CONFIG = """    maxconn 500
defaults
    mode http
    timeout connect 4s
    timeout client 10s
    timeout server 10s
    timeout check 5s
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    server pauses 127.0.0.1:{pauses} check inter 1s
    server asked 127.0.0.1:{kept} check inter 1s
    server slow 127.0.0.1:{slow} check inter 1s
"""

SCENARIO = healthy(
    "pauses",
    "applications that accept nothing for three seconds, or answer late",
    "With the applications in view: one that takes all waiting connections every three seconds "
    "and reads what was reset meanwhile, one that answers late; plain TCP checks to all.",
    CONFIG,
    lambda ports: [
        Serve("pause", ports["pauses"]),
        Serve("http-keep-alive", ports["kept"]),
        Serve("http-keep-alive", ports["slow"], seconds=3),
    ],
    lambda ports, _: [
        Call("close", ports["front"], per_second=3, send=GET),
        Call("reset", ports["front"], per_second=1, send=GET),
        Call("leave", ports["front"], per_second=1, send=GET),
        Call("keep-alive", ports["front"], per_second=1, send=GET, seconds=1),
    ],
    applications=True,
)
