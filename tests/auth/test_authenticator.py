"""From what a request presents to a bearer: which credential counts, and where a cookie may come from."""

import time

import pytest

from gateway.auth import Authenticator, Presented, Revocations, Tickets
from gateway.broker import MemoryBroker
from gateway.errors import Forbidden, Unauthorized
from tests.auth.doubles import kit

HOST = "runcast.example:8443"


@pytest.fixture
def tickets():
    return Tickets(now=time.time)


@pytest.fixture
def door(tickets):
    origins = ["https://app.example", "https://Slash.example/"]
    none = Revocations(MemoryBroker(), max_life_s=1, now=time.time)
    return Authenticator(kit("HS256").tokens(), tickets, none, allowed_origins=origins, now=time.time)


def token(**more) -> str:
    return kit("HS256").sign(**more)


def presents(**more) -> Presented:
    nothing = {"authorization": None, "ticket": None, "cookie": None, "origin": None, "host": HOST, "fetch_site": None}
    return Presented(**{**nothing, "joins": False, "safe": True, **more})


async def test_who_presents_nothing_is_nobody(door):
    assert await door.identify(presents()) is None


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer   "])
async def test_a_bearer_token_in_the_header_counts(door, scheme):
    assert (await door.identify(presents(authorization=f"{scheme}{token()}"))).subject == "alice"


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic YTpi", "Token x", "Bearer x", "x", "Bearer a b"])
async def test_a_credential_that_is_present_and_bad_is_refused_and_never_anonymous(door, value):
    with pytest.raises(Unauthorized) as caught:
        await door.identify(presents(authorization=value, cookie=token(), ticket=None, fetch_site="same-origin"))
    assert caught.value.code == "auth.invalid"


async def test_a_bare_token_without_its_scheme_is_refused_and_not_repeated(door):
    text = token()
    with pytest.raises(Unauthorized) as caught:
        await door.identify(presents(authorization=text))
    assert text not in str(caught.value.document())


async def test_the_header_goes_before_the_ticket_and_the_ticket_before_the_cookie(door, tickets):
    bearer = await door.token(token(sub="ticketed"))
    ticket, _ = tickets.issue(bearer, None)
    everything = {"ticket": ticket, "cookie": token(sub="cookied"), "joins": True}
    assert (
        await door.identify(presents(authorization=f"Bearer {token(sub='headed')}", **everything))
    ).subject == "headed"
    assert (await door.identify(presents(**everything))).subject == "ticketed"
    with pytest.raises(Unauthorized):
        await door.identify(presents(**everything))
    assert (await door.identify(presents(cookie=token(sub="cookied")))).subject == "cookied"


async def test_a_ticket_opens_joins_and_nothing_else_and_is_not_spent_on_a_refusal(door, tickets):
    ticket, _ = tickets.issue(await door.token(token()), None)
    with pytest.raises(Unauthorized):
        await door.identify(presents(ticket=ticket, joins=False))
    assert (await door.identify(presents(ticket=ticket, joins=True))).ticket


async def test_a_token_is_no_ticket(door):
    with pytest.raises(Unauthorized):
        await door.identify(presents(ticket=token(), joins=True))


OURS = ["https://runcast.example:8443", "http://runcast.example:8443", "HTTPS://RUNCAST.EXAMPLE:8443",
        "https://app.example", "https://APP.example", "https://slash.example"]  # fmt: skip
THEIRS = ["https://attacker.example", "https://runcast.example", "https://runcast.example:9443", "null", "", "https://",
          "https://runcast.example:8443.attacker.example", "https://attacker.example#runcast.example:8443",
          "https://x@runcast.example:8443", "runcast.example:8443", "https://app.example.attacker.example",
          "https://app.example:444", "http://app.example", "https://sub.app.example", "file://", "https://[",
          "https://runcast.example:8443, https://attacker.example"]  # fmt: skip


@pytest.mark.parametrize("origin", OURS)
@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("fetch_site", [None, "same-origin", "same-site", "cross-site"])
async def test_a_cookie_counts_from_our_pages(door, origin, safe, fetch_site):
    asked = presents(cookie=token(), origin=origin, safe=safe, fetch_site=fetch_site)
    assert (await door.identify(asked)).subject == "alice"


@pytest.mark.parametrize("origin", THEIRS)
@pytest.mark.parametrize("safe", [True, False])
async def test_a_cookie_does_not_count_from_other_pages(door, origin, safe):
    with pytest.raises(Forbidden):
        await door.identify(presents(cookie=token(), origin=origin, safe=safe, fetch_site="same-origin"))


@pytest.mark.parametrize(
    "safe, fetch_site, counts",
    [
        (True, None, True),
        (True, "same-origin", True),
        (True, "same-site", True),
        (True, "none", True),
        (True, "cross-site", False),
        (False, None, False),
        (False, "same-origin", False),
        (False, "cross-site", False),
    ],
)
async def test_without_an_origin_a_cookie_counts_for_a_plain_get_that_comes_from_no_other_site(
    door, safe, fetch_site, counts
):
    asked = presents(cookie=token(), safe=safe, fetch_site=fetch_site)
    if counts:
        assert (await door.identify(asked)).subject == "alice"
    else:
        with pytest.raises(Forbidden):
            await door.identify(asked)


@pytest.mark.parametrize("more", [{}, {"joins": True}, {"authorization": None, "cookie": None}])
async def test_two_credentials_of_one_kind_are_refused(door, more):
    with pytest.raises(Unauthorized):
        await door.identify(presents(**{"authorization": f"Bearer {token()}", "cookie": token(), **more}, twice=True))


async def test_a_bad_cookie_is_refused(door):
    with pytest.raises(Unauthorized):
        await door.identify(presents(cookie="swordfish"))


@pytest.mark.parametrize("origin, host, welcome", [
    (None, HOST, True), (None, None, True), ("https://app.example", None, True),
    ("https://runcast.example:8443", None, False), ("null", "", False),
    *((origin, HOST, True) for origin in OURS), *((origin, HOST, False) for origin in THEIRS),
])  # fmt: skip
def test_a_page_may_open_a_websocket_if_it_is_ours_and_a_program_always(door, origin, host, welcome):
    assert door.welcomes(origin, host) is welcome


async def test_only_the_header_is_looked_at_when_it_is_there(door):
    """A token in the header makes the origin of no account: no browser puts it there by itself."""
    asked = presents(authorization=f"Bearer {token()}", origin="https://attacker.example", safe=False)
    assert (await door.identify(asked)).subject == "alice"
