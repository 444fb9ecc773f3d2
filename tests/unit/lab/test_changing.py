"""Peers that take their time or change their mind, seen from the other end of real sockets."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from hatrace.lab.changing import ACCEPTING, SERVING
from hatrace.lab.clients import CALLING
from hatrace.lab.nameserver import answer
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.stage import Stage, wait_until

GET = b"GET / HTTP/1.1\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SECONDS = {"http-idle-close": 0.3, "drip": 0.1, "sink": 0.1, "http-flap": 0.2, "agent-flap": 0.1}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.fixture(scope="module")
def ports(stage: Stage) -> dict[str, int]:
    """Every behaviour, and its port."""
    ports = {name: stage.port() for name in (*SERVING, *ACCEPTING)}
    start(stage, [Serve(name, port, SECONDS.get(name, 0)) for name, port in ports.items()], "all")
    return ports


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def once(port: int, say: bytes) -> bytes:
    with connect(port) as link:
        link.sendall(say)
        return link.recv(65536)


def test_websocket(ports: dict[str, int]) -> None:
    with connect(ports["websocket"]) as link:
        link.sendall(GET)
        assert link.recv(100).startswith(b"HTTP/1.1 200")
        link.sendall(UPGRADE)
        said = link.recv(1000)
        assert said.startswith(b"HTTP/1.1 101")
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in said  # RFC 6455, 1.3
        link.sendall(b"word")
        assert link.recv(100) == b"word"


def test_idle_close(ports: dict[str, int]) -> None:
    with connect(ports["http-idle-close"]) as link:
        link.sendall(GET)
        assert link.recv(100).startswith(b"HTTP/1.1 200")
        assert link.recv(100) == b""


def test_flapping_answers(ports: dict[str, int]) -> None:
    said: set[bytes] = set()

    def all_said() -> bool:
        said.add(once(ports["http-flap"], GET)[:12])
        said.add(once(ports["agent-flap"], b"")[:5])
        return len(said) == 6

    assert wait_until(all_said)
    assert said == {b"HTTP/1.1 200", b"HTTP/1.1 503", b"up re", b"drain", b"down\n", b"stopp"}


def test_drip_goes_on_after_the_other_half(ports: dict[str, int]) -> None:
    with connect(ports["drip"]) as link:
        link.shutdown(socket.SHUT_WR)
        assert sum(len(link.recv(100)) for _ in range(3)) > 200


def test_sink_ends_its_half_and_reads_on(ports: dict[str, int]) -> None:
    with connect(ports["sink"]) as link:
        assert link.recv(100) == b""
        link.sendall(bytes(300))
        link.sendall(bytes(300))


def test_flood(ports: dict[str, int]) -> None:
    with connect(ports["flood"]) as link:
        link.sendall(b"go")
        got = 0
        while got < 1_000_000:
            got += len(link.recv(65536))


def test_flap_is_there_and_gone(ports: dict[str, int]) -> None:
    def refused() -> bool:
        try:
            return once(ports["flap"], b"ping") != b"ping"
        except OSError:
            return True

    assert wait_until(refused)
    assert wait_until(lambda: not refused())


def test_pause_answers_all_who_waited(ports: dict[str, int]) -> None:
    links = [connect(ports["pause"]) for _ in range(5)]
    for link in links:
        link.sendall(GET)
    assert [link.recv(12) for link in links] == [b"HTTP/1.1 200"] * 5
    for link in links:
        link.close()


QUERY = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x03one\x03lab\x00\x00%c\x00\x01\x00rest"


@pytest.mark.parametrize(("kind", "answers"), [(1, 1), (28, 0)])
def test_names_have_an_address_of_version_four(kind: int, answers: int) -> None:
    said = answer(QUERY % kind)
    assert said[:2] == b"\x12\x34"
    assert struct.unpack_from("!HH", said, 4) == (1, answers)
    assert said.endswith(b"\x7f\x00\x00\x01") is bool(answers)


def test_name_server_over_udp_and_tcp(ports: dict[str, int]) -> None:
    query = QUERY % 1
    with socket.socket(type=socket.SOCK_DGRAM) as link:
        link.settimeout(10)
        link.sendto(query, ("127.0.0.1", ports["dns"]))
        assert link.recv(512) == answer(query)
    framed = struct.pack("!H", len(query)) + query
    assert once(ports["dns"], framed + framed)[2:].startswith(answer(query))


@pytest.fixture
def called(stage: Stage, request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """The server's end of a connection that a client of a behaviour makes."""
    behaviour, send, seconds = request.param
    assert behaviour in CALLING
    with socket.create_server(("127.0.0.1", stage.port())) as listener:
        listener.settimeout(10)
        where = listener.getsockname()[1]
        start(stage, [Call(behaviour, where, count=1, send=send, seconds=seconds)], behaviour)
        link, _ = listener.accept()
        with link:
            link.settimeout(10)
            yield link


def calling(behaviour: str, send: str = "ping\n", seconds: float = 0.05) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("called", [(behaviour, send, seconds)], indirect=True)


@calling("upgrade")
def test_upgrade_says_a_word_now_and_then(called: socket.socket) -> None:
    assert called.recv(100) == b"ping\n"
    called.sendall(b"HTTP/1.1 101\r\n\r\n")
    assert called.recv(100) == b"word"
    called.sendall(b"word")
    assert called.recv(100) == b"word"


@calling("slow-read")
def test_slow_read_reads_to_the_end(called: socket.socket) -> None:
    assert called.recv(100) == b"ping\n"
    called.sendall(bytes(3000))
    called.shutdown(socket.SHUT_WR)
    assert called.recv(100) == b""


@calling("slow-send")
def test_slow_send_does_not_mind_the_end(called: socket.socket) -> None:
    called.shutdown(socket.SHUT_WR)
    assert sum(len(called.recv(5)) for _ in range(4)) > 10


@calling("dictate", "a\nb\nc\n")
def test_dictate_says_its_first_line_once(called: socket.socket) -> None:
    heard = []
    for _ in range(5):
        heard.append(called.recv(100))
        called.sendall(b"> ")
    assert b"".join(heard) == b"a\nb\nc\nb\nc\n"
