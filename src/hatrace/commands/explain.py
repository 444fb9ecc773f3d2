"""``hatrace explain``: the page of a finding, from the files that ship with hatrace."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

import click

from hatrace.commands import _options as options
from hatrace.errors import EnvironmentLacks, UsageError
from hatrace.resources import findings_dir


@click.command()
@click.argument("slug", required=False)
@options.json_option
def command(slug: str | None, as_json: bool) -> int:
    """What the finding SLUG means: symptom, mechanism, evidence, how to confirm it by hand,
    what looks alike, known bugs, what to do.  Without SLUG: the list of all findings.
    """
    pages = _pages()
    if slug is None:
        questions = {name: _question(path) for name, path in pages.items()}
        click.echo(json.dumps(questions, indent=2) if as_json else _list(questions))
        return 0
    page = _read(pages, slug)
    click.echo(json.dumps({"slug": slug, "page": page}) if as_json else page.rstrip("\n"))
    return 0


def _pages() -> dict[str, Path]:
    """Slug → page, by name; raises EnvironmentLacks where the installation lacks them."""
    found = {path.stem: path for path in sorted(findings_dir().glob("*.md"))}
    found.pop("README", None)
    if not found:
        raise EnvironmentLacks(
            "the pages of the findings are missing",
            f"there is none in {findings_dir()}",
            "install hatrace again",
        )
    return found


def _read(pages: dict[str, Path], slug: str) -> str:
    """The page's text; raises UsageError with the nearest names for a slug nobody has."""
    if slug in pages:
        return pages[slug].read_text(encoding="utf-8")
    near = difflib.get_close_matches(slug, pages, n=3, cutoff=0.4)
    raise UsageError(
        f"there is no finding {slug!r}",
        f"hatrace knows {', '.join(pages)}",
        f"hatrace explain {near[0]}" if near else "hatrace explain",
    )


def _question(path: Path) -> str:
    """The page's first paragraph after its title, on one line."""
    paragraphs = path.read_text(encoding="utf-8").split("\n\n")
    return " ".join(paragraphs[1].split()) if len(paragraphs) > 1 else ""


def _list(questions: dict[str, str]) -> str:
    width = max(map(len, questions))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in questions.items())
