"""What the consumer orders of the loader's process (loader.py), and what it is handed."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from typing import Any

from hatrace.errors import EnvironmentLacks
from hatrace.kernel.child import take
from hatrace.kernel.maps import MapId, Sizes
from hatrace.kernel.preflight import NETLINK


@dataclass(frozen=True, slots=True)
class Order:
    """What to load, and how large."""

    rung: str | None
    """None: the best that works."""
    sizes: Sizes | None = None
    """None: what fits this host."""

    @classmethod
    def of(cls, text: str) -> Order:
        words = json.loads(text)
        return cls(words["rung"], words["sizes"] and Sizes(**words["sizes"]))


@dataclass(frozen=True, slots=True)
class Loaded:
    """The fds of an attached rung, owned by whoever holds this."""

    rung: str
    sizes: Sizes
    maps: dict[MapId, int]
    iterators: dict[str, int]
    links: tuple[int, ...]
    programs: dict[str, int]
    missing: tuple[str, ...]
    """Blind spots of optional hooks which did not attach."""

    def close(self) -> None:
        for fd in (
            *self.links,
            *self.iterators.values(),
            *self.programs.values(),
            *self.maps.values(),
        ):
            os.close(fd)


def load(order: Order, timeout_s: float = 180.0) -> Loaded | None:
    """Have a child do it; None where no BPF rung works here and none was named.

    Raises EnvironmentLacks with the child's reason.
    """
    text = json.dumps(asdict(order))
    child = take(text)
    child.link.settimeout(timeout_s)
    try:
        child.link.send(text.encode())
        data, fds, _, _ = socket.recv_fds(child.link, 1 << 16, 250)
    except TimeoutError:
        data, fds = json.dumps(_late(timeout_s)).encode(), []
    except OSError:  # it has ended
        data, fds = b"", []
    finally:
        said = child.end()
    answer = json.loads(data) if data else {"what": "the BPF loader ended", "why": _last(said)}
    if "what" in answer:
        raise EnvironmentLacks(answer["what"], answer["why"], answer.get("do", ""))
    return None if answer["rung"] == NETLINK else _sorted_out(answer, list(fds))


def _late(timeout_s: float) -> dict[str, str]:
    """Compiling takes seconds; on a host that is busy beyond measure it may take minutes."""
    return {
        "what": "the BPF programs were not ready in time",
        "why": f"compiling and loading them took longer than {timeout_s:g} s",
        "do": "try again (what is compiled is kept), or run with --rung netlink",
    }


def _last(lines: list[str]) -> str:
    """The line of a compiler's or interpreter's output that says most."""
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it said nothing"])[-1]


def _sorted_out(answer: dict[str, Any], fds: list[int]) -> Loaded:
    """Give the received fds their names, in the order the child sent them."""
    take = iter(fds)
    return Loaded(
        rung=answer["rung"],
        sizes=Sizes(**answer["sizes"]),
        maps={number: next(take) for number in MapId},
        iterators={name: next(take) for name in answer["iterators"]},
        links=tuple(next(take) for _ in range(answer["links"])),
        programs={name: next(take) for name in answer["programs"]},
        missing=tuple(answer["missing"]),
    )
