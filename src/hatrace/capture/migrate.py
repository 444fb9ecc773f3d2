"""Old captures, made readable: one function per format version, from it to the next.

A step gets a message as it is stored and says what the next version would have stored; `None`
drops it.  Fields that are merely added need no step: what is absent takes its default.
"""

from __future__ import annotations

from collections.abc import Callable

from hatrace.capture import version_1
from hatrace.capture.format import VERSION
from hatrace.errors import CaptureUnreadable

Step = Callable[[str, bytes], tuple[str, bytes] | None]
"""``(topic, data)`` of one version → of the next."""

STEPS: dict[int, Step] = {1: version_1.upgrade}
"""By the version they start from; each raises ValueError for what is no message of it."""


def check_version(version: int, path: str) -> None:
    """Raises CaptureUnreadable when this hatrace cannot read ``version``."""
    if version > VERSION:
        raise CaptureUnreadable(
            f"cannot read {path}",
            f"it has format version {version}, this hatrace knows {VERSION} at most",
            "update hatrace",
        )
    if any(older not in STEPS for older in range(version, VERSION)):
        raise CaptureUnreadable(f"cannot read {path}", f"format version {version} does not exist")


def upgrade(version: int, topic: str, data: bytes) -> tuple[str, bytes] | None:
    """A message of ``version`` as the current version has it."""
    message: tuple[str, bytes] | None = (topic, data)
    for older in range(version, VERSION):
        if message is None:
            return None
        message = STEPS[older](*message)
    return message
