"""What an operator can set, by `RUNCAST_*` environment variables; the command line overrides some of them.

Rule 1: units stand in the names (`_s` seconds, `_ms` milliseconds, `_bytes`).
Rule 2: only `__main__`, `server` and `app` read Settings; every other room is given plain values.
"""

import difflib
import os
import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "RUNCAST_"
LOCAL = ("localhost", "127.0.0.1", "::1")
Names = Annotated[tuple[str, ...], NoDecode]
# As a browser sends it: no wildcard, no port that goes without saying, other scripts in their ASCII form.
_ORIGIN = re.compile(r"(?!http:.*:80$|https:.*:443$)https?://([\w.-]+|\[[\da-f:.]+])(:\d+)?", re.ASCII | re.IGNORECASE)
_COOKIE = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_RATE = re.compile(r"off|[1-9]\d{0,8}/[smh]", re.ASCII)


class AliasSetting(BaseModel):
    """What is checked of it here is its form; whether it can be served is the routes' to say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pattern: str
    run: str
    dialect: str


AliasSettings = tuple[AliasSetting, ...]
_ALIASES: TypeAdapter[AliasSettings] = TypeAdapter(AliasSettings)


class SettingsError(Exception):
    """A setting that cannot be used; the message is one line that names it."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, allow_inf_nan=False, env_ignore_empty=True
    )

    bind: str = Field("127.0.0.1:8000", description="address to listen on, HOST:PORT")
    broker: str = Field("sqlite:///runcast.db", description="where the log is kept: sqlite:///PATH or memory:")
    pipelines: Names = Field((), description="modules to import pipelines from, separated by commas or spaces")

    model: str | None = Field(
        None, description="model of the built-in pipelines, openai:NAME or anthropic:NAME (default: offline)"
    )
    model_price: str | None = Field(
        None, description="its price where none is known: INPUT,OUTPUT in US dollars for a million tokens"
    )

    aliases: Annotated[AliasSettings, NoDecode] = Field(
        (), description="further addresses of streams, a JSON list of {pattern, run, dialect}"
    )

    jwt_secret: str | None = Field(None, description="secret for HS256 tokens, at least 32 bytes", repr=False)
    jwt_public_key: str | None = Field(None, description="public key for RS/PS/ES/EdDSA tokens: PEM, or a path to it")
    jwks_url: str | None = Field(None, description="where the issuer publishes its keys (RFC 7517), instead of one key")
    jwks_refresh_s: float = Field(300, ge=0.1, le=86_400, description="how often the issuer's keys are fetched again")
    jwt_algorithms: Names = Field((), description="algorithms to accept (default: those that fit the key)")
    jwt_issuer: str | None = Field(None, description="required `iss`")
    jwt_audience: str | None = Field(None, description="required `aud`")
    max_token_life_s: float = Field(
        31_622_400, gt=0, description="a token made for longer is refused; so long a revocation is kept"
    )
    cookie: str | None = Field(None, description="name of a cookie that may carry the token (default: none)")
    allowed_origins: Names = Field(
        (), description="further origins whose pages may call, with the cookie too, and open the WebSocket"
    )
    trusted_proxies: Names = Field((), description="addresses or networks of proxies whose X-Forwarded-For is believed")
    auth_warning_s: float = Field(60, ge=0, description="how long before a token's end `auth.expiring` is sent")

    sqlite_sync: Literal["normal", "full"] = Field(
        "normal", description="normal survives the death of the process, full also a loss of power"
    )
    retention_s: float = Field(604_800, gt=0, description="how long a finished run is kept")
    max_events_per_run: int = Field(1_000_000, ge=1, description="events held of one run; the oldest go first")
    max_bytes_per_run: int = Field(268_435_456, ge=1024, description="bytes held of one run; the oldest go first")
    max_bytes: int = Field(10_737_418_240, ge=1024, description="bytes held in all; the oldest finished runs go first")

    heartbeat_s: float = Field(15, ge=0.01, le=3600, description="silence after which a heartbeat is sent")
    retry_ms: int = Field(1000, ge=1, le=600_000, description="base of the clients' reconnect delay")
    cancel_grace_s: float = Field(5, ge=0, le=3600, description="time a cancelled pipeline has to stop by itself")
    drain_s: float = Field(10, ge=0, le=3600, description="time a shutdown may take")
    drain_runs: Literal["wait", "end"] = Field("wait", description="at a shutdown: give runs time, or end them at once")
    stall_timeout_s: float = Field(
        30, gt=0, le=86_400, description="a client that takes nothing for so long is cut off"
    )
    external_idle_s: float = Field(300, gt=0, description="an external run without a publish for so long is orphaned")

    max_runs: int = Field(1000, ge=1, description="unfinished runs in all")
    max_runs_per_subject: int = Field(100, ge=1, description="unfinished runs of one subject")
    max_connections: int = Field(10_000, ge=1, description="open connections in all")
    max_connections_per_subject: int = Field(1000, ge=1, description="open connections of one subject")
    max_connections_per_address: int = Field(10_000, ge=1, description="open connections of one address")
    max_subscriptions: int = Field(100, ge=32, description="runs that one WebSocket may watch at a time")
    rate_limit: str = Field("1000/s", description="requests of one subject, and of one address: 20/s, 600/m or off")
    command_rate: str = Field("500/s", description="commands of one WebSocket: 20/s, 600/m or off")
    request_timeout_s: float = Field(15, gt=0, le=3600, description="time for a request to come in, head and body")
    max_buffer_bytes: int = Field(
        262_144, ge=4096, le=1_073_741_824, description="unsent bytes above which a connection lags"
    )
    max_event_bytes: int = Field(65_536, ge=256, le=1_048_576, description="size of one event's own fields")
    max_body_bytes: int = Field(1_048_576, ge=1024, description="size of a request body or WebSocket frame")

    metrics: Literal["off", "admin", "local", "open"] = Field(
        "local", description="who sees /metrics: nobody, an admin's token, this machine too, or everybody"
    )
    log_format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal, else JSON")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")

    @field_validator("pipelines", "jwt_algorithms", "allowed_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        # The command line gives a list, whose members may be lists with commas too.
        text = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
        return tuple(text.replace(",", " ").split()) if isinstance(text, str) else value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin[:100]!r} is not an origin like https://app.example.org")
        return value

    @field_validator("cookie")
    @classmethod
    def _cookie_name(cls, value: str | None) -> str | None:
        if value is not None and not _COOKIE.fullmatch(value):
            raise ValueError("is not a cookie's name")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network)  # its ValueError says what is wrong
        return value

    @field_validator("rate_limit", "command_rate")
    @classmethod
    def _rate(cls, value: str) -> str:
        if not _RATE.fullmatch(value):
            raise ValueError("is a count and a unit, like 20/s or 600/m, or off")
        return value

    @field_validator("aliases", mode="before")
    @classmethod
    def _read_aliases(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return _ALIASES.validate_json(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ValueError(": ".join([*map(str, first["loc"]), first["msg"]])) from None

    @field_validator("bind")
    @classmethod
    def _address(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not (colon and host.strip("[]") and port.isascii() and port.isdigit() and int(port) < 65_536):
            raise ValueError("must be HOST:PORT")
        return value

    @field_validator("jwt_public_key")
    @classmethod
    def _read_key(cls, value: str | None) -> str | None:
        if value is None or "-----BEGIN" in value:
            return value
        try:
            return Path(value).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"is neither PEM nor a file that can be read: {error}") from None

    @field_validator("jwks_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise ValueError("is not an address")
        parts = urlsplit(value)
        host = parts.hostname or ""
        if "@" in parts.netloc or not host or parts.port == 0:
            raise ValueError("is not an address without credentials")
        if parts.scheme != "https" and not (parts.scheme == "http" and host in LOCAL):
            raise ValueError("must be https, or http on this machine")
        return value

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.bind.rpartition(":")
        return host.strip("[]"), int(port)


def load(**overrides: Any) -> Settings:
    """Settings from the environment and the command line. Raises SettingsError with one line."""
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = PREFIX + "_".join(map(str, first["loc"])).upper()
        raise SettingsError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from None


def unknown(environment: Mapping[str, str] = os.environ) -> list[str]:
    """A warning for each `RUNCAST_*` variable that means nothing, with the nearest name that does."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    warnings = []
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)
            warnings.append(f"{name} is not a setting; the nearest is {near[0]}")
    return warnings


def table() -> list[tuple[str, str, str]]:
    """`(variable, default, meaning)` for `--help` and the README."""
    return [
        (PREFIX + name.upper(), _default(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def _default(value: Any) -> str:
    return "" if value is None or value == () else str(value)
