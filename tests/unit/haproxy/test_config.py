"""The configuration reader: what it reads, and that it goes on where it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hatrace.haproxy import config, config_words
from hatrace.haproxy.config import Configuration
from hatrace.model.address import UNSPECIFIED, V4_PREFIX, packed
from hatrace.model.topology import CheckSettings, Endpoint, Level, Timeouts

ANY = V4_PREFIX + bytes(4)


def read(tmp_path: Path, text: str, local_peer: str = "", **environment: str) -> Configuration:
    file = tmp_path / "haproxy.cfg"
    file.write_text(text)
    return config.read([file], environment, local_peer)


def binds(found: Configuration) -> set[tuple[str, bytes, int]]:
    return {(each.frontend, each.address, each.port) for each in found.binds}


def test_words_quotes_escapes_and_comments() -> None:
    assert config_words.words(r"a 'b c' d\ e f\#g # rest", {}) == ["a", "b c", "d e", "f#g"]
    assert config_words.words(r'"x\"y" "" \x41b', {}) == ['x"y', "", "Ab"]
    assert config_words.words("trailing\\", {}) == ["trailing"]
    assert config_words.words('open "quote', {}) == ["open", "quote"]


def test_variables_only_in_double_quotes_and_unknown_ones_stay() -> None:
    known = {"A": "1"}
    assert config_words.words("\"$A ${A}\" '$A' $A", known) == ["1 1", "$A", "$A"]
    assert config_words.words('"${B}" "${B-dflt}"', known) == ["${B}", "dflt"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", 5),
        ("5ms", 5),
        ("2s", 2000),
        ("1m", 60_000),
        ("1h", 3_600_000),
        ("2d", 172_800_000),
        ("1500us", 1),
        *((text, None) for text in ("", "s", "-1", "1w")),
    ],
)
def test_times(text: str, expected: int | None) -> None:
    assert config_words.milliseconds(text) == expected


@pytest.mark.parametrize(
    ("text", "host", "low", "high"),
    [
        (":80", ANY, 80, 80),
        ("*:80", ANY, 80, 80),
        (":::443", UNSPECIFIED, 443, 443),
        ("[::1]:80", packed("::1"), 80, 80),
        ("2001:db8::1:443", packed("2001:db8::1"), 443, 443),
        ("10.0.0.1:80-82", packed("10.0.0.1"), 80, 82),
        ("ipv4@10.0.0.1:80", packed("10.0.0.1"), 80, 80),
        ("10.0.0.1", packed("10.0.0.1"), None, None),
        ("db.example:5432", None, 5432, 5432),
        ("${HOST}:80", None, 80, 80),
    ],
)
def test_addresses(text: str, host: bytes | None, low: int | None, high: int | None) -> None:
    where = config_words.address(text)
    assert where is not None
    assert (where.stream, where.path, where.host) == (True, None, host)
    assert (where.low, where.high) == (low, high)


def test_addresses_that_are_no_tcp() -> None:
    for text in ("quic4@:443", "udp@10.0.0.1:53", "dgram+ipv4@:1"):
        where = config_words.address(text)
        assert where is not None and not where.stream
    for text, path in (("/run/a", "/run/a"), ("unix@/run/a", "/run/a"), ("abns@a", "@a")):
        where = config_words.address(text)
        assert where is not None and where.path == path
    assert config_words.address("fd@3") is None
    assert config_words.address("sockpair@4") is None


def test_servers_inherit_from_defaults_and_default_server(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        defaults one
            mode http
            timeout check 2s
            option httpchk
            default-server inter 3s fall 3 cookie check
        defaults two from one
            no option httpchk
            default-server fastinter 100ms
        backend a from one
            timeout connect 4s
            server x 10.0.0.1:80 check port 8000 addr 10.0.0.2 downinter 1m
            server y 10.0.0.1:80 backup agent-check agent-port 99 agent-inter 7s
            default-server check
            server z 10.0.0.1:80 no-check
        backend b
            mode tcp
            option tcp-check
            server x db:5432 check inter 1s
        """,
    )
    x, y, z = (found.servers[f"a/{name}"] for name in "xyz")
    assert x.settings == CheckSettings(3000, None, 60_000, 2000, 4000, "http")
    assert (x.mode, x.checked, x.check_port) == ("http", True, 8000)
    assert x.check_address is not None and x.check_address.host == packed("10.0.0.2")
    assert (y.checked, y.backup, y.agent_checked, y.agent_port) == (False, True, True, 99)
    assert y.settings.agent_inter_ms == 7000
    assert not z.checked
    other = found.servers["b/x"]
    assert (other.mode, other.settings.kind) == ("tcp", "tcp-check")
    assert (other.settings.inter_ms, other.settings.fastinter_ms) == (1000, 100)
    assert other.address is not None and other.address.host is None


def test_server_template(tmp_path: Path) -> None:
    found = read(tmp_path, "backend b\n server-template web 2-4 svc:80 check\n")
    assert set(found.servers) == {"b/web2", "b/web3", "b/web4"}
    assert set(read(tmp_path, "backend b\n server-template w 2 s:1\n").servers) == {"b/w1", "b/w2"}


def test_binds_of_all_kinds(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        global
            stats socket ipv4@127.0.0.1:9999
            presetenv PORT 8443
            presetenv HOST 192.0.2.9
        frontend fe
            bind *:80,[::1]:443 ssl crt /x
            bind "$HOST:${PORT}"
            bind :8000-8002
            bind 10.0.0.1:$NOWHERE
            bind quic4@:443
            bind /run/fe.sock
            bind fd@7
        listen li
            bind ::1:99
        peers p
            bind :10001
        peers q
            peer me 127.0.0.1:10002
            peer other 192.0.2.1:10003
        log-forward lf
            bind 127.0.0.1:514
        """,
        local_peer="me",
        HOST="10.0.0.9",
    )
    local = packed("127.0.0.1")
    assert binds(found) == {
        ("GLOBAL", local, 9999),
        ("fe", ANY, 80),
        ("fe", packed("::1"), 443),
        ("fe", packed("10.0.0.9"), 8443),
        ("fe", ANY, 8000),
        ("fe", ANY, 8001),
        ("fe", ANY, 8002),
        ("li", packed("::1"), 99),
        ("peers p", ANY, 10001),
        ("peers q", local, 10002),
        ("log-forward lf", local, 514),
    }
    assert found.unread_binds == ("10.0.0.1:$NOWHERE",)
    assert Endpoint("peers", "q/other", packed("192.0.2.1"), 10003) in found.endpoints


def test_timeouts_that_rules_set_are_waited_for_too(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        backend be
            timeout server 5s
            timeout tunnel 2h
            http-request set-timeout server 1h if { path /slow }
            http-request set-timeout tunnel 1m
            http-request set-timeout server req.hdr(t)
            http-request set-timeout
        """,
    )
    assert (found.timeouts.server_ms, found.timeouts.tunnel_ms) == (3_600_000, 7_200_000)


def test_rules_of_defaults_set_the_timeouts_of_those_that_name_it(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        defaults slow
            timeout server 5s
            http-request set-timeout server 1h
        defaults quick
            timeout server 5s
        backend be from slow
            http-request set-timeout server 1m
        """,
    )
    assert found.timeouts.server_ms == 3_600_000


def test_source_addresses_of_servers(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        defaults
            source 192.0.2.7
        backend be
            server s1 192.0.2.1:80 source 192.0.2.8:1024-2000 check
            server s2 192.0.2.1:80 source 0.0.0.0 usesrc clientip
            server s3 192.0.2.1:80
        """,
    )
    assert found.endpoints == (
        Endpoint("source", "be/s1", packed("192.0.2.8"), 0),
        Endpoint("source", "be/s2", UNSPECIFIED, 0),
        Endpoint("source", "be/s3", packed("192.0.2.7"), 0),
    )


def test_a_source_that_leaves_the_address_to_the_kernel_is_none(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        backend be
            server s1 192.0.2.1:80 source 0.0.0.0 interface ssl
            server s2 192.0.2.1:80 source *:1024-2000
            server s3 192.0.2.1:80 source ::
            server s4 192.0.2.1:80 source lb1.example
        backend other
            default-server source 0.0.0.0 usesrc client
            server s5 192.0.2.1:80 source 192.0.2.9
        """,
    )
    assert found.endpoints == (
        Endpoint("source", "be/s4", UNSPECIFIED, 0),
        Endpoint("source", "other/s5", UNSPECIFIED, 0),
    )


def test_endpoints_which_are_no_servers(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        resolvers r
            nameserver a tcp@10.0.0.53:53
            nameserver b 10.0.0.54:53
        ring log
            server s 10.0.0.99:514
        """,
    )
    assert found.endpoints == (
        Endpoint("resolver", "r/a", packed("10.0.0.53"), 53),
        Endpoint("log", "log/s", packed("10.0.0.99"), 514),
    )


def test_global_settings(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        global
            stats socket /run/a.sock mode 660 level admin expose-fd listeners
            stats socket /run/b.sock maxconn 4
            stats maxconn 33
            hard-stop-after 10m
            tune.disable-zero-copy-forwarding
            chroot /var/lib/haproxy
        """,
    )
    assert [(each.path, each.level, each.limit) for each in found.sockets] == [
        ("/run/a.sock", Level.ADMIN, 33),
        ("/run/b.sock", Level.OPERATOR, 4),
    ]
    assert found.hard_stop_after_ms == 600_000
    assert found.options == ("tune.disable-zero-copy-forwarding",)
    assert found.chroot == "/var/lib/haproxy"


def test_the_longest_timeouts_count_and_zero_is_none(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        defaults
            timeout client 30s
            timeout server 0
        frontend a
            timeout client 2m
        backend b
            timeout tunnel 1h
        """,
    )
    assert found.timeouts == Timeouts(client_ms=120_000, tunnel_ms=3_600_000)


def test_conditions_are_read_both_ways(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "frontend a\n.if defined(X)\n bind :1\n.else\n bind :2\n.endif\n.notice hello\n bind :3\n",
    )
    assert {port for _, _, port in binds(found)} == {1, 2, 3}


def test_nonsense_is_passed_over(tmp_path: Path) -> None:
    text = 'bind\nserver\nfrontend\n bind\n timeout\n timeout client\n option\n bind "\n\x00\xff\n'
    text += "backend b\n server\n server x\n server-template a b\n server y 1.2.3.4 inter\n"
    found = read(tmp_path, text)
    assert set(found.servers) == {"b/y"}


def test_a_folder_stands_for_its_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.cfg").write_text("backend b\n server x 10.0.0.1:1\n")
    (tmp_path / "a.cfg").write_text("defaults\n mode http\n")
    (tmp_path / ".c.cfg").write_text("backend hidden\n server x 10.0.0.1:1\n")
    (tmp_path / "d.txt").write_text("backend other\n server x 10.0.0.1:1\n")
    found = config.read([tmp_path])
    assert {label: each.mode for label, each in found.servers.items()} == {"b/x": "http"}


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        config.read([tmp_path / "missing.cfg"])


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.cfg")
    with pytest.raises(OSError, match="no regular file"):
        config.read([tmp_path / "pipe.cfg"])


def test_what_may_connect_where_no_server_says(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        global
            grace 20s
            lua-load /etc/haproxy/own.lua
        frontend fe
            maxconn 50
            bind :80 maxconn 5
            bind :81
            tcp-request content set-dst-port int(8000)
        backend be
            tcp-check connect port 110
            http-check connect ssl
            server s1 192.0.2.1:80 socks4 192.0.2.9:1080
        """,
    )
    assert found.options == (
        "grace 20000 ms", "lua", "set-dst", "check connect elsewhere", "socks4",
    )  # fmt: skip
    assert [bind.limit for bind in found.binds] == [5, 50]
