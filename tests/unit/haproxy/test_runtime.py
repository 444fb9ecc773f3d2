"""The runtime API client, against a stand-in that speaks the protocol, well and badly."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from hatrace.haproxy.runtime import Client, NoAnswer, Problem, is_whole
from hatrace.model.topology import CommandSocket

from .recorded import recorded
from .standin import StandIn, drips, is_silent, says, says_and_stays, standing_in


def client(path: Path | str, master: bool = False, guarded: str | None = None) -> Client:
    return Client(CommandSocket(str(path), master, 1), guard=lambda _: guarded)


def problem(path: Path | str, command: str = "show info", **options: float) -> Problem:
    with pytest.raises(NoAnswer) as caught:
        client(path).ask(command, **options)  # type: ignore[arg-type]
    assert caught.value.what and caught.value.why
    return caught.value.problem


def test_a_worker_answers_and_closes(tmp_path: Path) -> None:
    text = recorded("2.6", "info.txt")
    with standing_in(tmp_path / "s", says(text)) as worker:
        answer = client(tmp_path / "s").ask("show info")
    assert (answer.text, answer.complete) == (text, True)
    assert worker.asked == ["show info"]


def test_a_master_answers_and_stays(tmp_path: Path) -> None:
    """Its answer ends with an empty line; waiting for its end would be waiting for ever."""
    text = recorded("3.0", "proc.txt")
    with standing_in(tmp_path / "m", says_and_stays(text)):
        assert client(tmp_path / "m", master=True).ask("show proc").text == text


def test_an_empty_answer_is_one_line_feed(tmp_path: Path) -> None:
    with standing_in(tmp_path / "m", says_and_stays("\n")):
        assert client(tmp_path / "m", master=True).ask("show cli sockets").complete


@pytest.mark.parametrize("version", ["2.2", "2.6", "3.0", "3.2"])
def test_refusals(tmp_path: Path, version: str) -> None:
    expected = {
        "denied.txt": Problem.DENIED,
        "unknown.txt": Problem.UNKNOWN,
        "master_bad_pid.txt": Problem.NO_TARGET,
    }
    for name, reason in expected.items():
        path = tmp_path / name
        with standing_in(path, says(recorded(version, name))):
            assert problem(path) is reason


def test_a_cut_answer_is_an_error_or_marked(tmp_path: Path) -> None:
    text = recorded("2.6", "info.txt")[:300]
    with standing_in(tmp_path / "s", says(text)):
        assert problem(tmp_path / "s") is Problem.CUT
        answer = client(tmp_path / "s").ask("show info", partial=True)
    assert (answer.text, answer.complete) == (text, False)


def test_a_connection_closed_without_a_word_is_cut(tmp_path: Path) -> None:
    with standing_in(tmp_path / "s", says("")):
        assert problem(tmp_path / "s") is Problem.CUT


def test_silence_ends_at_the_deadline(tmp_path: Path) -> None:
    with standing_in(tmp_path / "s", is_silent):
        assert problem(tmp_path / "s", deadline_s=0.2) is Problem.TIMEOUT


def test_the_deadline_is_for_all_of_it(tmp_path: Path) -> None:
    """Bytes that keep coming do not put it off."""
    slow = standing_in(tmp_path / "s", drips("x" * 1000, 0.02))
    with slow, pytest.raises(NoAnswer) as caught:
        client(tmp_path / "s").ask("show info", deadline_s=0.3)
    assert caught.value.problem is Problem.TIMEOUT
    assert 0 < len(caught.value.partial) < 1000


def test_too_long_an_answer_is_not_read_to_its_end(tmp_path: Path) -> None:
    with standing_in(tmp_path / "s", says("x" * 100_000 + "\n\n")):
        assert problem(tmp_path / "s", limit_bytes=4096) is Problem.TOO_LONG
        answer = client(tmp_path / "s").ask("show fd", limit_bytes=4096, partial=True)
    assert (len(answer.text), answer.complete) == (4096, False)


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    def garbage(peer: socket.socket, line: str) -> None:
        peer.sendall(b"\xff\xfe\x00\n\n")

    with standing_in(tmp_path / "s", garbage):
        assert client(tmp_path / "s").ask("show info").text == "\ufffd\ufffd\0\n\n"


def test_a_full_accept_queue_is_its_own_error(tmp_path: Path) -> None:
    """connect() of a non-blocking AF_UNIX socket: EAGAIN, as an SRE meets it in incident 2."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(str(tmp_path / "s"))
            assert problem(tmp_path / "s") is Problem.QUEUE_FULL


def test_nobody_there(tmp_path: Path) -> None:
    assert problem(tmp_path / "s") is Problem.NOT_THERE
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "dead"))
    assert problem(tmp_path / "dead") is Problem.REFUSED
    assert problem("fd@3") is Problem.NOT_THERE


def test_paths_longer_than_sun_path(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    with standing_in(tmp_path / "s", says("ok\n\n")):
        (tmp_path / "s").rename(folder / "s")
        assert client(folder / "s").ask("show info").text == "ok\n\n"


def test_over_tcp_and_in_another_root(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        StandIn(listener, says("tcp\n\n"))
        port = listener.getsockname()[1]
        assert client(f"ipv4@127.0.0.1:{port}").ask("show info").text == "tcp\n\n"
        assert client(f"*:{port}").ask("show info").text == "tcp\n\n"
    with standing_in(tmp_path / "s", says("root\n\n")):
        inside = Client(CommandSocket("/s", False, 1), root=str(tmp_path))
        assert inside.ask("show info").text == "root\n\n"


def test_a_guarded_master_is_not_even_connected_to(tmp_path: Path) -> None:
    with standing_in(tmp_path / "m", says_and_stays("x\n\n")) as master:
        for guard in (lambda _: "only 1 of its 10 slots is free", None):
            where = CommandSocket(str(tmp_path / "m"), True, 1)
            with pytest.raises(NoAnswer) as caught:
                Client(where, guard=guard).ask("show proc")
            assert caught.value.problem is Problem.GUARDED
    assert master.asked == []


def test_a_master_gets_one_connection_at_a_time(tmp_path: Path) -> None:
    with standing_in(tmp_path / "m", drips("slow\n\n", 0.01)) as master:
        threads = [
            threading.Thread(target=client(tmp_path / "m", master=True).ask, args=("show proc",))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(master.asked) == 8
    assert master.most_at_once == 1


def test_nothing_follows_the_command(tmp_path: Path) -> None:
    """No half-close: the other side would see an end of file before it has answered."""
    seen: list[str] = []

    def watch(peer: socket.socket, line: str) -> None:
        peer.setblocking(False)
        try:
            seen.append(f"end of file: {peer.recv(1)!r}")
        except BlockingIOError:
            seen.append("open")
        peer.setblocking(True)
        peer.sendall(b"ok\n\n")

    with standing_in(tmp_path / "s", watch):
        client(tmp_path / "s").ask("show info")
    assert seen == ["open"]


@pytest.mark.parametrize(
    ("data", "whole"),
    [(b"", False), (b"\n", True), (b"a\n", False), (b"a\n\n", True), (b"a\n\nb", False)],
)
def test_how_an_answer_ends(data: bytes, whole: bool) -> None:
    assert is_whole(data) is whole
