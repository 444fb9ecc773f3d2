"""Known bugs: quoted for the versions that were stated, and for no others."""

from __future__ import annotations

import pytest

from hatrace.haproxy.known_issues import in_range, issues, matching, work_around
from hatrace.haproxy.version import Version


def commits(version: str, slug: str) -> list[str]:
    return [bug.reference.rpartition(" ")[2] for bug in matching(version, slug)]


@pytest.mark.parametrize("version", ["2.9.1", "2.9.1-1+deb12u1", "2.9.1-f72603c-12"])
def test_the_leak_of_2_9_1_comes_first(version: str) -> None:
    assert commits(version, "stream-leak")[0] == "123a9e7d8321"
    bug = matching(version, "stream-leak")[0]
    assert bug.fixed_in == "2.9.2"
    assert "GH #2395" in bug.reference
    assert "-dZ" in bug.work_around == work_around(bug.reference)


@pytest.mark.parametrize("version", ["2.8.9", "2.9.0", "2.9.2", "3.0.0", "2.6.12-1+deb12u4"])
def test_its_neighbours_do_not_have_it(version: str) -> None:
    assert "123a9e7d8321" not in commits(version, "stream-leak")


def test_it_is_no_leak_of_checks() -> None:
    assert "123a9e7d8321" not in commits("2.9.1", "check-leak")


@pytest.mark.parametrize("version", ["2.6.12", "3.0.11", "3.4.0"])
def test_the_unfixed_bug_of_the_master_says_that_it_is(version: str) -> None:
    (bug,) = (b for b in matching(version, "master-socket") if "#3351" in b.reference)
    assert bug.fixed_in.startswith("none")


def test_a_fix_no_source_places_in_a_release_is_not_verified() -> None:
    (bug,) = (b for b in matching("3.0.7", "master-socket") if "#2727" in b.reference)
    assert "not verified" in bug.fixed_in
    assert "14a413033c15" not in commits("3.1.0", "master-socket")


@pytest.mark.parametrize("version", ["", "unknown", "HAProxy"])
def test_no_version_no_bug(version: str) -> None:
    assert matching(version, "stream-leak") == ()


def test_every_row_can_be_read_and_names_its_source() -> None:
    slugs = set[str]()
    for issue in issues():
        in_range(Version("3.0.0"), issue.versions)
        slugs |= issue.slugs
        assert len(issue.bug.reference.rpartition(" ")[2]) == 12
        assert issue.bug.title and issue.bug.fixed_in and issue.bug.url
        assert issue.basis in ("reproduced", "commit text")
    assert {"stream-leak", "check-leak", "master-socket", "drain-survivor"} <= slugs
    assert len({issue.bug.reference for issue in issues()}) == len(issues())


def test_versions_in_their_order() -> None:
    texts = ["2.9.0", "2.9.0-60c949-1", "2.9.1", "2.9.10", "3.0-dev3", "3.0-dev12", "3.0.0"]
    assert [each.text for each in sorted(map(Version, reversed(texts)))] == texts
    assert Version("2.6.12-1+deb12u4") == Version("2.6.12")


def test_ranges() -> None:
    assert in_range(Version("3.0.4"), ">=2.8.0 <2.9.11|>=3.0.0 <3.0.5")
    assert not in_range(Version("3.0.5"), ">=2.8.0 <2.9.11|>=3.0.0 <3.0.5")
    assert not in_range(Version("2.9.11"), ">=2.8.0 <2.9.11|>=3.0.0 <3.0.5")
    assert in_range(Version("2.9.0-60c949-1"), ">2.9.0 <2.9.2")
    assert not in_range(Version("2.9.0"), ">2.9.0 <2.9.2")
