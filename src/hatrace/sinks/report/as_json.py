"""A report as JSON, for machines; `schema` is published as docs/report.schema.json.

Pure ASCII: no string in it can reach a terminal as a control character.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from hatrace.sinks.report.content import Report


def render(report: Report) -> str:
    """One indented object; an infinite time is null."""
    return json.dumps(_finite(msgspec.to_builtins(report)), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a report."""
    title = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What `hatrace report --format json` prints",
    }
    text = json.dumps(title | msgspec.json.schema(Report))
    whole: dict[str, Any] = json.loads(text)
    return whole


def main() -> None:
    """Print the schema: ``python -m hatrace.sinks.report.as_json > docs/report.schema.json``."""
    print(json.dumps(schema(), indent=2))


if __name__ == "__main__":
    main()
