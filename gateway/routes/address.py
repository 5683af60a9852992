"""Whose address a request comes from, also behind proxies.

Rule 1: a header is believed only as far as a configured proxy wrote it: from the right, up to the first address that is
no proxy of ours. What stands left of that was written by the client.
Rule 2: an address stands for whoever has it: of IPv6 that is the /64, as anybody with one address has all of them.
"""

from collections.abc import Collection, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import structlog

log = structlog.get_logger(__name__)

UNKNOWN = "unknown"
MAX_HOPS = 20


class Addresses:
    """`proxies`: addresses and networks whose `X-Forwarded-For` counts. Raises ValueError for what is neither."""

    def __init__(self, proxies: Collection[str]) -> None:
        self._proxies = [_unmapped(ip_network(proxy)) for proxy in proxies]
        self._known = lru_cache(4096)(self._is_proxy)
        self._warned = False

    def is_proxy(self, peer: str) -> bool:
        return bool(self._proxies) and self._known(peer)

    def of(self, peer: str | None, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The client behind a request: its address, or its /64. `headers` as ASGI gives them."""
        if not peer:
            return UNKNOWN
        if not self._proxies:
            self._warn_of_unknown_proxy(headers)
            return grouped(peer)
        if not self._known(peer):
            return grouped(peer)
        text = ",".join(value.decode("latin1") for name, value in headers if name == b"x-forwarded-for")
        found = peer
        for hop in reversed(text.rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
            address = _bare(hop.strip())
            if _parsed(address) is None:
                break
            found = address
            if not self._known(address):
                break
        return grouped(found)

    def _is_proxy(self, address: str) -> bool:
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._proxies)

    def _warn_of_unknown_proxy(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Behind a proxy that nobody told us of, everybody shares one address and its limits."""
        if not self._warned and any(name == b"x-forwarded-for" for name, _ in headers):
            self._warned = True
            log.warning("X-Forwarded-For is not believed; if it is a proxy's, name it in RUNCAST_TRUSTED_PROXIES")


@lru_cache(4096)
def grouped(address: str) -> str:
    """What is counted as one: an IPv4 address, or the /64 of an IPv6 one."""
    parsed = _parsed(address)
    if parsed is None:
        return UNKNOWN
    return str(parsed) if parsed.version == 4 else str(ip_network((parsed, 64), strict=False))


def _bare(hop: str) -> str:
    """Without the port that some proxies add: `192.0.2.1:4711`, `[2001:db8::1]:4711`."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """As addresses are compared: of IPv4 in IPv6 the IPv4."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return network if mapped is None or network.prefixlen < 96 else IPv4Network((mapped, network.prefixlen - 96))


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return parsed.ipv4_mapped or parsed if isinstance(parsed, IPv6Address) else parsed
