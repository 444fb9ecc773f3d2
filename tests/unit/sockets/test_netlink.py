"""Walking netlink messages and attributes, and saying what went wrong."""

from __future__ import annotations

import errno
import os

import pytest

from hatrace.sockets import netlink
from hatrace.sockets.netlink import ATTRIBUTE, HEADER, Refused, attributes, walk


def message(kind: int, payload: bytes, sequence: int = 7, flags: int = 2) -> bytes:
    length = HEADER.size + len(payload)
    return HEADER.pack(length, kind, flags, sequence, 0) + payload + bytes(-length % 4)


def attribute(kind: int, payload: bytes) -> bytes:
    length = ATTRIBUTE.size + len(payload)
    return ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def test_messages_of_a_datagram_with_their_padding() -> None:
    datagram = message(20, b"abcde") + message(3, bytes(4), sequence=8)
    seen = [(kind, seq, datagram[start:end]) for kind, _, seq, start, end in walk(datagram)]
    assert seen == [(20, 7, b"abcde"), (3, 8, bytes(4))]


@pytest.mark.parametrize("cut", [1, 4, 19])
def test_a_message_cut_short_is_an_error_not_silence(cut: int) -> None:
    datagram = message(20, b"a" * 20)[:-cut]
    with pytest.raises(Refused, match="cut short"):
        list(walk(datagram))


def test_a_length_of_zero_does_not_loop() -> None:
    with pytest.raises(Refused):
        list(walk(bytes(32)))


def test_attributes_are_places_in_the_datagram() -> None:
    datagram = b"head" + attribute(8, b"\3") + attribute(0x8000 | 2, b"x" * 6)
    whole = attributes(datagram, 4, len(datagram))
    assert [(kind, datagram[s:e]) for kind, s, e in whole] == [(8, b"\3"), (2, b"x" * 6)]


def test_broken_attributes_end_the_walk() -> None:
    good = attribute(1, b"good")
    for broken in (ATTRIBUTE.pack(2, 1), ATTRIBUTE.pack(60, 1), b"\1"):
        datagram = good + broken
        assert [kind for kind, _, _ in attributes(datagram, 0, len(datagram))] == [1]


class Scripted:
    """Stands where pyroute2's socket stands, and says what a kernel said."""

    def __init__(self, *datagrams: bytes | OSError) -> None:
        self.datagrams = list(datagrams)
        self.sent: list[bytes] = []

    def sendto(self, data: bytes, address: tuple[int, int]) -> None:
        assert address == (0, 0), "to the kernel"
        self.sent.append(data)

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self.datagrams:
            raise BlockingIOError
        answer = self.datagrams.pop(0)
        if isinstance(answer, OSError):
            raise answer
        assert len(answer) <= size
        return answer


def diag(*datagrams: bytes | OSError) -> netlink.Diag:
    one = netlink.Diag.__new__(netlink.Diag)
    one._socket, one._sequence, one.interrupted = Scripted(*datagrams), 0, False
    return one


def error(number: int, sequence: int = 1) -> bytes:
    return message(2, (-number & 0xFFFFFFFF).to_bytes(4, "little") + bytes(16), sequence)


DONE = message(3, bytes(4), sequence=1)


def test_a_dump_over_several_datagrams_up_to_done() -> None:
    asked = diag(
        message(20, b"one.", 1) + message(20, b"two.", 1),
        message(20, b"more", 1),
        DONE,
        message(20, b"past", 1),
    )
    seen = [datagram[start:end] for datagram, start, end in asked.dump(b"request", "list")]
    assert seen == [b"one.", b"two.", b"more"]
    [sent] = asked._socket.sent
    assert HEADER.unpack_from(sent) == (HEADER.size + 7, 20, 0x301, 1, 0)
    assert not asked.interrupted


def test_messages_of_one_size_come_together_and_others_alone() -> None:
    alike = message(20, b"one.", 1) + message(20, b"two.", 1)
    asked = diag(alike, message(20, b"four", 1) + message(20, b"and eight", 1), DONE)
    runs = list(asked.runs(b"", "list"))
    assert runs[0] == (alike, HEADER.size + 4)
    assert [datagram[HEADER.size :] for datagram, _ in runs[1:]] == [b"four", b"and eight"]
    assert all(len(datagram) == size for datagram, size in runs[1:])


def test_an_interrupted_dump_is_known() -> None:
    asked = diag(message(20, b"one.", 1, flags=0x12) + DONE)
    assert len(list(asked.dump(b"", "list"))) == 1
    assert asked.interrupted


def test_answers_to_an_earlier_question_are_skipped() -> None:
    asked = diag(message(20, b"old.", 0) + message(3, bytes(4), 0), message(20, b"new.", 1), DONE)
    assert [d[s:e] for d, s, e in asked.dump(b"", "list")] == [b"new."]


def test_errors_carry_number_words_and_advice() -> None:
    with pytest.raises(Refused) as caught:
        list(diag(error(errno.ENOENT)).dump(b"", "cannot list TCP sockets"))
    assert caught.value.errno == errno.ENOENT
    assert str(caught.value) == f"cannot list TCP sockets: {os.strerror(errno.ENOENT)}"
    assert "modprobe" in caught.value.do
    with pytest.raises(Refused, match="not permitted") as caught:
        diag(error(errno.EPERM)).ask(21, b"", "cannot destroy")
    assert caught.value.do == ""


def test_an_error_at_the_end_of_a_dump_is_no_success() -> None:
    failed = message(3, (-errno.ENOMEM & 0xFFFFFFFF).to_bytes(4, "little"), 1)
    with pytest.raises(Refused, match="memory"):
        list(diag(message(20, b"one.", 1) + failed).dump(b"", "list"))


def test_one_request_and_its_acknowledgement() -> None:
    asked = diag(message(20, b"answ", 1), error(0))
    [(datagram, start, end)] = asked.ask(20, b"req", "find")
    assert datagram[start:end] == b"answ"


def test_notifications_until_there_are_none_and_an_overrun() -> None:
    asked = diag(message(20, b"one.", 0) + message(20, b"two.", 0))
    assert len(list(asked.notifications())) == 2
    assert list(asked.notifications()) == []
    overrun = diag(message(20, b"one.", 0), OSError(errno.ENOBUFS, "full"))
    seen = []
    with pytest.raises(netlink.Lost):
        for one in overrun.notifications():
            seen.append(one)
    assert len(seen) == 1
    with pytest.raises(OSError, match="broken"):
        list(diag(OSError(errno.EIO, "broken")).notifications())


def test_within_our_own_namespace_needs_no_rights() -> None:
    assert netlink.within(None, lambda: 5) == 5
    assert netlink.within(os.getpid(), lambda: 6) == 6
    assert netlink.namespace_of(2**22 - 1) is None
