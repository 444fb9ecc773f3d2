"""Where HAProxy comes from, as far as it can be asked without the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatrace.errors import EnvironmentLacks
from hatrace.lab import builds


def program(path: Path, prints: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(0o755)
    return path


def test_the_version_that_a_binary_says(tmp_path: Path) -> None:
    said = "HAProxy version 3.0.11-1+deb13u3 2026/05/01 - https://haproxy.org/"
    assert builds.version(program(tmp_path / "haproxy", said)) == "3.0.11-1+deb13u3"


def test_old_ones_say_ha_proxy(tmp_path: Path) -> None:
    said = "HA-Proxy version 2.2.9-2+deb11u6 2023/08/11 - https://haproxy.org/"
    assert builds.version(program(tmp_path / "haproxy", said)) == "2.2.9-2+deb11u6"


def test_another_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacks, match="does not say its version"):
        builds.version(program(tmp_path / "nginx", "nginx 1.22"))


def test_what_does_not_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacks, match="does not run"):
        builds.version(tmp_path / "absent")


def test_an_unknown_suite_names_the_known() -> None:
    with pytest.raises(EnvironmentLacks, match="trixie"):
        builds.fetch("warty")


def test_only_unpacked_suites_are_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds, "CACHE", tmp_path)
    assert builds.available() == {}
    (tmp_path / "trixie").mkdir()
    (tmp_path / "trixie/haproxy").touch()
    assert builds.available() == {"trixie": tmp_path / "trixie/haproxy"}
    assert builds.fetch("trixie") == tmp_path / "trixie/haproxy"
