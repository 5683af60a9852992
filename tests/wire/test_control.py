"""Control frames and close codes."""

import json

import pytest

from gateway import errors
from gateway.wire import control
from gateway.wire.codes import OF_PROBLEM, Close


@pytest.mark.parametrize(
    "frame, said",
    [
        (
            control.hello(connection="c", heartbeat_ms=15000, retry_ms=1000, resume="resumed"),
            {"connection": "c", "version": 1, "heartbeat_ms": 15000, "retry_ms": 1000, "resume": "resumed"},
        ),
        (
            control.hello(connection="c", heartbeat_ms=15000, retry_ms=1000),
            {"connection": "c", "version": 1, "heartbeat_ms": 15000, "retry_ms": 1000},
        ),
        (control.heartbeat(5), {"ts": 5}),
        (control.gap(run="r", after="k-1", first="k-7"), {"run": "r", "after": "k-1", "from": "k-7"}),
        (control.reconnect(after_ms=9, reason="server.draining"), {"after_ms": 9, "reason": "server.draining"}),
        (control.auth_expiring(1000), {"expires_at": 1000}),
    ],
)
def test_a_control_frame_says_what_the_protocol_lists_and_has_no_id(frame, said):
    assert json.loads(frame.json) == {"type": frame.type, **said}
    assert b"\n" not in frame.json


def test_a_gap_repeats_even_a_mad_cursor_on_one_line():
    frame = control.gap(run="r", after="\r\n\r\nevent: x\x00\u2028", first="k-1")
    assert json.loads(frame.json)["after"] == "\r\n\r\nevent: x\x00\u2028"
    assert b"\n" not in frame.json
    assert b"\r" not in frame.json


def test_the_range_of_a_close_code_says_what_the_client_does():
    fault, busy = {"auth.missing", "auth.invalid", "auth.revoked", "auth.forbidden"}, {"auth.expired"}
    for code, close in OF_PROBLEM.items():
        assert code in errors.STATUSES
        if close < 4000:
            continue  # WebSocket's own
        if close < 4000:
            continue  # WebSocket's own
        wanted = 4000 if code in fault else 4200 if code in busy else 4100
        assert wanted <= close < wanted + 100, code


def test_every_retryable_refusal_closes_with_a_code_that_lets_the_client_come_back():
    retryable = {code for kind in (errors.TooMany, errors.Unavailable) for code in kind.titles} - {"limit.runs"}
    assert {code for code, close in OF_PROBLEM.items() if 4100 <= close < 4200} == retryable


def test_the_close_codes_are_those_of_the_protocol():
    assert {code.name: int(code) for code in Close} == {
        "NORMAL": 1000,
        "TOO_BIG": 1009,
        "INTERNAL": 1011,
        "PROTOCOL": 4000,
        "CREDENTIAL": 4001,
        "FORBIDDEN": 4003,
        "DRAINING": 4100,
        "TOO_SLOW": 4101,
        "OVER_CAPACITY": 4103,
        "RATE": 4108,
        "TOKEN_EXPIRED": 4200,
    }
