"""``hatrace close``: destroy the connections of a finding, or those that a filter chooses."""

from __future__ import annotations

from pathlib import Path

import click

from hatrace.actions.choose import STATES, Chosen, Filter, by_filter, by_findings, side
from hatrace.actions.close import close
from hatrace.actions.haproxies import Haproxies
from hatrace.commands import _options as options
from hatrace.commands._desk import action_options, counter, require_consent
from hatrace.commands._found import in_capture, live
from hatrace.commands._journal import journal
from hatrace.errors import EnvironmentLacks, UsageError


@click.command()
@click.argument("slug", required=False)
@click.option(
    "--capture",
    type=click.Path(path_type=Path),
    help="Take the finding SLUG as this capture of this host has it; else look live.",
)
@click.option("--pid", "pids", multiple=True, type=click.IntRange(1), help="Of this process only.")
@click.option("--state", "states", multiple=True, type=click.Choice([*STATES]))
@click.option("--dst", metavar="ADDRESS:PORT", help="Connected to; either part may be left out.")
@click.option("--src", metavar="ADDRESS:PORT", help="Its own address.")
@click.option(
    "--older",
    type=options.Duration(),
    help="No data moved for this long, so at least that old: 60s, 5m ...",
)
@click.option("--dry-run", is_flag=True, help="Show what is meant; change nothing.")
@action_options
def command(
    slug: str | None,
    capture: Path | None,
    pids: tuple[int, ...],
    states: tuple[str, ...],
    dst: str | None,
    src: str | None,
    older: float | None,
    dry_run: bool,
    yes: bool,
    output: Path | None,
    as_json: bool,
) -> int:
    """Destroy the connections of the finding SLUG, or those that the options choose, after
    showing them: both sides are reset, their owners get an error and close.

    Only HAProxy's processes are touched, unless --pid names another; listeners never. Exit
    code 0: all are gone, 1: something is left (a ghost has no connection to destroy).
    """
    require_consent(yes, dry_run)
    wanted = Filter(
        frozenset(STATES[name] for name in states),
        None if dst is None else side(dst),
        None if src is None else side(src),
        None if older is None else round(older * 1e9),
    )
    _require_choice(slug, capture, wanted)
    haproxies = Haproxies(None)
    haproxies.look()
    scope = pids or haproxies.pids
    chosen = _chosen(slug, capture, wanted, scope)
    known = {each.pid: each for each in haproxies.processes}
    with counter(journal(output), yes=yes, dry_run=dry_run, as_json=as_json) as desk:
        return desk.conclude(close(chosen, scope, known, desk))


def _require_choice(slug: str | None, capture: Path | None, wanted: Filter) -> None:
    """Raises UsageError for what would mean every connection of a process."""
    if capture is not None and slug is None:
        raise UsageError("which finding of the capture?", "no SLUG is given", "see: hatrace report")
    if slug is None and wanted == Filter():
        raise UsageError(
            "that would mean every connection",
            "neither a finding nor a filter is given",
            "say which: SLUG, --state, --dst, --src or --older",
        )


def _chosen(
    slug: str | None, capture: Path | None, wanted: Filter, scope: tuple[int, ...]
) -> Chosen:
    if not scope:
        raise EnvironmentLacks(
            "no HAProxy runs on this host", "only its connections are touched", "name one: --pid"
        )
    if slug is None:
        return by_filter(wanted, scope)
    findings = in_capture(capture, slug) if capture else live(slug, scope)
    return by_findings(findings, wanted, scope)
