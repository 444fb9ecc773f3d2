"""The static checks, one question a file: `ask` puts them all to one setup.

A check is a module with a ``SLUG`` and ``findings(setup)``.  It reads nothing but the setup; a
question for which the setup lacks a fact is answered with `Unasked`, never with silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from hatrace.checks import (
    check_timing,
    config_rejected,
    ephemeral_bind,
    fd_limit,
    known_leaks,
    master_slots,
    missing_timeout,
    no_hard_stop,
    plain_tcp_check,
    zero_copy_tcp,
)
from hatrace.checks._fds import descriptors
from hatrace.checks._rhythm import rows
from hatrace.model.finding import Finding, Severity
from hatrace.model.setup import Checked, Setup, Unasked

__all__ = ["CHECKS", "Check", "ask", "check_timing", "ephemeral_bind"]


class Check(Protocol):
    """One question."""

    SLUG: str

    def findings(self, setup: Setup) -> Iterable[Finding | Unasked]: ...


CHECKS: tuple[Check, ...] = (
    config_rejected,
    zero_copy_tcp,
    known_leaks,
    plain_tcp_check,
    check_timing,
    missing_timeout,
    no_hard_stop,
    ephemeral_bind,
    fd_limit,
    master_slots,
)
_URGENT = tuple(reversed(Severity))


def ask(setup: Setup) -> Checked:
    """Every question to this setup; findings by severity, the worst first."""
    answers = [answer for check in CHECKS for answer in check.findings(setup)]
    found = [answer for answer in answers if isinstance(answer, Finding)]
    return Checked(
        setup,
        tuple(sorted(found, key=lambda one: _URGENT.index(one.severity))),
        tuple(answer for answer in answers if isinstance(answer, Unasked)),
        tuple(rows(setup)),
        descriptors(setup),
    )
