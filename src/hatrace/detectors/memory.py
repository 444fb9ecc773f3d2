"""Memory: since when each finding has been open, and under which name."""

from __future__ import annotations

from collections.abc import Iterable


class Memory:
    """What a detector keeps from one look to the next, forgotten with the finding."""

    def __init__(self) -> None:
        self._since: dict[str, int] = {}
        self._owners: dict[str, int] = {}

    def since(self, subject: str, now_ns: int) -> int:
        """When the subject was first found, in an unbroken row of looks."""
        return self._since.setdefault(subject, now_ns)

    def subject(self, label: str, pid: int) -> str:
        """``label``; if another process has that name already, ``label (pid N)``.

        So a name stays the same when a second process with the same trouble comes.
        """
        owner = self._owners.setdefault(label, pid)
        return label if owner == pid else f"{label} (pid {pid})"

    def keep(self, subjects: Iterable[str]) -> None:
        """Forgets all but these."""
        found = set(subjects)
        self._since = {key: at for key, at in self._since.items() if key in found}
        labels = {subject.partition(" (pid ")[0] for subject in found}
        self._owners = {key: pid for key, pid in self._owners.items() if key in labels}
