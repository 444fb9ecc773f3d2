"""What ``hatrace lab`` makes of its words, before anything is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hatrace.commands import lab
from hatrace.errors import EnvironmentLacks, UsageError
from hatrace.lab import builds
from hatrace.lab.scenarios import SCENARIOS


def listed(*words: str) -> str:
    return CliRunner().invoke(lab.command, [*words, "--list"], catch_exceptions=False).output


def test_the_list_tells_every_scenario() -> None:
    text = listed()
    assert all(f"{name}: " in text for name in SCENARIOS)
    assert text.count("injected") >= len(SCENARIOS)


def test_the_list_for_machines() -> None:
    rows = [json.loads(line) for line in listed("--json").splitlines()]
    assert [row["name"] for row in rows] == list(SCENARIOS)
    assert {row["expects"] for row in rows} >= {"check-leak", None}


def test_no_scenario_means_the_list() -> None:
    result = CliRunner().invoke(lab.command, [], catch_exceptions=False)
    assert result.output == listed()


def test_master_socket_is_clients_unless_said_otherwise() -> None:
    assert lab._script("master-socket", None).name == "master-socket-clients"
    assert lab._script("master-socket", "worker").name == "master-socket-worker"
    assert lab._script("master-socket-server", None).name == "master-socket-server"


def test_unknown_words_are_refused() -> None:
    with pytest.raises(UsageError, match="no scenario nix"):
        lab._script("nix", None)
    with pytest.raises(UsageError, match="healthy has no --cause"):
        lab._script("healthy", "clients")
    with pytest.raises(UsageError, match="no HAProxy /nix"):
        lab._binary("/nix")
    with pytest.raises(UsageError, match="no HAProxy xxx"):
        lab._binary("x" * 300)


def test_a_haproxy_by_path_suite_or_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "fetch", lambda suite: tmp_path / suite)
    assert lab._binary(None) is None
    assert lab._binary("trixie") == lab._binary("3.0") == tmp_path / "trixie"
    with pytest.raises(EnvironmentLacks, match="does not say its version"):
        lab._binary("/bin/true")
