"""healthy-slow-readers: clients that read slowly, or not at all, from servers that flood them."""

from __future__ import annotations

from hatrace.lab.peers import Call, Serve
from hatrace.lab.scenarios._healthy import healthy

CONFIG = """    maxconn 2000
defaults
    timeout connect 2s
    timeout client 5m
    timeout server 5m
frontend fe
    mode tcp
    bind 127.0.0.1:{front}
    default_backend app
backend app
    mode tcp
    server s1 127.0.0.1:{flood} check inter 1s
frontend ends
    mode tcp
    bind 127.0.0.1:{ends}
    default_backend ends
backend ends
    mode tcp
    server s1 127.0.0.1:{stream} check inter 1s
"""

SCENARIO = healthy(
    "slow-readers",
    "clients that read slowly or never, with full buffers before them",
    "Servers that send as fast as they can; clients that never read, that read a little every "
    "second, and that leave with data unread; servers that end while their client still reads.",
    CONFIG,
    lambda ports: [
        Serve("flood", ports["flood"]),
        Serve("stream", ports["stream"], seconds=3),
    ],
    lambda ports, _: [
        Call("hold", ports["front"], per_second=5, count=10),
        Call("slow-read", ports["front"], per_second=5, count=5, seconds=1),
        Call("leave", ports["front"], per_second=2),
        Call("slow-read", ports["ends"], per_second=5, count=10, seconds=4),
        Call("hold", ports["ends"], per_second=5, count=10),
    ],
)
