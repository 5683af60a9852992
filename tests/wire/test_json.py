"""The one decoder: what it takes can be written again."""

import pytest

from gateway.wire import json


@pytest.mark.parametrize("openings, closings", [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")], ids=["[", "{", "[{"])
@pytest.mark.parametrize("as_bytes", [True, False], ids=["bytes", "text"])
def test_as_deep_as_can_be_written_is_taken_and_one_more_is_refused(openings, closings, as_bytes):
    levels = json.MAX_DEPTH // len(closings)

    def nested(inner: str) -> bytes | str:
        text = openings * levels + inner + closings * levels
        return text.encode() if as_bytes else text

    taken = json.loads(nested("1"))
    assert json.loads(json.dumps(taken)) == taken
    with pytest.raises(ValueError, match="too deeply"):
        json.loads(nested("[]"))


def test_many_openings_beside_each_other_are_not_deep():
    assert json.loads(b"[" + b"[]," * 1000 + b"[]]") == [[]] * 1001
