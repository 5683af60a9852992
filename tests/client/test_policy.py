"""The policy, held to the cases that hold the JavaScript client too."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from runcast.policy import (
    TRANSPORTS,
    Answered,
    Chance,
    Closed,
    Connect,
    Hello,
    Polled,
    Reconnect,
    Refresh,
    Seen,
    State,
    Stop,
    decide,
    initial,
)

CASES = json.loads((Path(__file__).parents[2] / "clients/conformance/policy.json").read_text())
TOLD = {"hello": Hello, "polled": Polled, "reconnect": Reconnect, "status": Answered, "closed": Closed}


def outcome_of(type: str, **fields):
    return TOLD[type](**fields) if type in TOLD else Seen(type)


def spelled(action) -> dict:
    match action:
        case None:
            return {"do": "none"}
        case Refresh():
            return {"do": "refresh"}
        case Stop(reason):
            return {"do": "stop", "reason": reason}
        case Connect(transport, delay_ms, refresh):
            return {"do": "connect", "transport": transport, "delay_ms": delay_ms, "refresh": refresh}


def begun(**start) -> State:
    known = {name: start[name] for name in ("transports", "worked", "fell_back_at", "max_retries") if name in start}
    return replace(initial(**known), **{name: value for name, value in start.items() if name != "transports"})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_it_decides_as_the_cases_say(case):
    state = begun(**case.get("start", {}))
    for step in case["steps"]:
        chance = Chance(step.get("now", 1_000_000), step.get("random", 0))
        state, action = decide(state, outcome_of(**step["outcome"]), chance)
        assert spelled(action) == step["action"], step
        for name, value in step.get("state", {}).items():
            assert getattr(state, name) == value, step


def test_a_connection_is_dead_after_two_and_a_half_heartbeats():
    assert replace(initial(), heartbeat_ms=2_000).silence_ms == 5_000


def test_a_remembered_transport_is_begun_with_unless_it_is_not_allowed():
    assert initial(worked="websocket").transport == "websocket"
    assert initial(worked="websocket", transports=["sse"]).transport == "sse"


def test_without_a_frame_no_sequence_of_bad_luck_goes_on_for_ever():
    bad = [
        Seen.REFUSED, Seen.OPEN_TIMEOUT, Seen.UNREACHABLE, Seen.LOST, Seen.RENEWED, Hello(100, 1000),
        Answered(401), Answered(503, 0), Answered(418), Closed(1006), Closed(4200),
    ]  # fmt: skip
    for seed in range(500):
        rng = random.Random(seed)
        state, ends = initial(), 0
        while state.status != "error":
            outcome = rng.choice(bad)
            state, _ = decide(state, outcome, Chance(0, rng.random()))
            ends += not (isinstance(outcome, Hello) or outcome is Seen.RENEWED)
            assert ends <= 10 * len(TRANSPORTS) + 2, seed
