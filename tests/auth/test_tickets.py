"""Tickets: one use, half a minute, and never more than the token they came from."""

import threading
import tracemalloc

import pytest

from gateway.auth import Principal, Tickets
from gateway.auth import tickets as module
from gateway.errors import Forbidden, TooMany, Unauthorized
from tests.broker.doubles import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tickets(clock):
    return Tickets(now=clock)


@pytest.fixture
def alice(clock):
    return Principal(
        subject="alice",
        scopes=frozenset({"runs:read", "runs:cancel"}),
        expires_at=clock.now + 600,
        issued_at=clock.now - 5,
        token_id="j",
        runs=frozenset({"r1"}),
    )


def refused(tickets, ticket, code="auth.invalid"):
    with pytest.raises(Unauthorized) as caught:
        tickets.redeem(ticket)
    assert caught.value.code == code
    assert not ticket or ticket not in str(caught.value.document())


def test_a_ticket_opens_once(tickets, alice):
    ticket, life_s = tickets.issue(alice, None)
    assert life_s == 30
    tickets.redeem(ticket)
    refused(tickets, ticket)


def test_a_ticket_is_good_for_half_a_minute(tickets, alice, clock):
    early, late = tickets.issue(alice, None)[0], tickets.issue(alice, None)[0]
    clock.now += 29.9
    tickets.redeem(early)
    clock.now += 0.1
    refused(tickets, late)
    refused(tickets, late)


@pytest.mark.parametrize("ticket", ["", "x", "a" * 32, "é", "\x00"])
def test_what_is_no_ticket_opens_nothing(tickets, alice, ticket):
    tickets.issue(alice, None)
    refused(tickets, ticket)


def test_a_ticket_inherits_what_its_token_said(tickets, alice):
    bearer = tickets.redeem(tickets.issue(alice, None)[0])
    assert (bearer.subject, bearer.scopes, bearer.expires_at) == (alice.subject, alice.scopes, alice.expires_at)
    assert (bearer.token_id, bearer.issued_at, bearer.runs) == ("j", alice.issued_at, alice.runs)
    assert (bearer.ticket, bearer.only) == (True, None)


def test_a_ticket_can_be_narrowed_and_never_sees_more(tickets, alice):
    assert tickets.redeem(tickets.issue(alice, frozenset({"r1", "r2"}))[0]).only == {"r1", "r2"}
    assert tickets.redeem(tickets.issue(alice, frozenset())[0]).only == frozenset()


def test_a_ticket_does_not_outlive_its_token(tickets, alice, clock):
    clock.now = alice.expires_at - 10
    ticket, _ = tickets.issue(alice, None)
    clock.now = alice.expires_at
    refused(tickets, ticket, "auth.expired")
    refused(tickets, ticket)


def test_a_ticket_makes_no_tickets(tickets, alice):
    bearer = tickets.redeem(tickets.issue(alice, None)[0])
    with pytest.raises(Forbidden):
        tickets.issue(bearer, None)


def test_tickets_cannot_be_guessed_from_each_other(tickets, alice):
    made = {tickets.issue(alice, None)[0] for _ in range(1000)}
    assert len(made) == 1000
    assert all(len(ticket) >= 32 for ticket in made)


def test_tickets_that_nobody_uses_are_forgotten_and_never_too_many(tickets, alice, clock, monkeypatch):
    monkeypatch.setattr(module, "MAX_TICKETS", 50)
    for _ in range(50):
        tickets.issue(alice, None)
    with pytest.raises(TooMany) as caught:
        tickets.issue(alice, None)
    assert caught.value.retryable
    clock.now += 31
    tickets.issue(alice, None)
    assert len(tickets._tickets) == 1


def test_one_more_costs_the_same_however_many_wait(tickets, alice):
    for _ in range(4000):
        tickets.issue(alice, None)
    tracemalloc.start()
    try:
        tickets.issue(alice, None)
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()


def test_one_of_many_who_redeem_at_once_gets_in(tickets, alice):
    ticket, _ = tickets.issue(alice, None)
    outcomes: list[bool] = []
    gate = threading.Barrier(8)

    def redeem():
        gate.wait()
        try:
            tickets.redeem(ticket)
        except Unauthorized:
            outcomes.append(False)
        else:
            outcomes.append(True)

    threads = [threading.Thread(target=redeem) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 7 + [True]
