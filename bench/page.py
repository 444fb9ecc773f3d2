"""The page that shows the tables: what stands between its markers is replaced."""

from __future__ import annotations

import re
from pathlib import Path

BEGIN, END = "<!-- scripts/bench writes from here", "<!-- to here -->"


def replaced(page: str, text: str) -> str:
    """``page`` with ``text`` between its markers; raises ValueError if it has none."""
    pattern = re.compile(rf"({re.escape(BEGIN)}[^\n]*\n).*({re.escape(END)})", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"no line begins with {BEGIN!r}, or there is no {END!r}")
    return pattern.sub(lambda found: f"{found[1]}\n{text.strip()}\n\n{found[2]}", page)


def rewrite(path: Path, text: str) -> None:
    path.write_text(replaced(path.read_text(), text))
