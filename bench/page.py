"""The page that shows the tables: what stands between their writer's markers is replaced."""

from __future__ import annotations

import re
from pathlib import Path

BEGIN, END = "<!-- {writer} writes from here", "<!-- to here -->"


def replaced(page: str, text: str, writer: str = "scripts/bench") -> str:
    """``page`` with ``text`` between the writer's markers; raises ValueError if it has none."""
    begin = BEGIN.format(writer=writer)
    pattern = re.compile(rf"({re.escape(begin)}[^\n]*\n).*?({re.escape(END)})", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"no line begins with {begin!r}, or there is no {END!r}")
    return pattern.sub(lambda found: f"{found[1]}\n{text.strip()}\n\n{found[2]}", page)


def rewrite(path: Path, text: str, writer: str = "scripts/bench") -> None:
    path.write_text(replaced(path.read_text(), text, writer))
