"""Durations, sizes and scopes as users write them."""

from __future__ import annotations

import click
import pytest

from hatrace.commands._options import Duration, Size, scope, share
from hatrace.errors import UsageError
from hatrace.model.capture_info import Scope, ScopeKind


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h", 3600),
        ("2d", 172_800),
        ("500ms", 0.5),
        ("7", 7),
        ("1.5", 1.5),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "0", "0s", "-3s", "3 s", "3w", "s", "1:30", "٣s", "1e3", "40000d", "9" * 400],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter, match="no duration"):
        Duration().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("500k", 512_000), ("20m", 20 << 20), ("1G", 1 << 30), ("3MB", 3 << 20)],
)
def test_sizes(text: str, size: int) -> None:
    assert Size().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "0", "0k", "-1", "1.5m", "1t", "k", "2²", "9" * 5000])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter, match="no size"):
        Size().convert(text, None, None)


def test_a_share_of_a_cpu() -> None:
    assert share(None) is None
    assert share(5.0) == 0.05
    with pytest.raises(UsageError, match="max-cpu"):
        share(float("nan"))


def test_the_scope_is_haproxy_unless_said() -> None:
    assert scope((), (), None, False) == Scope(ScopeKind.HAPROXY)


def test_each_scope() -> None:
    assert scope((3, 4), (), None, False) == Scope(ScopeKind.PID, ("3", "4"))
    assert scope((), ("a", "b"), None, False) == Scope(ScopeKind.COMM, ("a", "b"))
    assert scope((), (), "/x", False) == Scope(ScopeKind.CGROUP, ("/x",))
    assert scope((), (), "", False) == Scope(ScopeKind.CGROUP, ("",)), "none, not HAProxy's"
    assert scope((), (), None, True) == Scope(ScopeKind.ALL)


def test_two_scopes_are_refused_and_both_named() -> None:
    with pytest.raises(UsageError) as caught:
        scope((1,), ("x",), None, True)
    assert [name in caught.value.why for name in ("--pid", "--comm", "--all")] == [True] * 3
