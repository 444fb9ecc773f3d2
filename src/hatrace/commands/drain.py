"""``hatrace drain``: the safe removal of a server, step by step, verified in the kernel."""

from __future__ import annotations

from pathlib import Path

import click

from hatrace.actions.drain import drain
from hatrace.actions.haproxies import Haproxies
from hatrace.actions.target import resolve
from hatrace.commands import _options as options
from hatrace.commands._crowd import guard
from hatrace.commands._desk import action_options, counter, require_consent
from hatrace.commands._journal import journal


@click.command()
@click.argument("server", metavar="BACKEND/SERVER")
@click.option(
    "--pid",
    type=click.IntRange(1),
    help="Any process of the HAProxy that is meant, where several know the server.",
)
@click.option(
    "--timeout",
    type=options.Duration(),
    default="10s",
    show_default=True,
    help="How long to wait for sessions to end.",
)
@click.option("--dry-run", is_flag=True, help="Show every step with its command; change nothing.")
@action_options
def command(
    server: str,
    pid: int | None,
    timeout: float,
    dry_run: bool,
    yes: bool,
    output: Path | None,
    as_json: bool,
) -> int:
    """Take BACKEND/SERVER out of HAProxy: no new sessions, end those there are in every
    worker (also in those from before a reload), and prove in the kernel that none is left.

    Asks before each change. Exit code 0: no socket to it is left, 1: something is left.
    """
    require_consent(yes, dry_run)
    haproxies = Haproxies(guard())
    haproxies.look()
    target = resolve(haproxies, server, pid)
    with counter(journal(output), yes=yes, dry_run=dry_run, as_json=as_json) as desk:
        return desk.conclude(drain(haproxies, target, desk, timeout))
