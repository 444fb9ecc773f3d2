"""Does HAProxy itself accept these files?

Evidence: what ``haproxy -c`` printed.  What a running HAProxy was started with stays in force,
but a reload with files that are refused does nothing, and after a restart nothing runs.
"""

from __future__ import annotations

from collections.abc import Iterable

from hatrace.checks._answer import again, finding
from hatrace.model.finding import Evidence, Finding, Severity, Step
from hatrace.model.setup import Setup, Unasked

SLUG = "config-rejected"


def findings(setup: Setup) -> Iterable[Finding | Unasked]:
    said = setup.validation
    if said is None:
        yield Unasked(SLUG, setup.not_validated or "HAProxy was not asked")
        return
    if said.version and setup.version and said.version != setup.version:
        yield Unasked(
            SLUG, f"{said.binary} is HAProxy {said.version}, it cannot speak for {setup.version}"
        )
    elif not said.accepted:
        yield finding(
            setup,
            SLUG,
            ", ".join(setup.files),
            Severity.CRITICAL,
            f"HAProxy{f' {said.version}' if said.version else ''} does not accept the"
            " configuration: no reload or restart will work",
            evidence=[Evidence(what="log", note=line) for line in said.words],
            cause="see HAProxy's own words",
            next_steps=[Step("correct the lines that it names")],
            verify=[again(setup)],
            caveat="" if said.privileged else "asked without root: it may just not read a file",
        )
