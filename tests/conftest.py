"""For all tests: with ``CI=true`` a kernel test that is skipped has failed.

A test machine without root, BPF or HAProxy would otherwise look as good as one with them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

KERNEL_TESTS = "tests/kernel/"


def skips_are_failures() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure that says why it was skipped."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"CI=true, so this kernel test must not be skipped: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    expected = hasattr(report, "wasxfail")
    if report.skipped and not expected and "kernel" in item.keywords and skips_are_failures():
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """A whole module that skips itself has no item to ask: its place decides."""
    report = yield
    if report.skipped and KERNEL_TESTS in f"{collector.nodeid}/" and skips_are_failures():
        _fail(report)
    return report
