"""WebSocket close codes; their range tells the client what to do (PROTOCOL section 6)."""

from enum import IntEnum


class Close(IntEnum):
    NORMAL = 1000
    TOO_BIG = 1009
    INTERNAL = 1011
    # 40xx: the client is at fault and must not come back.
    PROTOCOL = 4000
    CREDENTIAL = 4001
    FORBIDDEN = 4003
    # 41xx: the server or the way; come back later.
    DRAINING = 4100
    TOO_SLOW = 4101
    OVER_CAPACITY = 4103
    RATE = 4108
    # 42xx: come back at once with a fresh credential.
    TOKEN_EXPIRED = 4200


OF_PROBLEM = {
    "auth.missing": Close.CREDENTIAL,
    "auth.invalid": Close.CREDENTIAL,
    "auth.revoked": Close.CREDENTIAL,
    "auth.expired": Close.TOKEN_EXPIRED,
    "auth.forbidden": Close.FORBIDDEN,
    "body.too_large": Close.TOO_BIG,
    "limit.connections": Close.OVER_CAPACITY,
    "rate.limited": Close.RATE,
    "server.busy": Close.OVER_CAPACITY,
    "server.draining": Close.DRAINING,
    "broker.unavailable": Close.DRAINING,
}
