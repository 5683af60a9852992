"""The one JSON encoder and decoder of the gateway.

orjson refuses what JSON does not know: NaN when reading, lone surrogates, bytes that are not UTF-8. When writing
it turns NaN into null.
"""

from typing import Any

import orjson

MAX_DEPTH = 254  # the encoder's own limit; its decoder would take 1024

dumps = orjson.dumps


def loads(data: bytes | str) -> Any:
    """Raises ValueError for anything that is not one JSON text in UTF-8, and for what is too deep to be written."""
    value = orjson.loads(data)
    openings = data.count("[") + data.count("{") if isinstance(data, str) else data.count(b"[") + data.count(b"{")
    if openings > MAX_DEPTH:
        try:
            orjson.dumps(value)
        except TypeError:
            raise ValueError("nested too deeply") from None
    return value


def canonical(value: Any) -> bytes:
    """The same bytes for equal JSON values: members sorted by name."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def pretty(value: Any) -> str:
    """For people."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
