"""Commands and replies on a WebSocket."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Conflict, FrameInvalid, Invalid, TooMany
from gateway.wire import commands
from tests.wire.doubles import BOUNDED, RUN

VALID = [
    {"type": "authenticate", "token": "t"},
    {"type": "subscribe", "run": RUN},
    {"type": "subscribe", "run": RUN, "after": "k3f-1", "replay": "full", "types": ["delta", "x.own"]},
    {"type": "subscribe", "run": RUN, "after": None, "replay": "none", "types": []},
    {"type": "unsubscribe", "run": RUN},
    {"type": "start", "pipeline": "p"},
    {"type": "start", "pipeline": "p", "input": [1], "options": {"on_disconnect": "cancel"}, "key": "k"},
    {"type": "start", "pipeline": "p", "options": {"timeout_s": 1, "budget_usd": 0.5, "disconnect_grace_s": 0}},
    {"type": "cancel", "run": RUN},
    {"type": "cancel", "run": RUN, "reason": "user pressed stop"},
    {"type": "ping"},
    {"type": "ping", "ref": "r" * 64},
]
INVALID = [
    ({"type": "authenticate"}, ["token"]),
    ({"type": "authenticate", "token": 3}, ["token"]),
    ({"type": "subscribe"}, ["run"]),
    ({"type": "subscribe", "run": 3}, ["run"]),
    ({"type": "subscribe", "run": "r" * 65}, ["run"]),
    ({"type": "subscribe", "run": RUN, "after": 17}, ["after"]),
    ({"type": "subscribe", "run": RUN, "replay": "half"}, ["replay"]),
    ({"type": "subscribe", "run": RUN, "types": "delta"}, ["types"]),
    ({"type": "subscribe", "run": RUN, "types": [1]}, ["types", 0]),
    ({"type": "subscribe", "run": RUN, "types": ["nope"]}, ["types"]),
    ({"type": "start"}, ["pipeline"]),
    ({"type": "start", "pipeline": "p", "owner": "bob"}, ["owner"]),
    ({"type": "start", "pipeline": "p", "key": ""}, ["key"]),
    ({"type": "start", "pipeline": "p", "options": {"timeout_s": 0}}, ["options", "timeout_s"]),
    ({"type": "start", "pipeline": "p", "options": {"timeout_s": "1"}}, ["options", "timeout_s"]),
    ({"type": "start", "pipeline": "p", "options": {"on_disconnect": "stop"}}, ["options", "on_disconnect"]),
    ({"type": "start", "pipeline": "p", "options": {"more": 1}}, ["options", "more"]),
    ({"type": "start", "pipeline": "p", "options": {"disconnect_grace_s": -1}}, ["options", "disconnect_grace_s"]),
    ({"type": "cancel", "run": RUN, "reason": "r" * 501}, ["reason"]),
    ({"type": "cancel", "run": None}, ["run"]),
    ({"type": "ping", "more": 1}, ["more"]),
    ({"type": "ping", "ref": 1}, ["ref"]),
    ({"type": "ping", "ref": "r" * 65}, ["ref"]),
]
NO_COMMAND = [
    None,
    b"",
    b'{"type":"ping"}',
    "",
    "ping",
    "{",
    "[]",
    "null",
    "3",
    '"ping"',
    "{}",
    '{"type":null}',
    '{"type":1}',
    '{"type":[]}',
    '{"type":{}}',
    '{"type":["ping"]}',
    '{"type":"nope"}',
    '{"type":"Ping"}',
    '{"type":"ping"}{"type":"ping"}',
    '{"type":"ping","a":NaN}',
    '{"type":"\\ud800"}',
    "[" * 100_000,
]


@pytest.mark.parametrize("command", VALID)
def test_a_valid_command_is_parsed_with_all_that_it_says(command):
    parsed = commands.parse(commands.decode(json.dumps(command)))
    assert parsed.model_dump(exclude_unset=True) == command


@pytest.mark.parametrize("command, path", INVALID)
def test_a_command_that_is_wrong_is_refused_with_the_path_of_the_fault(command, path):
    with pytest.raises(Invalid) as caught:
        commands.parse(commands.decode(json.dumps(command)))
    assert caught.value.code == "input.invalid"
    assert caught.value.errors[0]["path"] == path


@pytest.mark.parametrize("frame", NO_COMMAND, ids=lambda frame: str(frame)[:30])
def test_what_is_no_command_is_frame_invalid(frame):
    with pytest.raises(FrameInvalid):
        commands.decode(frame)


@given(
    st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
@BOUNDED
def test_any_json_is_a_command_or_frame_invalid(value):
    with contextlib.suppress(FrameInvalid):
        assert commands.decode(json.dumps(value))["type"] in commands.TYPES


@given(st.sampled_from(VALID), st.dictionaries(st.text(max_size=8), st.none() | st.booleans() | st.lists(st.text())))
@BOUNDED
def test_any_further_members_are_refused_without_a_fault_of_ours(command, more):
    frame = {**more, **command}
    if frame == command:
        return
    with pytest.raises(Invalid) as caught:
        commands.parse(commands.decode(json.dumps(frame)))
    json.loads(commands.reply(None, caught.value))


@pytest.mark.parametrize("ref, echoed", [("c1", "c1"), ("", ""), ("r" * 65, None), (1, None), (None, None), ([], None)])
def test_a_ref_is_echoed_only_if_it_is_one(ref, echoed):
    assert commands.ref_of({"type": "ping", "ref": ref}) == echoed
    assert commands.ref_of({"type": "ping"}) is None


def test_a_reply_has_exactly_the_form_of_the_protocol():
    assert (
        commands.reply("c1", {"status": "cancelling"}) == b'{"type":"reply","ref":"c1","ok":true,"status":"cancelling"}'
    )
    assert commands.reply(None, {}) == b'{"type":"reply","ok":true}'
    assert json.loads(commands.reply("c2", Conflict("run.finished"))) == {
        "type": "reply",
        "ref": "c2",
        "ok": False,
        "error": {"code": "run.finished", "title": "The run has already finished", "retryable": False},
    }


def test_a_reply_says_when_to_try_again():
    error = json.loads(commands.reply(None, TooMany("limit.runs", retry_after_ms=5)))["error"]
    assert (error["retryable"], error["retry_after_ms"]) == (True, 5)


def test_a_filter_of_unknown_types_is_refused():
    assert commands.filter_of(["delta", "x.a", "delta"]) == {"delta", "x.a"}
    for wrong in ("", "x.", "delta ", "nope"):
        with pytest.raises(Invalid):
            commands.filter_of(["delta", wrong])
