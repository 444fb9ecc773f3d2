"""With CI=true a skipped kernel test is a failure; elsewhere it is a skip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

SKIPS = {
    "in the test": "import pytest\ndef test_x(): pytest.skip('no BPF here')\n",
    "by a mark": "import pytest\n@pytest.mark.skip(reason='no BPF here')\ndef test_x(): pass\n",
    "the module": "import pytest\npytest.skip('no BPF here', allow_module_level=True)\n",
}


def pytest_run(folder: Path, place: str, source: str, ci: str) -> subprocess.CompletedProcess[str]:
    """A test file with these conftest files around it, run by a pytest of its own."""
    for name in ("conftest.py", "kernel/conftest.py"):
        target = folder / "tests" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TESTS / name, target)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = kernel: needs root\n")
    file = folder / "tests" / place / "test_it.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(source)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=folder,
        env=os.environ | {"CI": ci},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("source", SKIPS.values(), ids=SKIPS)
def test_skipped_kernel_test_in_ci(source: str, tmp_path: Path) -> None:
    result = pytest_run(tmp_path, "kernel", source, ci="true")
    assert result.returncode != 0
    assert "must not be skipped" in result.stdout
    assert "skipped:" in result.stdout


@pytest.mark.parametrize("source", SKIPS.values(), ids=SKIPS)
@pytest.mark.parametrize(("place", "ci"), [("kernel", ""), ("unit", "true")])
def test_skips_elsewhere(place: str, ci: str, source: str, tmp_path: Path) -> None:
    result = pytest_run(tmp_path, place, source, ci)
    assert "1 skipped" in result.stdout
    assert result.returncode in (0, 5)
