"""Connections whose credential is taken back end at once, and no others."""

import pytest

from gateway.errors import Unauthorized
from gateway.wire.codes import Close
from gateway.wire.framing import WEBSOCKET
from tests.broker.doubles import begun, says
from tests.hub.doubles import NEVER, Recorder, hub_on, join, nothing_left, settled

pytestmark = pytest.mark.looptime


class Check:
    """Refuses the bearers that are `gone`, each with its code."""

    def __init__(self):
        self.gone: dict[str, str] = {}

    def __call__(self, bearer):
        if bearer in self.gone:
            raise Unauthorized(self.gone[bearer])


@pytest.fixture
def check():
    return Check()


def opened(hub, bearer, **more):
    return hub.open(Recorder(**more), WEBSOCKET, subject="alice", expires_at=NEVER, sole=False, bearer=bearer)


@pytest.mark.parametrize(("code", "close"), [("auth.revoked", Close.CREDENTIAL), ("auth.expired", Close.TOKEN_EXPIRED)])
async def test_a_review_ends_those_whose_bearer_is_gone(check, code, close):
    hub = hub_on(check=check)
    connections = [opened(hub, bearer) for bearer in ("a", "b", None, "a")]
    check.gone["a"] = code
    await hub.review()
    assert [each.close for each in connections] == [close, None, None, close]
    assert [each.transport.finished.is_set() for each in connections] == [True, False, False, True]
    assert not any(each.transport.aborted for each in connections)
    for each in connections:
        hub.forget(each)
    assert nothing_left(hub)


async def test_who_has_not_taken_what_is_owed_is_cut_off(check):
    hub = hub_on(check=check)
    run = await begun(hub._broker)
    connection = opened(hub, "a")
    await join(hub, connection, run)
    await settled(hub)
    connection.transport.stalled = True
    await hub._broker.append(run, [says("secret")])
    check.gone["a"] = "auth.revoked"
    await hub.review()
    assert connection.transport.aborted
    await hub._broker.append(run, [says("later")])
    assert "later" not in str(connection.transport.frames())


async def test_a_bearer_that_went_while_it_was_on_its_way_does_not_get_in(check):
    hub = hub_on(check=check)
    check.gone["a"] = "auth.revoked"
    with pytest.raises(Unauthorized):
        opened(hub, "a")
    assert nothing_left(hub)


async def test_a_renewed_connection_stands_for_its_new_bearer(check):
    hub = hub_on(check=check)
    connection = opened(hub, "a")
    hub.belongs(connection, "alice", NEVER, "b")
    check.gone["a"] = "auth.revoked"
    await hub.review()
    assert connection.close is None
    check.gone["b"] = "auth.revoked"
    await hub.review()
    assert connection.close is Close.CREDENTIAL
