"""One message of a capture: an event (or a finding's change) as bytes, and back."""

from __future__ import annotations

import msgspec

from hatrace.capture import columns
from hatrace.capture.format import Message
from hatrace.model.columns import Columns
from hatrace.model.event import Finished, Open


def encode(message: Message) -> bytes:
    """A message as it is stored."""
    if isinstance(message, Finished):
        return columns.pack(message.flows, len(message.flows))
    if isinstance(message, Open):
        return columns.pack(Columns.of(message.records), message.matched)
    return encode_json(message)


def encode_json(value: object) -> bytes:
    """JSON; bytes that were no UTF-8 (a process may call itself anything) become U+FFFD."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_without_surrogates(msgspec.to_builtins(value)))


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode(errors="surrogateescape").decode(errors="replace")
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(part) for part in value]
    return value


def decode(kind: type[Message], data: bytes, at_ns: int) -> Message:
    """The message of a channel's kind; raises ValueError (msgspec's included) for any other."""
    if kind is Finished:
        return Finished(at_ns, columns.unpack(data)[0])
    if kind is Open:
        suspects, matched = columns.unpack(data)
        return Open(at_ns, suspects.records(), matched)
    return msgspec.json.decode(data, type=kind)
