"""What version 1 stored otherwise; tests/golden has a whole capture of it."""

from __future__ import annotations

import pytest

from hatrace.capture import columns
from hatrace.capture.version_1 import upgrade
from hatrace.model.columns import BORN, Columns, number
from tests import factories as make


def test_without_distances_below_zero_the_versions_are_the_same() -> None:
    flows = make.columns(make.ended(make.flow(n)) for n in range(9))
    message = columns.pack(flows, 9)
    assert upgrade("finished", message) == ("finished", message)


def test_what_one_record_borrowed_the_next_had_less() -> None:
    """Two open flows, whose times lie after a `gone_ns` of 0."""
    flows = make.columns([make.flow(1), make.flow(1)])
    words = list(flows.words)
    first, second = words[BORN][:8], number(words[BORN][8:])
    words[BORN] = first + (second - 1).to_bytes(8, "little")
    _, new = upgrade("open", columns.pack(Columns(tuple(words)), 2))
    assert columns.unpack(new) == (flows, 2)


def test_other_channels_stay() -> None:
    assert upgrade("ticks", b"{}") == ("ticks", b"{}")


@pytest.mark.parametrize("topic", ["finished", "open"])
def test_what_is_no_message_is_refused(topic: str) -> None:
    with pytest.raises(ValueError, match="without its header"):
        upgrade(topic, b"torn")
