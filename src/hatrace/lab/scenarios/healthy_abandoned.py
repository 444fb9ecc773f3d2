"""healthy-abandoned: requests whose client has left, while their server still thinks."""

from __future__ import annotations

from hatrace.lab.peers import Call, Serve
from hatrace.lab.scenarios._healthy import GET, healthy

CONFIG = """    maxconn 2000
defaults
    mode http
    timeout connect 2s
    timeout client 1m
    timeout server 1m
    timeout queue 1m
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    server thinks 127.0.0.1:{thinks} check inter 1s
frontend queue
    bind 127.0.0.1:{queue}
    default_backend queue
backend queue
    option abortonclose
    server busy 127.0.0.1:{busy} check inter 1s maxconn 2
frontend tcp
    mode tcp
    bind 127.0.0.1:{tcp}
    default_backend tcp
backend tcp
    mode tcp
    server thinks 127.0.0.1:{thinks_tcp} check inter 1s
"""

SCENARIO = healthy(
    "abandoned",
    "long polls that their clients abandon",
    "Answers that take twenty seconds and clients that left after none; requests that wait in "
    "a queue and are abandoned there; half-closed clients that still want the answer.",
    CONFIG,
    lambda ports: [
        Serve("http-keep-alive", ports["thinks"], seconds=20),
        Serve("http-keep-alive", ports["busy"], seconds=5),
        Serve("echo", ports["thinks_tcp"], seconds=20),
    ],
    lambda ports, _: [
        Call("leave", ports["front"], per_second=1, send=GET),
        Call("half-close", ports["front"], per_second=1, send=GET),
        Call("leave", ports["queue"], per_second=1, send=GET),
        Call("half-close", ports["tcp"], per_second=1),
        Call("leave", ports["tcp"], per_second=1),
    ],
)
