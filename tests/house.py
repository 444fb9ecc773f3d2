"""What the repository promises about its own shape, as checks over a tree of files.

Each check takes the repository's top folder and yields a sentence for everything that
breaks the promise; nothing: all is well.  `tests/unit/test_house.py` runs them over this
repository, and over small bad trees to see that each can fail.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

LEAVES = frozenset({"model", "errors", "resources"})
"""Importable from everywhere; they import nothing of hatrace themselves."""

EVERYTHING = frozenset({"*"})

HATRACE_IMPORTS = {
    "model": frozenset(),
    "errors": frozenset(),
    "resources": frozenset(),
    "kernel": LEAVES,
    "sockets": LEAVES,
    "haproxy": LEAVES,
    "flows": LEAVES,
    "detectors": LEAVES,
    "checks": LEAVES,
    "actions": LEAVES | {"haproxy", "sockets"},
    "capture": LEAVES,
    "sinks": LEAVES | {"pipeline"},  # for the Verdict they are handed
    "pipeline": frozenset({"model"}),
    "lab": EVERYTHING,
    "commands": EVERYTHING,
    "cli": EVERYTHING,
    "__main__": frozenset({"cli"}),
    "__init__": frozenset(),
}
"""Package (or top module) of hatrace -> which others it may import; itself always."""

THIRD_PARTY = {
    "bcc": ("kernel/compiler.py",),
    "pyroute2": ("sockets/*.py",),
    "mcap": ("capture/*.py",),
    "zstandard": ("capture/*.py",),
    "msgspec": ("capture/*.py", "sinks/*.py"),
    "rich": ("sinks/live/*.py", "sinks/report/text.py"),
    "click": ("cli.py", "commands/*.py"),
}
"""Package from elsewhere -> the files below src/hatrace that may import it."""

IN_ONE_FILE = frozenset({"pyroute2"})

STANDARD = sys.stdlib_module_names

MAX_LINES = 400


@dataclass(frozen=True)
class Import:
    """One ``import``: in which file (below src/hatrace), on which line, of what."""

    file: str
    line: int
    module: str

    @property
    def top(self) -> str:
        return self.module.split(".")[0]

    @property
    def place(self) -> str:
        return f"src/hatrace/{self.file}:{self.line}"


def imports(root: Path) -> Iterator[Import]:
    """Every import of every file below src/hatrace, wherever in the file it stands."""
    package = root / "src/hatrace"
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            for module in _imported(node, name):
                yield Import(name.as_posix(), getattr(node, "lineno", 0), module)


def _imported(node: ast.AST, file: Path) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        parts = ("hatrace", *file.parent.parts)
        base = ".".join((*parts[: len(parts) - node.level + 1], base)).rstrip(".")
    if base == "hatrace":
        return [f"hatrace.{alias.name}" for alias in node.names]
    return [base]


def check_inner_imports(root: Path) -> Iterator[str]:
    """The table of ARCHITECTURE.md, column "may import from hatrace"."""
    for found in imports(root):
        owner = Path(found.file).parts[0].removesuffix(".py")
        if owner not in HATRACE_IMPORTS:
            yield f"{found.place}: {owner} has no line in the import table"
            continue
        parts = found.module.split(".")
        other = parts[1] if len(parts) > 1 else "__init__"
        allowed = HATRACE_IMPORTS[owner]
        if found.top != "hatrace" or other == owner or other.startswith("__"):
            continue
        if other not in allowed and "*" not in allowed:
            yield f"{found.place}: {owner} may not import hatrace.{other}"


def check_outer_imports(root: Path) -> Iterator[str]:
    """The table of ARCHITECTURE.md, column "third party"."""
    users: dict[str, set[str]] = {}
    for found in imports(root):
        if found.top == "hatrace" or found.top in STANDARD:
            continue
        users.setdefault(found.top, set()).add(found.file)
        if not any(fnmatch(found.file, where) for where in THIRD_PARTY.get(found.top, ())):
            yield f"{found.place}: {found.top} is not to be imported here"
    for package in sorted(IN_ONE_FILE & users.keys()):
        if len(users[package]) > 1:
            yield f"{package} belongs into one file, not into {', '.join(sorted(users[package]))}"


def check_findings_pages(root: Path) -> Iterator[str]:
    """A page per detector, a detector (or static check) per page."""
    pages = {path.stem for path in (root / "docs/findings").glob("*.md")} - {"README"}
    slugs: set[str] = set()
    for path in _modules(root, "detectors"):
        slug = path.stem.replace("_", "-")
        if not re.search(rf"""^\s+slug\b.*["']{slug}["']""", path.read_text(), re.MULTILINE):
            continue  # shared by detectors, none itself
        slugs.add(slug)
        if slug not in pages:
            yield f"src/hatrace/detectors/{path.name}: there is no docs/findings/{slug}.md"
    known = slugs | {path.stem.replace("_", "-") for path in _modules(root, "checks")}
    for page in sorted(pages - known):
        yield f"docs/findings/{page}.md: no detector and no check of that name"


def check_commands(root: Path) -> Iterator[str]:
    """The modules of commands/, the list in cli.py and README.md name the same commands."""
    listed = _listed_commands(root)
    there = {path.stem for path in _modules(root, "commands")}
    readme = (root / "README.md").read_text()
    for name in sorted(there - listed):
        yield f"src/hatrace/commands/{name}.py: not in the list of src/hatrace/cli.py"
    for name in sorted(listed - there):
        yield f"src/hatrace/cli.py: {name} has no src/hatrace/commands/{name}.py"
    for name in sorted(listed):
        if f"hatrace {name}" not in readme:
            yield f"README.md does not mention `hatrace {name}`"


def _listed_commands(root: Path) -> set[str]:
    tree = ast.parse((root / "src/hatrace/cli.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMMANDS":
            return set(ast.literal_eval(node.value))
    raise LookupError("src/hatrace/cli.py has no COMMANDS")


def check_changelog(root: Path) -> Iterator[str]:
    """The version has its heading in CHANGELOG.md."""
    source = (root / "src/hatrace/__init__.py").read_text()
    version = re.search(r'__version__ = "([^"]+)"', source)
    if not version:
        yield "src/hatrace/__init__.py: no __version__"
    elif not re.search(rf"^## {re.escape(version[1])}\b", _text(root, "CHANGELOG.md"), re.M):
        yield f"CHANGELOG.md has no heading for version {version[1]}"


def check_sizes(root: Path) -> Iterator[str]:
    """A file that has outgrown one story."""
    for path in sorted((root / "src").rglob("*.py")):
        lines = path.read_text().count("\n")
        if lines > MAX_LINES:
            yield f"{path.relative_to(root)}: {lines} lines, more than {MAX_LINES}"


def check_promises(root: Path) -> Iterator[str]:
    """Nothing is left for later in what is shipped."""
    files = [path for top in ("src", "bpf", "scripts") for path in (root / top).rglob("*")]
    for path in sorted(files):
        if path.suffix in (".py", ".c", ".h", ".sh", ""):
            for number, line in enumerate(_lines(path), 1):
                if re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", line):
                    yield f"{path.relative_to(root)}:{number}: {line.strip()}"


def check_licences(root: Path) -> Iterator[str]:
    """The kernel takes GPL programs only: each file of bpf/ says that it is one."""
    for path in sorted((root / "bpf").glob("*.[ch]")):
        if "SPDX-License-Identifier: GPL-2.0-only" not in _lines(path)[0]:
            yield f"bpf/{path.name}: the first line has no SPDX-License-Identifier: GPL-2.0-only"


def check_test_places(root: Path) -> Iterator[str]:
    """tests/unit mirrors src, so that a file's tests are where one looks."""
    unit = root / "tests/unit"
    for path in sorted(unit.rglob("test_*.py")):
        folder = path.relative_to(unit).parent
        if not (root / "src/hatrace" / folder).is_dir():
            yield f"tests/unit/{folder}/: there is no src/hatrace/{folder}"


CHECKS = (
    check_inner_imports,
    check_outer_imports,
    check_findings_pages,
    check_commands,
    check_changelog,
    check_sizes,
    check_promises,
    check_licences,
    check_test_places,
)


def _modules(root: Path, package: str) -> list[Path]:
    folder = root / "src/hatrace" / package
    return sorted(path for path in folder.glob("*.py") if not path.stem.startswith("_"))


def _text(root: Path, name: str) -> str:
    path = root / name
    return path.read_text() if path.is_file() else ""


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []
