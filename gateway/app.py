"""The composition root: the only place that chooses implementations and puts the rooms together."""

import secrets
import time
from collections.abc import AsyncGenerator, Callable
from importlib.resources import files
from pathlib import Path

import structlog
from quart import Quart

from gateway.auth import Authenticator, Keys, KeysError, Scope, Tickets, mint
from gateway.auth.tokens import Tokens
from gateway.broker import Broker, MemoryBroker, SqliteBroker
from gateway.hub import Hub, Pace
from gateway.hub import Limits as HubLimits
from gateway.routes import Services, register
from gateway.routes.request import BoundedRequest
from gateway.runs import Limits as RunLimits
from gateway.runs import Runs
from gateway.settings import Settings, SettingsError
from pipeline import Registry

log = structlog.get_logger(__name__)

DEV_TOKEN_LIFE_S = 3600
DEV_SUBJECT = "developer"


class Gateway:
    """Everything that serves, from settings. Raises SettingsError for what cannot be served."""

    def __init__(self, settings: Settings, pipelines: Registry, *, dev: bool = False) -> None:
        self.settings = settings
        now = time.time
        keys = keys_of(settings, dev=dev)
        self.broker = broker_of(settings, now)
        self.runs = Runs(self.broker, pipelines, limits=_run_limits(settings), now=now)
        self.hub = Hub(
            self.broker,
            limits=_hub_limits(settings),
            pace=Pace(retry_ms=settings.retry_ms),
            heartbeat_s=settings.heartbeat_s,
            now=now,
        )
        tickets = Tickets(now=now)
        tokens = Tokens(keys, issuer=settings.jwt_issuer, audience=settings.jwt_audience, now=now)
        services = Services(
            runs=self.runs,
            hub=self.hub,
            broker=self.broker,
            pipelines=pipelines,
            authenticator=Authenticator(tokens, tickets, allowed_origins=settings.allowed_origins),
            tickets=tickets,
            cookie=settings.cookie,
            max_event_bytes=settings.max_event_bytes,
            max_body_bytes=settings.max_body_bytes,
            console=_clients("console"),
            js=_clients("js"),
            console_token=_console_token(settings, keys) if dev else None,
        )
        self.app = Quart("gateway", static_folder=None)
        self.app.request_class = BoundedRequest
        self.app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
        # Our own errorhandlers answer everything, so Quart must not turn exceptions into pages or re-raise them.
        self.app.config["PROPAGATE_EXCEPTIONS"] = False
        self.app.while_serving(self._lifespan)
        register(self.app, services)

    async def _lifespan(self) -> AsyncGenerator[None]:
        await self.broker.open()
        try:
            await self.runs.recover()
            self.hub.start()
            yield
        finally:
            await self.hub.close()
            stragglers = await self.runs.close()
            await self.broker.close()
            if stragglers:
                log.warning("pipelines that would not stop", runs=stragglers)

    async def drain(self) -> None:
        """End in order: no new work, runs get their time, every connection is told when to come back."""
        drain_s = self.settings.drain_s
        # The endings must fit in before the time is up, with room for what is still unsent.
        await self.runs.drain(within_s=0.0)
        await self.hub.drain(over_s=min(drain_s / 2, self.hub.connections / 100))
        await self.hub.gone()


def keys_of(settings: Settings, *, dev: bool) -> Keys:
    """The verification keys. Raises SettingsError."""
    try:
        if settings.jwt_secret and settings.jwt_public_key:
            raise SettingsError("RUNCAST_JWT_SECRET and RUNCAST_JWT_PUBLIC_KEY: set one of them")
        if settings.jwt_public_key:
            return Keys.from_pem(settings.jwt_public_key, settings.jwt_algorithms)
        if settings.jwt_secret:
            return Keys.from_secret(settings.jwt_secret, settings.jwt_algorithms)
        if dev:
            return Keys.from_secret(secrets.token_urlsafe(48))
    except KeysError as error:
        raise SettingsError(str(error)) from None
    raise SettingsError("RUNCAST_JWT_SECRET: no key is set; set it or RUNCAST_JWT_PUBLIC_KEY, or use --dev")


def broker_of(settings: Settings, now: Callable[[], float]) -> Broker:
    """Raises SettingsError for a URL that this version does not serve."""
    url = settings.broker
    if url in ("memory:", "memory://"):
        return MemoryBroker(now=now)
    if url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        return SqliteBroker(Path(url.removeprefix("sqlite:///")), now=now)
    scheme = url.partition(":")[0]
    raise SettingsError(f"RUNCAST_BROKER: {scheme}: is not served by this version; use sqlite:///PATH or memory:")


def _run_limits(settings: Settings) -> RunLimits:
    return RunLimits(
        max_runs=settings.max_runs,
        max_runs_per_subject=settings.max_runs_per_subject,
        max_event_bytes=settings.max_event_bytes,
        cancel_grace_s=settings.cancel_grace_s,
        external_idle_s=settings.external_idle_s,
    )


def _hub_limits(settings: Settings) -> HubLimits:
    return HubLimits(
        max_connections=settings.max_connections,
        max_connections_per_subject=settings.max_connections_per_subject,
        max_buffer_bytes=settings.max_buffer_bytes,
        max_event_bytes=settings.max_event_bytes,
        stall_timeout_s=settings.stall_timeout_s,
        auth_warning_s=settings.auth_warning_s,
    )


def _console_token(settings: Settings, keys: Keys) -> Callable[[], tuple[str, int]] | None:
    if keys.signing is None:
        return None
    secret = keys.signing

    def make() -> tuple[str, int]:
        token = mint(
            secret,
            subject=DEV_SUBJECT,
            scope=" ".join(scope for scope in Scope if scope is not Scope.ADMIN),
            ttl_s=DEV_TOKEN_LIFE_S,
            now=time.time(),
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            algorithm=keys.algorithms[0],
        )
        return token, DEV_TOKEN_LIFE_S

    return make


def _clients(name: str) -> Path:
    """Static files: inside an installed package, or beside it in a checkout."""
    installed = Path(str(files("gateway"))) / "clients" / name
    return installed if installed.is_dir() else Path(__file__).parent.parent / "clients" / name
