"""What is shipped: a wheel, built here without the registry, finds its BPF sources and pages."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hatrace import resources

ROOT = Path(__file__).parents[2]


def build(kind: str, source: Path, target: Path) -> Path:
    """The one file that hatchling makes of ``source``."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", target]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (file,) = target.iterdir()
    return file


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_checkout_finds_its_own() -> None:
    assert resources.bpf_dir() == ROOT / "bpf"
    assert resources.findings_dir() == ROOT / "docs/findings"


def test_an_installed_wheel_finds_its_own(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)  # a pure wheel, installed, is itself unpacked
    code = "from hatrace import resources as r; print(r.bpf_dir(), r.findings_dir(), sep='\\n')"
    out = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    bpf, findings = map(Path, out.splitlines())
    assert bpf.is_relative_to(tmp_path)
    assert files(bpf) == files(ROOT / "bpf")
    assert files(findings) == files(ROOT / "docs/findings")


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    package = ROOT / "src/hatrace"
    sources = {
        f"hatrace/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_carries_both_licences(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    licences = [name.split("licenses/")[1] for name in names if "/licenses/" in name]
    assert sorted(licences) == ["LICENSE", "bpf/LICENSE"]


def test_a_wheel_of_the_sdist_is_the_same(wheel: Path, tmp_path: Path) -> None:
    sdist = build("sdist", ROOT, tmp_path / "sdist")
    folder = tmp_path / "source"
    folder.mkdir()
    subprocess.run(["tar", "-xf", sdist, "-C", folder], check=True)
    (source,) = folder.iterdir()
    again = build("wheel", source, tmp_path / "again")
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()
