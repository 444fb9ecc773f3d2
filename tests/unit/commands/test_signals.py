"""A first signal asks for the end, a second one is what it was."""

from __future__ import annotations

import os
import signal

import pytest

from hatrace.commands._signals import ENDING, Ending


@pytest.mark.parametrize("number", ENDING)
def test_the_first_only_asks(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    signal.signal(number, boom)
    try:
        with Ending() as ending:
            assert ending.number is None
            os.kill(os.getpid(), number)
            assert ending.number == number
            with pytest.raises(Boom):
                os.kill(os.getpid(), number)
        assert signal.getsignal(number) is boom
    finally:
        signal.signal(number, before)


class Boom(Exception):
    """What the handler from before does."""


def boom(*_: object) -> None:
    raise Boom


def test_everything_is_as_before_without_any() -> None:
    before = [signal.getsignal(number) for number in ENDING]
    with Ending():
        assert [signal.getsignal(number) for number in ENDING] != before
    assert [signal.getsignal(number) for number in ENDING] == before


def test_what_is_ignored_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Ending() as ending:
            os.kill(os.getpid(), signal.SIGHUP)
            assert ending.number is None
    finally:
        signal.signal(signal.SIGHUP, before)
