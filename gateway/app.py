"""The composition root: the only place that chooses implementations and puts the rooms together.

Longer than others: the order in which all of it begins and ends is read in one piece.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from importlib.resources import files
from pathlib import Path

import structlog
from quart import Quart

from gateway.auth import (
    PUBLIC,
    Authenticator,
    Issuer,
    Jwks,
    Keys,
    KeysError,
    Revocations,
    Scope,
    Tickets,
    Tokens,
    choose_algorithms,
    mint,
)
from gateway.broker import Broker, MemoryBroker, SqliteBroker
from gateway.errors import Problem
from gateway.hub import Hub, Pace, Pasts
from gateway.hub import Limits as HubLimits
from gateway.metrics import Metrics, Sources
from gateway.routes import (
    ENDPOINTS,
    Addresses,
    Alias,
    AliasError,
    Audit,
    Endpoint,
    Rate,
    Rates,
    Services,
    declare,
    register,
)
from gateway.routes.request import BoundedRequest
from gateway.runs import Limits as RunLimits
from gateway.runs import Policy, Runs
from gateway.settings import Settings, SettingsError
from gateway.tally import Sockets
from gateway.tasks import Tasks
from pipeline import Registry
from pipeline.models.chat import close as close_model
from pipeline.models.choosing import ModelUnusable, choose

log = structlog.get_logger(__name__)

DEV_TOKEN_LIFE_S = 3600
DRAINED_PER_S = 100  # connections told to come back elsewhere, when no run is waited for
DEV_SUBJECT = "developer"


class Gateway:
    """Everything that serves, from settings. Raises SettingsError for what cannot be served."""

    def __init__(self, settings: Settings, pipelines: Registry, *, dev: bool = False) -> None:
        self.settings = settings
        choose_model(settings)
        now = time.time
        self.broker = broker_of(settings, now)
        keys = jwks_of(settings, changed=self._review) or keys_of(settings, dev=dev)
        self._jwks = keys if isinstance(keys, Jwks) else None
        pasts = Pasts.fitting(settings.max_buffer_bytes)
        self.runs = Runs(
            self.broker,
            pipelines,
            limits=_run_limits(settings),
            retention=Policy(settings.retention_s, settings.max_bytes),
            pasts=pasts,
            now=now,
        )
        self._tasks = Tasks("gateway")
        tickets = Tickets(now=now)
        life_s = settings.max_token_life_s
        tokens = Tokens(keys, issuer=settings.jwt_issuer, audience=settings.jwt_audience, max_life_s=life_s, now=now)
        self._revocations = Revocations(self.broker, max_life_s=life_s, now=now)
        authenticator = Authenticator(
            tokens, tickets, self._revocations, allowed_origins=settings.allowed_origins, now=now
        )
        self.hub = Hub(
            self.broker,
            limits=_hub_limits(settings),
            pace=Pace(retry_ms=settings.retry_ms),
            pasts=pasts,
            heartbeat_s=settings.heartbeat_s,
            now=now,
            watching=self.runs.watching,
            check=authenticator.check,
        )
        self.addresses = Addresses(settings.trusted_proxies)
        self.sockets = Sockets()
        rates = Rates(requests=Rate.parse(settings.rate_limit), commands=Rate.parse(settings.command_rate))
        audit = Audit()
        self.metrics = Metrics(
            Sources(
                hub=self.hub,
                runs=self.runs,
                broker=self.broker,
                audit=audit,
                rates=rates,
                tokens=tokens,
                sockets=self.sockets,
            )
        )
        services = Services(
            runs=self.runs,
            hub=self.hub,
            broker=self.broker,
            pipelines=pipelines,
            authenticator=authenticator,
            tickets=tickets,
            revocations=self._revocations,
            cookie=settings.cookie,
            max_body_bytes=settings.max_body_bytes,
            console=_clients("console"),
            js=_clients("js"),
            console_token=_console_token(settings, keys) if dev and isinstance(keys, Keys) else None,
            addresses=self.addresses,
            rates=rates,
            audit=audit,
            metrics=self.metrics.exposition,
            metrics_for=settings.metrics,
            endpoints=(*ENDPOINTS, *aliases_of(settings)),
        )
        self.app = Quart("gateway", static_folder=None)
        self.app.request_class = BoundedRequest
        self.app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
        # Our own server cuts a slow request off before; others leave it to the app.
        self.app.config["BODY_TIMEOUT"] = settings.request_timeout_s
        # Our own errorhandlers answer everything, so Quart must not turn exceptions into pages or re-raise them.
        self.app.config["PROPAGATE_EXCEPTIONS"] = False
        # A start that is refused is told once, by the command line.
        self.app.logger.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], Problem)))
        self.app.while_serving(self._lifespan)
        register(self.app, services)

    async def _lifespan(self) -> AsyncGenerator[None]:
        await self.broker.open()
        try:
            await self._revocations.load()
            if self._jwks is not None:
                self._jwks.start()
            await self.runs.recover()
            self.hub.start()
            self._tasks.spawn(self._when_lost(), name="log")
            yield
        finally:
            if self._jwks is not None:
                await self._jwks.close()
            await self._tasks.close()
            await self.hub.close()
            stragglers = await self.runs.close()
            await self.broker.close()
            await close_model()
            if stragglers:
                log.warning("pipelines that would not stop", runs=stragglers)

    async def drain(self) -> None:
        """End in order: no new work, runs get their time, every connection is told when to come back."""
        total_s = self.settings.drain_s
        # The last part is for the ends themselves: terminal events, last chunks, what is still unsent.
        ending_s = min(total_s * 0.3, 3.0)
        window_s = total_s - ending_s
        self.hub.draining = True
        self.runs.refuse()
        wait = self.settings.drain_runs == "wait"
        grace_s = ending_s / 3
        over_s = min(window_s, self.hub.connections / DRAINED_PER_S)
        if self.runs.under_way:
            # Whoever watches a run should still see it end.
            over_s = window_s if wait else max(over_s, grace_s)
        await asyncio.gather(
            self.runs.drain(within_s=max(0.0, window_s - grace_s) if wait else 0.0, grace_s=grace_s),
            self.hub.drain(over_s=over_s, gone_in_s=total_s),
        )
        await self.hub.gone()

    async def _when_lost(self) -> None:
        """When the log is lost nothing is pretended: clients are sent away, runs stop, `readyz` says so."""
        await self.broker.lost()
        self.hub.abandon(reason="broker.unavailable")
        await self.runs.abandon()

    def _review(self) -> None:
        self._tasks.spawn(self.hub.review(), name="review")


def jwks_of(settings: Settings, *, changed: Callable[[], None]) -> Jwks | None:
    """The issuer's published keys, if that is where keys come from. Raises SettingsError."""
    if not settings.jwks_url:
        return None
    if settings.jwt_secret or settings.jwt_public_key:
        raise SettingsError("RUNCAST_JWKS_URL: a secret or a public key is set too; set one of them")
    try:
        algorithms = choose_algorithms(settings.jwt_algorithms, fitting=PUBLIC, default=PUBLIC)
    except KeysError as error:
        raise SettingsError(str(error)) from None
    if settings.jwt_audience is None:
        log.warning("an issuer that serves others too vouches for their tokens: set RUNCAST_JWT_AUDIENCE")
    return Jwks(Issuer(settings.jwks_url), algorithms=algorithms, refresh_s=settings.jwks_refresh_s, changed=changed)


def choose_model(settings: Settings) -> None:
    """The model that the pipelines of this process use. Raises SettingsError."""
    try:
        warning = choose(settings.model, price=settings.model_price)
    except ModelUnusable as error:
        raise SettingsError(f"RUNCAST_MODEL: {error}") from None
    if warning:
        log.warning(warning)


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
    raise SettingsError(
        "RUNCAST_JWT_SECRET: no key is set; set it, RUNCAST_JWT_PUBLIC_KEY or RUNCAST_JWKS_URL, or use --dev"
    )


def aliases_of(settings: Settings) -> tuple[Endpoint, ...]:
    """Raises SettingsError."""
    try:
        return declare(Alias(each.pattern, each.run, each.dialect) for each in settings.aliases)
    except AliasError as error:
        raise SettingsError(f"RUNCAST_ALIASES: {error}") from None


def broker_of(settings: Settings, now: Callable[[], float]) -> Broker:
    """Raises SettingsError for a URL that this version does not serve."""
    url = settings.broker
    if url in ("memory:", "memory://"):
        return MemoryBroker(now=now)
    if url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        if not path.name:
            raise SettingsError(f"RUNCAST_BROKER: {path} is not a file's name")
        return SqliteBroker(path, durable=settings.sqlite_sync == "full", now=now)
    scheme = url.partition(":")[0]
    raise SettingsError(f"RUNCAST_BROKER: {scheme}: is not served by this version; use sqlite:///PATH or memory:")


def _run_limits(settings: Settings) -> RunLimits:
    return RunLimits(
        max_runs=settings.max_runs,
        max_runs_per_subject=settings.max_runs_per_subject,
        max_event_bytes=settings.max_event_bytes,
        cancel_grace_s=settings.cancel_grace_s,
        external_idle_s=settings.external_idle_s,
        max_events_per_run=settings.max_events_per_run,
        max_bytes_per_run=settings.max_bytes_per_run,
    )


def _hub_limits(settings: Settings) -> HubLimits:
    return HubLimits(
        max_connections=settings.max_connections,
        max_connections_per_subject=settings.max_connections_per_subject,
        max_connections_per_address=settings.max_connections_per_address,
        max_subscriptions=settings.max_subscriptions,
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
