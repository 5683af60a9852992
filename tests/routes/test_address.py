"""Whose address counts: what a trusted proxy wrote, and nothing that a client made up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routes.address import MAX_HOPS, UNKNOWN, Addresses, grouped
from tests.wire.doubles import BOUNDED

PROXIES = ("10.0.0.0/8", "192.0.2.1", "2001:db8:ffff::/48")
ADDRESS = st.ip_addresses().map(str)


def told(*values: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-forwarded-for", value.encode("latin1")) for value in values]


@pytest.mark.parametrize(
    "address, group",
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("nonsense", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_an_ipv6_network_of_64_bits_counts_as_one(address, group):
    assert grouped(address) == group


@pytest.mark.parametrize(
    "peer, forwarded, client",
    [
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),  # no proxy: whatever it says
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.1.1.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),  # the left one is the client's own claim
        ("10.1.1.1", ["6.6.6.6", "198.51.100.1, 192.0.2.1"], "198.51.100.1"),
        ("10.1.1.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.1.1.1", ["[2001:db8::9]:4711"], "2001:db8::/64"),
        ("10.1.1.1", ["2001:db8::9"], "2001:db8::/64"),
        ("10.1.1.1", ["198.51.100.1, unknown"], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.1, unknown, 10.2.2.2"], "10.2.2.2"),
        ("10.1.1.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),  # a proxy that asks for itself
        ("10.1.1.1", [""], "10.1.1.1"),
        ("2001:db8:ffff::1", ["198.51.100.1"], "198.51.100.1"),
        (None, ["198.51.100.1"], UNKNOWN),
    ],
)
def test_the_first_from_the_right_that_is_no_proxy_counts(peer, forwarded, client):
    assert Addresses(PROXIES).of(peer, told(*forwarded)) == client


@given(ADDRESS, st.lists(ADDRESS | st.text(max_size=40), max_size=30), st.lists(ADDRESS, max_size=3))
@BOUNDED
def test_whatever_a_client_writes_itself_changes_nothing(client, made_up, through):
    addresses = Addresses(PROXIES)
    proxies = [hop for hop in through if addresses.is_proxy(hop)]
    if addresses.is_proxy(client):
        return
    claim = ",".join(made_up).encode("latin1", "replace").decode("latin1")
    assert addresses.of("10.0.0.1", told(claim, ",".join([client, *proxies]))) == grouped(client)
    assert addresses.of(client, told(claim)) == grouped(client)


def test_an_endless_chain_of_proxies_is_followed_only_so_far():
    chain = ",".join(["198.51.100.1", *["10.2.2.2"] * MAX_HOPS])
    assert Addresses(PROXIES).of("10.1.1.1", told(chain)) == "10.2.2.2"
    assert Addresses(PROXIES).of("10.1.1.1", told("," * 60_000)) == "10.1.1.1"


def test_without_proxies_the_header_means_nothing():
    assert Addresses(()).of("127.0.0.1", told("198.51.100.1")) == "127.0.0.1"
    assert not Addresses(()).is_proxy("127.0.0.1")


@pytest.mark.parametrize("peer", ["10.1.1.1", "::ffff:10.1.1.1"])
def test_a_proxy_of_ipv4_may_be_written_as_a_listener_of_ipv6_sees_it(peer):
    addresses = Addresses(["::ffff:10.0.0.0/104", "::/64"])
    assert addresses.of(peer, told("198.51.100.1")) == "198.51.100.1"
    assert not addresses.is_proxy("11.1.1.1")


def test_what_is_no_network_is_an_error():
    with pytest.raises(ValueError, match="nginx"):
        Addresses(["nginx"])
