"""The three printers say the same, and let nothing through that would be obeyed."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
from pathlib import Path

import msgspec
import pytest
from markdown_it import MarkdownIt

from hatrace.model.event import Event
from hatrace.model.finding import Evidence, Finding, KnownBug, Step
from hatrace.sinks.report import as_json, markdown, text
from hatrace.sinks.report.content import Report
from tests.unit.sinks.report import story
from tests.unit.sinks.report.conftest import judged

SCHEMA = Path(__file__).parents[4] / "docs/report.schema.json"

EVIL = (
    "\x1b[31mred\x1b]0;title\x07 [bold]x[/bold] <script>alert(1)</script> | `a` **b** [c](d)"
    " https://evil.example/ @all #1 \u202e"
)


def as_text(report: Report, width: int = 80) -> str:
    stream = io.StringIO()
    text.write(report, stream, width)
    return stream.getvalue()


def words(printed: str) -> str:
    return " ".join(printed.split())


def with_finding(report: Report, **fields: object) -> Report:
    finding = dataclasses.replace(report.findings[0], **fields)  # type: ignore[arg-type]
    return dataclasses.replace(report, findings=(finding,))


def poisoned(report: Report) -> Report:
    """Every string of the finding says ``EVIL``, and the rows', too."""
    finding = report.findings[0]
    evil = Finding(
        slug=EVIL, subject=EVIL, severity=finding.severity, confidence=finding.confidence,
        claim=EVIL, at_ns=finding.at_ns, since_ns=finding.since_ns, count=1,
        evidence=(Evidence("tcp", comm=EVIL, local=EVIL, note=EVIL), Evidence("tcp", note=EVIL)),
        cause=EVIL, ruled_out=(EVIL,), known_bug=KnownBug(EVIL, EVIL, EVIL, EVIL),
        next_steps=(Step(EVIL, f"echo '{EVIL}' ```"),), verify=(Step(EVIL),), caveat=EVIL,
    )  # fmt: skip
    targets = tuple(dataclasses.replace(row, name=EVIL) for row in report.targets)
    sockets = tuple(dataclasses.replace(row, path=EVIL, holders=(EVIL,)) for row in report.sockets)
    checks = tuple(dataclasses.replace(one, results=(EVIL,)) for one in report.checks)
    return dataclasses.replace(
        report, findings=(evil,), targets=targets, sockets=sockets, checks=checks,
        info=dataclasses.replace(report.info, host=EVIL, command_line=(EVIL,)),
    )  # fmt: skip


@pytest.mark.parametrize("width", [20, 80, 100, 120, 300])
def test_text_fits_its_width_but_for_commands(leaking: Report, width: int) -> None:
    finding = leaking.findings[0]
    commands = {step.command for step in (*finding.next_steps, *finding.verify)}
    for line in as_text(leaking, width).splitlines():
        assert len(line) <= min(max(width, 80), 120) or line.strip() in commands


def test_the_verdict_comes_first(leaking: Report, healthy: Report) -> None:
    for report in (leaking, healthy):
        head = words(as_text(report)).removeprefix("hatrace: lb1, 2023-11-14 22:13:20 to 22:")
        assert report.summary.sentence in head[: len(report.summary.sentence) + 30]
        assert markdown.safe(report.summary.sentence) in markdown.render(report)[:600]


@pytest.mark.parametrize("printer", [as_text, markdown.render, as_json.render])
def test_each_says_all_that_matters(leaking: Report, printer) -> None:  # type: ignore[no-untyped-def]
    finding = leaking.findings[0]
    bug = KnownBug(
        "GH #2395", "sockets stay", "2.9.2", "https://github.com/haproxy/haproxy/issues/1"
    )
    printed = words(printer(with_finding(leaking, known_bug=bug)).replace("\\", ""))
    for needed in (
        finding.cause, *finding.ruled_out, finding.claim, bug.reference, bug.url, "2.9.2",
        "192.0.2.100:41000", "client has left", "hatrace close", "it is dark there",
        "permission denied", "6.1.0",
    ):  # fmt: skip
        assert words(needed.replace("\\", "")) in printed
    for step in finding.next_steps:
        assert words(step.command.replace("\\", "")) in printed.replace("u0027", "'")


def test_commands_can_be_pasted_whole(leaking: Report) -> None:
    long = "ss -tanp " + " ".join(f"dst 192.0.2.{n}" for n in range(40))
    report = with_finding(leaking, next_steps=(Step("look", long),))
    assert long in [line.strip() for line in as_text(report).splitlines()]
    assert long in [line.strip() for line in markdown.render(report).splitlines()]


def test_no_control_character_leaves_a_printer(leaking: Report) -> None:
    for printed in (
        as_text(poisoned(leaking)),
        markdown.render(poisoned(leaking)),
        as_json.render(poisoned(leaking)),
    ):
        assert (
            re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", printed) is None
        )


def test_text_shows_markup_as_it_is(leaking: Report) -> None:
    assert "[bold]x[/bold]" in words(as_text(poisoned(leaking), 120))


def test_markdown_keeps_its_shape_whatever_is_in_it(leaking: Report) -> None:
    """Rendered, the poison adds no element: no link, emphasis, code, HTML or table cell."""

    def elements(report: Report) -> list[str]:
        tokens = (
            MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown.render(report))
        )
        inline = [child for token in tokens for child in token.children or ()]
        return [one.type for one in (*tokens, *inline) if one.type not in ("text", "softbreak")]

    harmless = poisoned(leaking)
    plain = msgspec.json.decode(
        msgspec.json.encode(harmless).replace(msgspec.json.encode(EVIL)[1:-1], b"plain"),
        type=Report,
    )
    assert elements(harmless) == elements(plain)
    html = (
        MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown.render(harmless))
    )
    assert "<script" not in html
    assert "<strong>b" not in html


def test_markdown_does_not_call_people(leaking: Report) -> None:
    fences = re.compile(r"^ *(`{3,})sh.*?^ *\1$", re.DOTALL | re.MULTILINE)
    outside, codes = fences.subn("", markdown.render(poisoned(leaking)))
    assert codes == 1
    assert not re.search(r"(?<!\w)@\w|\w://", outside)


@pytest.mark.parametrize(
    "text",
    [
        "www.example.com",
        "(WWW.x.org)",
        "_www.x.org",
        "a@b.example",
        "a@_b.example.com",
        "a@-b.example.com",
        "a@.b.example.com",
        "http://x",
    ],
)
def test_markdown_links_nothing_by_itself(text: str) -> None:
    assert not re.search(r"www\.|@[^\u2060]|://", markdown.safe(text), re.IGNORECASE)
    assert markdown.safe(text).replace("\u2060", "").replace("\\_", "_") == text


def test_a_ticket_is_short_above_the_folds(leaking: Report) -> None:
    visible = re.sub(r"<details>.*?</details>", "", markdown.render(leaking), flags=re.DOTALL)
    assert len([line for line in visible.splitlines() if line]) < 50
    assert markdown.render(leaking).count("<details>") == markdown.render(leaking).count(
        "</details>"
    )


def test_json_is_what_its_schema_says(leaking: Report, healthy: Report) -> None:
    for report in (leaking, healthy, poisoned(leaking)):
        again = msgspec.json.decode(as_json.render(report).encode(), type=Report, strict=True)
        assert again.findings == report.findings
        assert again.summary == report.summary
        assert as_json.render(report).isascii()


def test_an_infinite_lifetime_is_null(leaking: Report) -> None:
    rows = tuple(dataclasses.replace(row, median_s=math.inf) for row in leaking.targets)
    printed = json.loads(as_json.render(dataclasses.replace(leaking, targets=rows)))
    assert {row["median_s"] for row in printed["targets"]} == {None}


def test_the_published_schema_is_that_of_the_code() -> None:
    """If this fails: python -m hatrace.sinks.report.as_json > docs/report.schema.json"""
    assert json.loads(SCHEMA.read_text()) == as_json.schema()


def test_the_same_events_give_the_same_report() -> None:
    events: list[Event] = story.leaking()
    assert as_json.render(judged(events)) == as_json.render(judged(events))
