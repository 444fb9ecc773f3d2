"""docs/scoreboard.md: the tables with what made them, so that anyone can make them again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hatrace.lab.scenario import Scenario
from scoreboard import table
from scoreboard.trial import HAProxy, Trial

HEAD = """\
# Scoreboard: every leak named, every look-alike left alone

    {command}

{about}

Each trial is a fresh `hatrace lab SCENARIO --json --haproxy SUITE`: a real HAProxy of Debian's
suite on loopback, peers that misbehave or behave; `--jobs` of them at a time.
`hatrace lab --list` says what is real and what is injected in each.

- **Named**: a finding with the scenario's slug; its cause contains the expected words. The time
  runs from the moment hatrace begins to attach (it compiles and loads its programs first) until
  the line with the finding is read; in brackets, the same in the scenario's own intervals. A
  finding is due within three of these, or within 2 s.
- **False**: any other finding, or any at all where nothing leaks, even if it was taken back.
- `*`: the load average was above the number of processors; other work shared the machine.
- `-`: this HAProxy lacks what the scenario needs.
"""


@dataclass(frozen=True)
class About:
    """What was run, where and when."""

    command: Sequence[str]
    date: str
    kernel: str
    machine: str
    cpus: int
    hatrace: str
    rungs: Sequence[str]
    haproxies: Sequence[HAProxy]
    earlier: Sequence[str] = ()
    """Commands of which rows were kept (`--with`)."""

    @property
    def sentence(self) -> str:
        versions = ", ".join(f"{one.version} ({one.suite})" for one in self.haproxies)
        return (
            f"{self.date}, hatrace {self.hatrace}, rung {' and '.join(self.rungs) or 'unknown'},"
            f" kernel {self.kernel} ({self.machine}, {self.cpus} processors),\nHAProxy {versions}."
        )


def render(about: About, trials: Sequence[Trial], scenarios: Mapping[str, Scenario]) -> str:
    """The whole page."""
    series = [one.series for one in about.haproxies]
    commands = "\n    ".join([*about.earlier, shlex.join(about.command)])
    head = HEAD.format(command=commands, about=about.sentence)
    parts = [head, *_sections(trials, scenarios, series)]
    return "\n".join(parts).rstrip() + "\n"


def _sections(
    trials: Sequence[Trial], scenarios: Mapping[str, Scenario], series: Sequence[str]
) -> list[str]:
    """The tables with their headings; those without a row are left out."""
    tables = {
        "Totals": table.summary(trials, scenarios, series),
        "Leaks": table.leaks(trials, scenarios, series),
        "Look-alikes": table.silent(trials, scenarios, series),
        "Remarks": "\n".join(f"- {line}" for line in table.notes(trials)),
    }
    return [f"## {title}\n\n{text}\n" for title, text in tables.items() if text]
