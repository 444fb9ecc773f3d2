"""healthy-resolvers: names resolved all the time, by name servers of which some are not there."""

from __future__ import annotations

from hatrace.lab.peers import Call, Serve
from hatrace.lab.scenarios._healthy import healthy

CONFIG = """    maxconn 500
resolvers lab
    nameserver udp 127.0.0.1:{dns}
    nameserver tcp tcp@127.0.0.1:{dns}
    nameserver gone 127.0.0.1:{gone}
    nameserver gone_tcp tcp@127.0.0.1:{gone}
    nameserver mute tcp@127.0.0.1:{mute}
    hold valid 1s
    timeout resolve 1s
    timeout retry 1s
defaults
    mode tcp
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    default-server check inter 1s resolvers lab resolve-prefer ipv4 init-addr none
    server one one.lab:{echo}
    server two two.lab:{echo}
    server-template any 1-3 any.lab:{echo}
"""

SCENARIO = healthy(
    "resolvers",
    "servers by name, name servers over UDP and TCP, present, absent and mute",
    "A name server that answers over both, one that is not there, one that accepts TCP and never "
    "answers; names looked up every second; checks and traffic to what they resolve to.",
    CONFIG,
    lambda ports: [
        Serve("dns", ports["dns"]),
        Serve("silent", ports["mute"]),
        Serve("echo", ports["echo"]),
    ],
    lambda ports, _: [Call("close", ports["front"], per_second=5)],
    since="2.6",
)
