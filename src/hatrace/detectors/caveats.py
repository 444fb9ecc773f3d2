"""Caveats: what hatrace did not see, said beside each finding that it may have changed."""

from __future__ import annotations

from hatrace.detectors.words import number, sentence
from hatrace.model.world import World


def caveat(world: World, *more: str) -> str:
    """Losses, the rung's blind spots, and what the detector itself adds; empty if none."""
    return sentence([*more, _losses(world), _truncated(world), *_blind(world)])


def at_least(world: World) -> str:
    """Before a number of suspects in a sentence: where a scan had no room for all of them."""
    return "at least " if world.losses.scan_truncated else ""


def _losses(world: World) -> str:
    lost = world.losses.total
    return f"{number(lost)} kernel events were lost: counts may be too low" if lost else ""


def _truncated(world: World) -> str:
    missing = world.losses.scan_truncated
    return f"{number(missing)} more suspects found no room in the last scan" if missing else ""


def _blind(world: World) -> list[str]:
    spots = world.info.blind_spots
    return [f"blind spots of the {world.info.rung} rung: {', '.join(spots)}"] if spots else []


def unreadable(world: World, *sources: str) -> str:
    """What lasting troubles of these sources say; empty if there are none."""
    lasting = [one for one in world.troubles if one.source in sources]
    return sentence(f"{one.source} {one.subject}: {one.why}".strip() for one in lasting[:2])
