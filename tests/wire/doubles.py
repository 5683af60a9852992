"""Events for tests: one valid body for every type, and random sequences of them."""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from gateway.wire import events
from gateway.wire.events import Draft, Event
from gateway.wire.state import State

# Every property test runs the same bounded set of cases each time.
BOUNDED = settings(
    derandomize=True,
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
FEW = settings(BOUNDED, max_examples=30)

MAX = 65_536
RUN = "0199a7c4-0000-7000-8000-000000000001"
EPOCH = "k3f"
ERROR = {"code": "pipeline.error", "message": "no", "retryable": False}
TOKENS = {"input_tokens": 1, "output_tokens": 2}

LIFECYCLE: dict[str, dict[str, Any]] = {
    "run.queued": {"pipeline": "p", "owner": "alice"},
    "run.started": {},
    "run.paused": {"by": "alice"},
    "run.resumed": {"by": "alice"},
    "run.cancelling": {"by": "alice", "reason": "enough"},
    "run.completed": {"result": {"markdown": "x"}, "duration_ms": 5},
    "run.failed": {"error": ERROR, "duration_ms": 5},
    "run.cancelled": {"by": "alice", "reason": "enough", "forced": False, "duration_ms": 5},
}
WORK: dict[str, dict[str, Any]] = {
    "stage.started": {"stage": "s", "index": 1, "of": 2},
    "stage.completed": {"stage": "s", "index": 1, "of": 2, "duration_ms": 7},
    "progress": {"stage": "s", "message": "m", "progress": 12.5},
    "draft": {"stage": "s", "draft": "text"},
    "delta": {"block": "b", "delta": "text"},
    "llm.started": {"call": "c", "model": "m"},
    "llm.completed": {"call": "c", "model": "m", "usage": TOKENS, "cost_usd": 0.5},
    "tool.started": {"call": "c", "tool": "t", "args": {"a": [1, None]}},
    "tool.completed": {"call": "c", "tool": "t", "duration_ms": 3},
    "budget.warning": {"limit_usd": 2, "spent_usd": 1.5},
    "budget.exceeded": {"limit_usd": 2, "spent_usd": 2.5},
    "input.requested": {"input_id": "i", "prompt": "?"},
    "input.received": {"input_id": "i", "by": "alice"},
    "warning": {"code": "c", "message": "m"},
    "x.own": {"anything": [1, "two", None]},
}
OPTIONAL: dict[str, dict[str, Any]] = {
    "run.queued": {"retry_of": RUN},
    "run.completed": {"usage": {"calls": 1}},
    "run.failed": {"usage": {}},
    "run.cancelled": {"usage": {}},
    "progress": {"stats": {"words": 3}},
    "draft": {"message": "m", "progress": 3},
    "delta": {"cites": [{"key": "1", "source": "s"}], "done": True},
    "llm.started": {"estimated_cost_usd": 0.1},
    "tool.completed": {"result": [1], "error": "e"},
    "input.requested": {"schema": {"type": "string"}},
}


def draft(type: str, fields: dict[str, Any]) -> Draft:
    """A checked draft of any type."""
    if type in events.LIFECYCLE:
        return events.lifecycle(type, **fields)
    return events.work(type, fields, max_bytes=MAX)


def sealed(offset: int, type: str, fields: dict[str, Any], *, epoch: str = EPOCH) -> Event:
    return events.seal(draft(type, fields), run=RUN, epoch=epoch, offset=offset, ts=1_763_580_000_000 + offset)


def stream(said: list[tuple[str, dict[str, Any]]], *, ending: str | None = None) -> list[Event]:
    """A whole stream: queued, started, what was said, and perhaps an end."""
    whole = [("run.queued", LIFECYCLE["run.queued"]), ("run.started", {}), *said]
    whole += [(ending, LIFECYCLE[ending])] if ending else []
    return [sealed(offset, type, fields) for offset, (type, fields) in enumerate(whole, start=1)]


def state_of(events: list[Event]) -> dict:
    state = State()
    for event in events:
        state.apply(event)
    return state.fields()


def assert_law(whole: list[Event], folded: list[Event]) -> None:
    """What a folded past promises (gateway.wire.fold, rule 1)."""
    for length, event in enumerate(folded, start=1):
        assert state_of(folded[:length]) == state_of([e for e in whole if e.offset <= event.offset])


names = st.sampled_from(["a", "b"])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
extras = st.one_of(st.just({}), st.just({}), st.dictionaries(st.sampled_from(["own", "more"]), texts, max_size=2))


def _fields(required: dict[str, Any], optional: dict[str, Any] | None = None) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda a, b: {**a, **b}, st.fixed_dictionaries(required, optional=optional or {}), extras)


_percent = st.one_of(st.integers(0, 100), st.floats(0, 100))
_cites = st.none() | st.lists(st.fixed_dictionaries({"key": texts, "source": texts}), max_size=2)
said = st.one_of(
    st.tuples(
        st.just("delta"),
        _fields({"block": names, "delta": texts}, {"cites": _cites, "done": st.none() | st.booleans()}),
    ),
    st.tuples(st.just("delta"), st.fixed_dictionaries({"block": names, "delta": texts})),
    st.tuples(
        st.just("progress"),
        _fields(
            {"stage": names, "message": texts, "progress": _percent},
            {"stats": st.none() | st.dictionaries(names, st.integers(0, 9))},
        ),
    ),
    st.tuples(
        st.just("draft"),
        _fields({"stage": names, "draft": texts}, {"message": st.none() | texts, "progress": st.none() | _percent}),
    ),
    st.tuples(st.just("stage.started"), st.builds(lambda s: {"stage": s, "index": 1, "of": 1}, names)),
    st.tuples(st.just("warning"), st.just(WORK["warning"])),
    st.tuples(st.just("x.own"), extras),
    st.sampled_from([("run.paused", {"by": "alice"}), ("run.resumed", {"by": "alice"})]),
)
endings = st.sampled_from([None, "run.completed", "run.failed", "run.cancelled"])
streams = st.builds(lambda said, ending: stream(said, ending=ending), st.lists(said, max_size=40), endings)
filters = st.none() | st.frozensets(st.sampled_from(["delta", "progress", "draft", "x.own", "stage.started"]))
