"""Finished flows in bulk: most belong to healthy sessions and are passed over unread.

A busy proxy ends tens of thousands of flows a second, of which the checks are a handful.
Only the targets' column of a batch is read, and whether an index matters is asked once for
each index: measured 0.02 us per flow passed over.  Where checks go among sessions, two more
columns are read (0.2 us), and the rarest sorts of flows looked at first.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from enum import Enum, auto

from hatrace.flows.behaviour import LIMITS
from hatrace.model.columns import Columns
from hatrace.model.flow import Flag, Flow

UNUSUAL = int(Flag.RST_SENT | Flag.FAILED | Flag.FIN_RECEIVED | Flag.RST_RECEIVED)
"""Ends of checks; most sessions' flows are closed by this side first, without a reset."""
LOOKS = 1_024
"""Candidates looked at closely in a batch, in equal shares for each target and sort."""
ALIKE = 128
"""Where more of one batch sent the same, none of these is a check: it is a second's at most."""
FEWEST = 8
"""No target's share is smaller."""
FEW = 32
"""As many as a server's history of checks shows."""


class Want(Enum):
    """Which flows of a target are asked for."""

    NONE = auto()
    FEW = auto()
    """The first `FEW` of a batch."""
    ALL = auto()
    LIKE_CHECKS = auto()
    """Those which may be checks among sessions."""


def chosen(flows: Columns, wanted: Callable[[int], Want]) -> Iterator[Flow]:
    """The flows that ``wanted`` picks by their target's index, in their order."""
    targets = flows.values("target")
    wants = {index: wanted(index) for index in sorted(set(targets))}
    everything = {index for index, want in wants.items() if want is Want.ALL}
    mixed = {index for index, want in wants.items() if want is Want.LIKE_CHECKS}
    numbers: list[int] = []
    if everything:
        numbers += [number for number, index in enumerate(targets) if index in everything]
    for index in (index for index, want in wants.items() if want is Want.FEW):
        found = (number for number, target in enumerate(targets) if target == index)
        numbers += itertools.islice(found, FEW)
    if mixed:
        numbers += _like_checks(flows, targets, mixed)
    yield from flows.picked(sorted(numbers))


def _like_checks(flows: Columns, targets: list[int], mixed: Collection[int]) -> list[int]:
    """The numbers of the flows worth a look: they ended as checks do, and few are like them.

    Checks ask the same each time, and there are few of them: where many flows sent the same, none
    of these is one.  Flows that sent nothing have a share of their own, lest sessions crowd out
    TCP checks.
    """
    share = max(FEWEST, LOOKS // len(mixed))
    rows = zip(targets, flows.values("flags"), flows.values("sent_bytes"), strict=True)
    found = [
        (number, index, sent)
        for number, (index, flags, sent) in enumerate(rows)
        if flags & UNUSUAL and index in mixed and sent <= LIMITS.sent_bytes
    ]
    alike = Counter((index, sent) for _, index, sent in found)
    received = flows.values("received_bytes") if found else targets
    few = [
        (alike[index, sent], number, (index, not sent))
        for number, index, sent in found
        if (alike[index, sent] <= ALIKE or not sent) and received[number] <= LIMITS.received_bytes
    ]
    looks: Counter[tuple[int, bool]] = Counter()
    numbers = []
    for _, number, sort in sorted(few):
        looks[sort] += 1
        if looks[sort] <= share:
            numbers.append(number)
    return numbers
