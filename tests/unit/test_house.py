"""The repository checks its own shape, and the checks are checked on small bad trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import house

ROOT = Path(__file__).parents[2]

Check = Callable[[Path], Iterator[str]]


@pytest.mark.parametrize("check", house.CHECKS, ids=lambda check: check.__name__)
def test_this_repository(check: Check) -> None:
    assert list(check(ROOT)) == []


GOOD = {
    "src/hatrace/__init__.py": '__version__ = "1.2.3"\n',
    "src/hatrace/cli.py": 'import click\nfrom hatrace.errors import E\nCOMMANDS = {"live": ""}\n',
    "src/hatrace/errors.py": "class E(Exception): ...\n",
    "src/hatrace/commands/__init__.py": "",
    "src/hatrace/commands/live.py": "import click\nfrom hatrace import kernel, sinks\n",
    "src/hatrace/detectors/__init__.py": "from hatrace.detectors import check_leak\n",
    "src/hatrace/detectors/_growth.py": "",
    "src/hatrace/detectors/check_leak.py": 'class CheckLeak:\n    slug = "check-leak"\n',
    "src/hatrace/detectors/shared.py": "from hatrace.model import flow\n",
    "src/hatrace/kernel/compiler.py": "import os\nfrom bcc import BPF\nfrom . import bpf\n",
    "src/hatrace/kernel/bpf.py": "from ..model.flow import Flow\n",
    "src/hatrace/model/flow.py": "import struct\n",
    "src/hatrace/sinks/report/text.py": "from rich.console import Console\n",
    "src/hatrace/sockets/netlink.py": "from pyroute2 import netlink\n",
    "bpf/flow.h": "/* SPDX-License-Identifier: GPL-2.0-only */\n",
    "docs/findings/check-leak.md": "# check-leak\n",
    "tests/unit/kernel/test_wire.py": "",
    "README.md": "`hatrace live`\n",
    "CHANGELOG.md": "# Changes\n\n## 1.2.3\n",
}


def tree(folder: Path, changes: dict[str, str | None]) -> Path:
    """A small repository that keeps every promise, but for ``changes`` (``None``: no file)."""
    for name, text in (GOOD | changes).items():
        if text is not None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return folder


@pytest.mark.parametrize("check", house.CHECKS, ids=lambda check: check.__name__)
def test_a_good_tree(check: Check, tmp_path: Path) -> None:
    assert list(check(tree(tmp_path, {}))) == []


BAD: list[tuple[Check, dict[str, str | None], str]] = [
    (
        house.check_inner_imports,
        {"src/hatrace/model/flow.py": "from hatrace.kernel import bpf\n"},
        "src/hatrace/model/flow.py:1: model may not import hatrace.kernel",
    ),
    (
        house.check_inner_imports,
        {"src/hatrace/detectors/check_leak.py": "def f():\n    from ..kernel import loader\n"},
        "src/hatrace/detectors/check_leak.py:2: detectors may not import hatrace.kernel",
    ),
    (
        house.check_inner_imports,
        {"src/hatrace/detectors/check_leak.py": "from hatrace import sinks\n"},
        "src/hatrace/detectors/check_leak.py:1: detectors may not import hatrace.sinks",
    ),
    (
        house.check_inner_imports,
        {"src/hatrace/magic/wand.py": "import os\n"},
        "src/hatrace/magic/wand.py:1: magic has no line in the import table",
    ),
    (
        house.check_outer_imports,
        {"src/hatrace/kernel/wire.py": "import bcc\n"},
        "src/hatrace/kernel/wire.py:1: bcc is not to be imported here",
    ),
    (
        house.check_outer_imports,
        {"src/hatrace/sinks/report/html.py": "from rich import print\n"},
        "src/hatrace/sinks/report/html.py:1: rich is not to be imported here",
    ),
    (
        house.check_outer_imports,
        {"src/hatrace/flows/table.py": "import requests\n"},
        "src/hatrace/flows/table.py:1: requests is not to be imported here",
    ),
    (
        house.check_outer_imports,
        {"src/hatrace/sockets/destroy.py": "import pyroute2\n"},
        "pyroute2 belongs into one file, not into sockets/destroy.py, sockets/netlink.py",
    ),
    (
        house.check_findings_pages,
        {"docs/findings/check-leak.md": None},
        "src/hatrace/detectors/check_leak.py: there is no docs/findings/check-leak.md",
    ),
    (
        house.check_findings_pages,
        {"docs/findings/gone.md": "# gone\n"},
        "docs/findings/gone.md: no detector and no check of that name",
    ),
    (
        house.check_commands,
        {"src/hatrace/commands/close.py": ""},
        "src/hatrace/commands/close.py: not in the list of src/hatrace/cli.py",
    ),
    (
        house.check_commands,
        {"src/hatrace/commands/live.py": None},
        "src/hatrace/cli.py: live has no src/hatrace/commands/live.py",
    ),
    (house.check_commands, {"README.md": "live\n"}, "README.md does not mention `hatrace live`"),
    (
        house.check_changelog,
        {"CHANGELOG.md": "## 1.2.2\n"},
        "CHANGELOG.md has no heading for version 1.2.3",
    ),
    (
        house.check_sizes,
        {"src/hatrace/flows/table.py": "x = 1\n" * 401},
        "src/hatrace/flows/table.py: 401 lines, more than 400",
    ),
    (
        house.check_promises,
        {"bpf/flow.h": "/* SPDX-License-Identifier: GPL-2.0-only */\n/* TODO: rest */\n"},
        "bpf/flow.h:2: /* TODO: rest */",
    ),
    (
        house.check_licences,
        {"bpf/unix.bpf.c": "int x;\n"},
        "bpf/unix.bpf.c: the first line has no SPDX-License-Identifier: GPL-2.0-only",
    ),
    (
        house.check_test_places,
        {"tests/unit/nowhere/test_x.py": ""},
        "tests/unit/nowhere/: there is no src/hatrace/nowhere",
    ),
]


@pytest.mark.parametrize(("check", "changes", "complaint"), BAD, ids=lambda value: "")
def test_a_bad_tree(
    check: Check, changes: dict[str, str | None], complaint: str, tmp_path: Path
) -> None:
    assert list(check(tree(tmp_path, changes))) == [complaint]


def test_every_check_is_seen_to_fail() -> None:
    assert {check for check, _, _ in BAD} == set(house.CHECKS)
