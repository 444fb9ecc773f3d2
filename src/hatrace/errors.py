"""The errors a user may meet.  Each says what failed, on what, why, and what to do.

    HatraceError
    ├── UsageError        2   the command line asks for something that makes no sense
    ├── EnvironmentLacks  3   this host, kernel, user or HAProxy cannot do it
    └── CaptureUnreadable 4   a file is not a capture, or is too damaged

Exit codes 0 (nothing found) and 1 (findings) are no errors.  Only ``cli.main``
catches these; everything else that reaches it is a defect and keeps its traceback.
"""

from __future__ import annotations


class HatraceError(Exception):
    """An expected failure: *what* failed and *why*, in one sentence each, and what to *do*."""

    exit_code = 3

    def __init__(self, what: str, why: str = "", do: str = "") -> None:
        self.what, self.why, self.do = what, why, do
        super().__init__(": ".join(part for part in (what, why) if part))


class UsageError(HatraceError):
    exit_code = 2


class EnvironmentLacks(HatraceError):
    exit_code = 3


class CaptureUnreadable(HatraceError):
    exit_code = 4
