"""What a session shows its answers on: the live view, text lines or JSON lines."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from hatrace.model.event import Event
    from hatrace.model.world import World
    from hatrace.pipeline import Verdict


class Display(Protocol):
    """A sink that the user looks at, and may end the session from.

    Entered before the first event and left after the last, whatever happens in between.
    """

    @property
    def stop_requested(self) -> bool:
        """Whether nobody wants more: a key, a signal, or a reader that has gone."""

    def accept(self, event: Event, world: World, verdict: Verdict) -> None: ...

    def poll(self) -> None:
        """Let the user act and the screen follow; call it at 10 Hz or more."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
