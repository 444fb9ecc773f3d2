"""SPOP's numbers and frames, as HAProxy's doc/SPOE.txt has them."""

from __future__ import annotations

import pytest

from hatrace.lab import spop


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (239, "ef"),
        (240, "f000"),
        (2287, "ff7f"),
        (2288, "f08000"),
        (264_432, "f0808000"),
    ],
)
def test_a_number_takes_a_byte_or_several(value: int, encoded: str) -> None:
    assert spop.number(value).hex() == encoded
    assert spop.read_number(b"\xff" + spop.number(value) + b"\x07", 1) == (
        value,
        1 + len(encoded) // 2,
    )


def test_a_message_is_acknowledged_with_its_own_numbers() -> None:
    notify = spop.frame(spop.NOTIFY, 300, 2, b"whatever")[4:]
    assert spop.answer(notify) == spop.frame(spop.ACK, 300, 2, spop.SET_OK)
    hello = spop.answer(spop.frame(spop.HELLO, 0, 0, b"")[4:])
    assert hello[4] == spop.AGENT_HELLO
    assert int.from_bytes(hello[:4], "big") == len(hello) - 4
