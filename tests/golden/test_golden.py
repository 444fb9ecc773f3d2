"""Captures of every format version, as they were written then, are still read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hatrace.capture.format import VERSION
from hatrace.capture.reader import read
from hatrace.model.event import Trouble
from tests.golden.make import FOLDER, plain

CAPTURES = sorted(FOLDER.glob("v*.hatrace"))


def test_there_is_one_of_each_version() -> None:
    assert [path.stem for path in CAPTURES] == [f"v{n}" for n in range(1, VERSION + 1)]


def contains(new: Any, old: Any) -> bool:
    """Whether everything of ``old`` is in ``new``, which may have further fields."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(
            key in new and contains(new[key], old[key]) for key in old
        )
    if isinstance(old, list):
        pairs = zip(new, old, strict=True) if isinstance(new, list) and len(new) == len(old) else ()
        return isinstance(new, list) and len(new) == len(old) and all(contains(*p) for p in pairs)
    return bool(new == old)


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_its_events_are_what_they_were(path: Path) -> None:
    capture = read(path)
    then = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
    events = list(capture.events)
    assert capture.info.host == "lb1"
    assert len(events) == len(then)
    assert not any(isinstance(one, Trouble) and one.source == "capture" for one in events)
    for event, old in zip(events, then, strict=True):
        assert contains(plain(event), old), old
    assert [change.finding.slug for change in capture.findings] == ["check-leak"]


def test_a_difference_would_be_seen() -> None:
    assert contains({"a": [1, {"b": 2}], "new": 0}, {"a": [1, {"b": 2}]})
    assert not contains({"a": [1, {"b": 3}]}, {"a": [1, {"b": 2}]})
    assert not contains({"a": [1]}, {"a": [1, 2]})
    assert not contains({}, {"a": None})
