"""Can HAProxy get the file descriptors that its `maxconn` needs?

Evidence: `global` against the limits of its process or of this shell.  From 2.3 on HAProxy does
not start with too few ("Cannot raise FD limit"), and ``haproxy -c`` does not see it; before, or
with `no strict-limits`, it starts and accept() fails when they are used up.
"""

from __future__ import annotations

from collections.abc import Iterable

from hatrace.checks._answer import again, finding, into_global, pid
from hatrace.checks._fds import ceiling, descriptors, hard_limit_of
from hatrace.model.finding import Confidence, Finding, Severity, Step
from hatrace.model.setup import Descriptors, Setup, Unasked

SLUG = "fd-limit"


def findings(setup: Setup) -> Iterable[Finding | Unasked]:
    told = descriptors(setup)
    if told is None:
        if setup.sections:
            yield Unasked(SLUG, "neither maxconn nor a limit of open files is known")
        return
    if told.limit is not None and told.needed > told.limit:
        yield _too_few(setup, told, told.limit)
    own = setup.general.get("ulimit-n")
    words = own.value.split() if own is not None else []
    if words and words[0].isdecimal() and int(words[0]) < told.needed and not told.computed:
        yield _own_limit(setup, told, int(words[0]))


def _too_few(setup: Setup, told: Descriptors, limit: int) -> Finding:
    fits = max(1, (limit - (told.needed - 2 * told.maxconn)) // 2)
    service = max(told.needed, 1024)
    return finding(
        setup,
        SLUG,
        "maxconn",
        Severity.CRITICAL if setup.process is not None else Severity.WARNING,
        f"maxconn {told.maxconn:,} needs {told.needed:,} file descriptors, the limit is"
        f" {limit:,}: {_harm(setup)}",
        places=[each.place for name, each in setup.general.items() if name in _NAMES],
        count=1,
        confidence=Confidence.LIKELY if setup.process is not None else Confidence.POSSIBLE,
        cause=f"{told.arithmetic}; {_limit_words(setup, limit)}",
        next_steps=[
            Step("give its service more, and restart it", _drop_in(service)),
            into_global(setup, f"maxconn {fits}", "or fewer connections"),
        ],
        verify=[
            Step("systemd's limit", "systemctl show haproxy -p LimitNOFILE"),
            Step(
                "the running process has them",
                f"grep 'open files' /proc/{pid(setup)}/limits",
            ),
            again(setup),
        ],
        caveat=""
        if setup.process is not None
        else "the limit is that of this shell; HAProxy's service may have another",
    )


def _drop_in(limit: int) -> str:
    """For systemd, as `systemctl edit` would write it."""
    folder = "/etc/systemd/system/haproxy.service.d"
    return (
        f"mkdir -p {folder} && printf '[Service]\\nLimitNOFILE={limit}\\n' > {folder}/limits.conf"
        " && systemctl daemon-reload"
    )


_NAMES = ("maxconn", "ulimit-n", "fd-hard-limit", "nbthread", "no strict-limits")


def _limit_words(setup: Setup, limit: int) -> str:
    if "fd-hard-limit" in setup.general and ceiling(setup) == limit:
        return f"fd-hard-limit or {hard_limit_of(setup.host)}: {limit}"
    return f"{hard_limit_of(setup.host)}: {limit}"


def _own_limit(setup: Setup, told: Descriptors, own: int) -> Finding:
    setting = setup.general["ulimit-n"]
    return finding(
        setup,
        SLUG,
        "ulimit-n",
        Severity.WARNING,
        f"ulimit-n {own:,} is less than the {told.needed:,} file descriptors that maxconn"
        f" {told.maxconn:,} needs: {_harm(setup)}",
        places=[setting.place],
        cause=told.arithmetic,
        next_steps=[
            Step(f"remove {setting.place}: HAProxy computes it itself"),
            Step("or lower maxconn"),
        ],
        verify=[again(setup)],
    )


def _harm(setup: Setup) -> str:
    if "no strict-limits" in setup.general:
        return "accept() fails when they are used up"
    return "HAProxy does not start (before 2.3: it does, and accept() fails later)"
