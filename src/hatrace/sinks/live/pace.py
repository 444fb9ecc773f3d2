"""How fast a capture is shown, and how far it is: shared by the view's keys and the replay."""

from __future__ import annotations

import math

_STEPS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, math.inf)


class Pace:
    """Speed (1: as it happened, inf: as fast as it can be read) and pause."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self.paused = False
        self.ended = False
        """The capture has been shown to its end."""

    def press(self, key: str) -> bool:
        """Whether the key was one of the replay's own."""
        if key in (" ", "p"):
            self.paused = not self.paused
        elif key in ("+", "="):
            self.speed = next((step for step in _STEPS if step > self.speed), math.inf)
        elif key in ("-", "_"):
            self.speed = next((step for step in reversed(_STEPS) if step < self.speed), _STEPS[0])
        else:
            return False
        return True

    def __str__(self) -> str:
        """``x4``, ``max``, ``x1 PAUSED`` or ``END``."""
        if self.ended:
            return "END"
        speed = "max" if math.isinf(self.speed) else f"x{self.speed:g}"
        return f"{speed} PAUSED" if self.paused else speed
