"""Refusals are counted always and told up to a rate; what was not told is summed up in the next line."""

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.routes.audit import REFUSALS_TOLD, Audit, Visit, request_id

pytestmark = pytest.mark.looptime


def visit() -> Visit:
    return Visit(request="r", address="203.0.113.1")


async def test_a_flood_of_refusals_fills_no_log_and_is_counted():
    audit = Audit()
    with capture_logs() as lines:
        for _ in range(1000):
            audit.refused(visit(), "watch", "run", "rate.limited")
        assert len(lines) == REFUSALS_TOLD.most
        await asyncio.sleep(10)
        audit.refused(visit(), "watch", "run", "rate.limited")
    assert lines[-1]["untold"] == 1000 - REFUSALS_TOLD.most
    assert "untold" not in lines[-2]
    assert audit.refusals == {"rate.limited": 1001}


async def test_what_was_done_is_always_told():
    audit = Audit()
    with capture_logs() as lines:
        for _ in range(1000):
            audit.done(visit(), "publish", "run")
    assert len(lines) == 1000


async def test_a_visit_is_told_once_and_how_a_run_ended_is_no_refusal():
    audit, known = Audit(), visit()
    with capture_logs() as lines:
        known.action = "start"
        audit.write(known)
        audit.write(known)
        known.code = "run.failed"
        audit.write(known)
    assert [(line["action"], line["outcome"]) for line in lines] == [("start", "ok")]
    assert audit.refusals == {}


@pytest.mark.parametrize("given", [None, b"", b"a b", b"x" * 65, b"\xff", b"a\nb", b"a\n"])
async def test_an_id_that_is_not_short_and_plain_is_replaced(given):
    assert len(request_id(given)) == 16
    assert request_id(given) != request_id(given)
