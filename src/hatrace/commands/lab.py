"""``hatrace lab``: make a leak on loopback with a real HAProxy, and watch it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from hatrace.commands import _options as options
from hatrace.commands._output import is_there
from hatrace.commands._session import Settings, watch
from hatrace.errors import UsageError
from hatrace.lab import builds
from hatrace.lab.scenario import Scenario
from hatrace.lab.scenarios import SCENARIOS
from hatrace.lab.stage import Stage
from hatrace.sinks.stream import aside

CAUSES = ("clients", "server", "worker")


@click.command()
@click.argument("scenario", required=False)
@options.duration_option
@options.json_option
@click.option(
    "--haproxy",
    metavar="PATH",
    help="Another HAProxy: a binary, a Debian suite or its series "
    f"({', '.join(builds.SUITES)}; fetched once).",
)
@click.option(
    "--cause",
    type=click.Choice(CAUSES),
    help="Of master-socket: who fills it.  [default: clients]",
)
@click.option(
    "--before",
    type=options.Duration(),
    help="Let it go on so long before hatrace comes, e.g. 30s.  [default: the scenario's]",
)
@click.option("--list", "listing", is_flag=True, help="Say what each scenario does.")
@options.rung_option
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Keep a capture of it as well."
)
@click.option("--force", is_flag=True, help="Overwrite the file.")
def command(
    scenario: str | None,
    duration: float | None,
    as_json: bool,
    haproxy: str | None,
    cause: str | None,
    before: float | None,
    listing: bool,
    rung: str | None,
    output: Path | None,
    force: bool,
) -> int:
    """Make a leak on loopback with a real HAProxy, and watch it.

    SCENARIO is one of those that --list describes.  Everything that is started is stopped at
    the end, also when hatrace is killed.  Exit code 1 with findings.
    """
    if listing or scenario is None:
        _print(as_json)
        return 0
    script, binary = _script(scenario, cause), _binary(haproxy)
    with Stage() as stage:
        aside(_described(script))
        playing = script.play(stage, binary)
        time.sleep(script.before_s if before is None else before)
        return watch(Settings(playing.scope, duration, as_json, output, force, rung=rung))


def _script(name: str, cause: str | None) -> Scenario:
    """The scenario meant; raises UsageError for an unknown name or a cause it does not have."""
    if name == "master-socket":
        name = f"{name}-{cause or CAUSES[0]}"
    elif cause:
        raise UsageError(f"{name} has no --cause", do="only master-socket has")
    if name not in SCENARIOS:
        raise UsageError(f"no scenario {name}", do="see hatrace lab --list")
    return SCENARIOS[name]


def _binary(wanted: str | None) -> Path | None:
    """The HAProxy meant by a path, a suite or a series; None: the installed one."""
    if wanted is None:
        return None
    suites = {series: suite for suite, series in builds.SUITES.items()}
    suite = suites.get(wanted, wanted)
    if suite in builds.SUITES:
        return builds.fetch(suite)
    if not is_there(Path(wanted)) or not Path(wanted).is_file():
        raise UsageError(f"no HAProxy {wanted}", "no such file, suite or series")
    builds.version(Path(wanted))
    return Path(wanted).resolve()


def _print(as_json: bool) -> None:
    for script in SCENARIOS.values():
        if as_json:
            click.echo(json.dumps(_fields(script)))
        else:
            click.echo(_described(script) + "\n")


def _fields(script: Scenario) -> dict[str, object]:
    return {
        "name": script.name,
        "title": script.title,
        "real": script.real,
        "injected": script.injected,
        "expects": script.expects and script.expects.slug,
        "cause": script.expects and script.expects.cause,
        "before_s": script.before_s,
        "interval_s": script.interval_s,
    }


def _described(script: Scenario) -> str:
    """The scenario's text, wrapped for a terminal."""
    finding = (
        f"{script.expects.slug} ({script.expects.cause}), within {3 * script.interval_s:g} s"
        if script.expects
        else "nothing"
    )
    if script.before_s:
        finding += f"; hatrace comes after {script.before_s:g} s"
    rows = (("real", script.real), ("injected", script.injected), ("expect", finding))
    body = (click.wrap_text(text, 88, f"  {label:9} ", " " * 12) for label, text in rows)
    return "\n".join((f"{script.name}: {script.title}", *body))
