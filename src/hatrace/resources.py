"""Files that ship with hatrace but are no Python: the BPF sources and the findings' pages.

In a wheel they lie inside the package (pyproject.toml maps them there); in a checkout, and
so in an editable install, at the top of the repository.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent.parent


def _shipped(name: str) -> Path:
    """The folder ``name`` beside this module, else that of the checkout it lies in."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else CHECKOUT / name


def bpf_dir() -> Path:
    """The folder of ``flow.h`` and the ``*.bpf.c`` files."""
    return _shipped("bpf")


def findings_dir() -> Path:
    """The folder of ``<slug>.md``, a page for each finding."""
    return _shipped("docs/findings")
