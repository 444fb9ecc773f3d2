"""Setups for tests: real configuration text through the real reader, and the facts of a host."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hatrace.commands._setups import _setup
from hatrace.haproxy import config
from hatrace.model.finding import Finding
from hatrace.model.setup import HostFacts, Setup, Unasked
from hatrace.model.topology import Kind, Process

HOST = HostFacts(
    port_low=32768, port_high=60999, nr_open=1_048_576, fd_hard=20_000, fd_may_raise=False, cpus=2
)
DEFAULTS = """
global
    maxconn 1000
    hard-stop-after 15m
defaults
    mode http
    timeout connect 5s
    timeout client 50s
    timeout server 50s
    option httpchk
"""
"""Lines 2 to 9; what is appended begins on line 11."""
HEALTHY = """
listen web
    bind 192.0.2.1:80
    timeout check 1s
    server s1 192.0.2.11:80 check
    server s2 192.0.2.12:80 check backup
"""


def setup(text: str, version: str | None = "3.2.4", **facts: Any) -> Setup:
    """What ``text`` says as the file ``haproxy.cfg``; ``facts`` are fields of `Setup`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "haproxy.cfg")
        file.write_text(text)
        read = config.read([file], {}, "here")
    return replace(_setup(read, ("haproxy.cfg",), version), **({"host": HOST} | facts))


def process(kind: Kind = Kind.MASTER, **fields: Any) -> Process:
    return replace(Process(812, kind, 1, "haproxy", 0, config_files=("/etc/h.cfg",)), **fields)


def only(answers: Any) -> Finding:
    """The one answer, which must be a finding."""
    (answer,) = answers
    assert isinstance(answer, Finding)
    return answer


def unasked(answers: Any) -> Unasked:
    """The one answer, which must be that it could not be asked."""
    (answer,) = answers
    assert isinstance(answer, Unasked)
    return answer


def lines(finding: Finding) -> list[str]:
    """``12: mode tcp``: its places, without the file's name."""
    return [one.note.partition("haproxy.cfg:")[2] for one in finding.evidence if one.note]


def proposed(finding: Finding) -> list[str]:
    """Commands and configuration lines of its next steps."""
    return [step.command for step in finding.next_steps if step.command]
