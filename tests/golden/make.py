"""Write this format version's golden capture: ``python -m tests.golden.make``.

Once per version, when it is new; never again: an old capture is an old capture.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from hatrace.capture.format import VERSION, topic
from hatrace.capture.reader import read
from hatrace.capture.writer import Writer
from hatrace.model.event import Event, Finished, Open
from hatrace.model.flow import flows
from tests import factories
from tests.unit.capture import samples
from tests.unit.sinks.report import story

FOLDER = Path(__file__).parent


def plain(event: Event) -> list[Any]:
    """``[topic, fields]`` as JSON has them; packed flows as lists of their fields."""
    if isinstance(event, Finished):
        fields: dict[str, Any] = {"at_ns": event.at_ns, "records": list(event.flows)}
    else:
        fields = msgspec.to_builtins(event)
    if isinstance(event, Open):
        fields["records"] = list(flows(event.records))
    fields = msgspec.to_builtins(fields)
    return json.loads(json.dumps([topic(type(event)), fields], default=list))


def main() -> None:
    """Every kind of event, then a leak, and what was found in it."""
    path = FOLDER / f"v{VERSION}.hatrace"
    with Writer(path, factories.info()) as writer:
        for event in (*samples.events(), *story.leaking()):
            writer.write(event)
        writer.found(samples.change())
    lines = [json.dumps(plain(event)) for event in read(path).events]
    path.with_suffix(".jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
