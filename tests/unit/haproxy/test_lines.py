"""`show sess`, `show fd` and the check trace, as four versions of HAProxy really wrote them."""

from __future__ import annotations

import pytest

from hatrace.haproxy import lines

from .recorded import VERSIONS, recorded


@pytest.mark.parametrize("version", VERSIONS)
def test_streams_with_the_fds_of_both_sides(version: str) -> None:
    found = lines.streams(recorded(version, "sess.txt"))
    assert [(each.frontend, each.backend, each.server) for each in found] == [
        ("fe_tcp", "be_tcp", "s0"),
        ("fe_stuck", "be_stuck", "t0"),
    ]
    for stream in found:
        assert stream.pointer.startswith("0x")
        assert stream.source.startswith("127.0.0.1:")
        assert stream.front_fd is not None and stream.back_fd is not None
        assert stream.front_fd != stream.back_fd
        assert stream.expires_ms == 1000 and stream.age_ms == 1000


def stream_line(**words: str) -> str:
    given = {"age": "1m2s", "exp": "54s"} | words
    return (
        "0x55dd8616edf0: proto=tcpv4 src=127.0.0.1:1 fe=f be=b srv=s ts=00 epoch=0"
        f" age={given['age']} calls=3 rq[f=848000h,i=0,an=00h,rx=54s,wx=,ax=]"
        f" scf=[8,0h,fd=15] scb=[8,1h,fd=-1] exp={given['exp']} rc=0 c_exp=9s\n\n"
    )


@pytest.mark.parametrize(
    ("expiry", "expected"), [("54s", 54_000), ("<PAST>", -1), ("<NEVER>", None), ("", None)]
)
def test_expiry(expiry: str, expected: int | None) -> None:
    (stream,) = lines.streams(stream_line(exp=expiry))
    assert stream.expires_ms == expected
    assert (stream.front_fd, stream.back_fd) == (15, None)


@pytest.mark.parametrize(("age", "expected"), [("1m2s", 62_000), ("20778d21h", None), ("", None)])
def test_an_age_of_decades_is_no_age(age: str, expected: int | None) -> None:
    """Printed so by 2.9 to 3.1 for streams without a full request (1cdf2869f)."""
    assert lines.streams(stream_line(age=age))[0].age_ms == expected


def test_a_cut_line_is_no_stream() -> None:
    whole = stream_line()
    assert len(lines.streams(whole + whole[:120])) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_descriptors_tell_checks_from_data(version: str) -> None:
    """An HTTP check says what it is; a tcp-check and an agent are known by not being data."""
    streams = lines.streams(recorded(version, "sess.txt"))
    back_fds = {each.back_fd for each in streams if each.back_fd is not None}
    found = lines.descriptors(recorded(version, "fd.txt"), back_fds)
    checks = sorted(each.server for each in found if each.kind == "check")
    assert checks == ["be_http/h3", "be_slow/w0", "be_stuck/t0", "be_stuck/t0"]
    data = sorted(each.server for each in found if each.kind == "server")
    assert data == ["be_http/h0", "be_stuck/t0", "be_tcp/s0"]
    assert {each.fd for each in found if each.kind == "server"} >= back_fds
    assert sorted(each.frontend for each in found if each.kind == "client") == [
        "fe_http",
        "fe_stuck",
        "fe_tcp",
    ]
    assert {22000, 22001, 22002, 22003} <= {e.local_port for e in found if e.kind == "listener"}
    assert [each.frontend for each in found if each.kind == "cli"] == ["GLOBAL"]
    assert all(each.remote_port for each in found if each.kind in ("check", "server", "client"))


@pytest.mark.parametrize("version", VERSIONS)
def test_without_streams_only_what_says_so_is_a_check(version: str) -> None:
    found = lines.descriptors(recorded(version, "fd.txt"))
    checks = {each.server for each in found if each.kind == "check"}
    assert checks == (set() if version == "2.2" else {"be_http/h3", "be_slow/w0"})


def test_known_labels_turn_names_the_right_way() -> None:
    line = "  9 : st=0x21 iocb=0x1(main+0x33) back=1 cflg=0x300 sv=s/be mux=PASS ctx=0x2\n"
    assert lines.descriptors(line, labels={"be/s"})[0].server == "be/s"
    assert lines.descriptors(line, labels={"s/be"})[0].server == "s/be"


def test_a_multiplexer_without_an_exchange_is_no_checks() -> None:
    """An agent's connection of HAProxy 3.2 between two messages (`mode spop`)."""
    line = (
        "     16 : st=0x010121(cL heopI W:sRa R:srA) iocb=0x558a(sock_conn_iocb) back=1"
        " cflg=0x00000301 cerr=0 fam=ipv4 lport=47566 rport=27889 sv=agents/answers mux=SPOP"
        " ctx=0x7f43 spop_conn.st0=2 .maxid=15 .flg=0x8000 .nbst=0 .nbcs=0 .exp=<NEVER> xprt=RAW\n"
    )
    (spop,) = lines.descriptors(line, back_fds=())
    (plain,) = lines.descriptors(line.replace("SPOP", "PASS"), back_fds=())
    assert (spop.kind, plain.kind) == ("server", "check")


def test_a_dead_connection_has_no_remote_port_and_may_be_marked() -> None:
    line = "  9 : st=0x21 iocb=0x1(sock_conn_iocb) back=1 lport=4711 sv=be/s mux=PASS ctx=0x2 !\n"
    (found,) = lines.descriptors(line, frozenset({9}))
    assert (found.kind, found.local_port, found.remote_port) == ("server", 4711, None)
    assert found.suspicious


@pytest.mark.parametrize("version", VERSIONS)
def test_descriptors_cut_anywhere_are_a_part_of_them(version: str) -> None:
    text = recorded(version, "fd.txt")
    whole = lines.descriptors(text)
    for end in range(0, len(text), 29):
        part = lines.descriptors(text[:end])
        assert part == whole[: len(part)]


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_the_feed_of_checks(version: str) -> None:
    found = list(lines.check_lines(recorded(version, "events.txt")))
    ends = [each for each in found if each.action.startswith("health-check complete")]
    begins = [each for each in found if each.action == "init new health-check"]
    assert len(ends) > 10 and len(begins) > 10
    assert {each.server for each in ends} >= {"s0", "s1", "s2", "h0", "h2"}
    assert any(each.agent and each.server == "h2" for each in ends)
    failed = next(each for each in ends if each.server == "s2")
    assert "last=L4CON(8)/FAIL(2)" in failed.text
    assert "0x" not in failed.text


def test_2_2_has_no_trace_of_checks() -> None:
    assert list(lines.check_lines(recorded("2.2", "events.txt"))) == []


def test_3_4_ends_its_lines_otherwise() -> None:
    text = (
        "<0>2026-11-21T00:55:19.889629+00:00 [01|check|0|pcheck.c:2260] report connection error :"
        " [A] SRV=tcpfail status=0/2 DOWN - last=L4CON(8)/FAIL(2) exp=12ms check=0x55(0x7)\n"
        "<0>2026-11-21T00:55:19.889629+00:00 3 events dropped\n"
    )
    (line,) = lines.check_lines(text)
    assert (line.server, line.agent, line.action) == ("tcpfail", True, "report connection error")
    assert line.text.endswith("exp=12ms")
    assert lines.dropped_events(text) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3s", 3000), ("1d2h", 93_600_000), ("7ms", 7), ("", None), ("x", None), ("3", None)],
)
def test_durations(text: str, expected: int | None) -> None:
    assert lines.duration_ms(text) == expected
