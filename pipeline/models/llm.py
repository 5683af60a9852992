"""Models of OpenAI, Anthropic and whoever speaks OpenAI's protocol, by pydantic-ai.

Rule 1: the only module that knows pydantic-ai, and it is imported only when a model is asked for: it takes seconds, so
a provider's own part is imported only for its own models.
Rule 2: what a provider says of an error is repeated nowhere: it may hold the prompt or part of the key.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

import httpx2
from genai_prices import calc_price
from pydantic_ai import exceptions as said
from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    SystemPromptPart,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    UserPromptPart,
)
from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from pipeline.errors import PipelineError, ProviderError, ProviderRefused, StagesFailed
from pipeline.models.chat import Aside, Turn
from pipeline.spending import Price, Tokens

CONNECT_S: Final = 10.0
SILENCE_S: Final = 120.0  # without a byte from the provider: a model may think for long before its first word

Provider = Literal["openai", "anthropic"]

_AGAIN: Final = (said.ModelUnavailableError, said.ModelServerError)
_REFUSALS: Final[dict[type[Exception], str]] = {
    said.ModelAuthenticationError: "The model provider does not accept the gateway's key",
    said.ModelNotFoundError: "The model provider does not know the model",
    said.ModelContextWindowExceededError: "The texts are longer than the model can read",
    said.ModelQuotaExceededError: "The account with the model provider is used up",
    said.ContentFilterError: "The model declined to write this",
}


class ProviderModel:
    """A `Chat`. `url` is for another address than the provider's own, `price` takes the place of the published one."""

    def __init__(self, provider: Provider, name: str, *, key: str, url: str = "", price: Price | None = None) -> None:
        self.name = name
        self._client = httpx2.AsyncClient(timeout=httpx2.Timeout(SILENCE_S, connect=CONNECT_S))
        # Attempts are ours to count, to wait between and to tell of: the provider's library makes one.
        self._settings = ModelSettings(max_retries=0)
        self._model = self._openai(name, key, url) if provider == "openai" else self._anthropic(name, key, url)
        self._provider, self._url, self._price = provider, url, price
        self._rate = price or self._published()

    def _openai(self, name: str, key: str, url: str) -> Model:
        from pydantic_ai.models.openai import OpenAIChatModel  # noqa: PLC0415 - see rule 1
        from pydantic_ai.profiles.openai import OpenAIModelProfile  # noqa: PLC0415 - see rule 1
        from pydantic_ai.providers.openai import OpenAIProvider  # noqa: PLC0415 - see rule 1
        from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider  # noqa: PLC0415 - see rule 1

        # Who ends a stream without a reason has broken off: a text must not end in the middle and pass for whole.
        profile = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)
        if not url:
            return OpenAIChatModel(
                name, provider=OpenAIProvider(api_key=key, http_client=self._client), profile=profile
            )
        local = OpenAICompatibleProvider(
            "openai-compatible", base_url=url, api_key=key or "none", http_client=self._client
        )
        return OpenAIChatModel(name, provider=local, profile=profile)

    def _anthropic(self, name: str, key: str, url: str) -> Model:
        from pydantic_ai.models.anthropic import AnthropicModel  # noqa: PLC0415 - see rule 1
        from pydantic_ai.providers.anthropic import AnthropicProvider  # noqa: PLC0415 - see rule 1

        return AnthropicModel(
            name, provider=AnthropicProvider(api_key=key, base_url=url or None, http_client=self._client)
        )

    async def say(self, turns: Sequence[Turn]) -> AsyncGenerator[str | Aside | Tokens, None]:
        with _told():
            async with model_request_stream(self._model, _messages(turns), model_settings=self._settings) as stream:
                counted = RequestUsage()
                async for event in stream:
                    match event:
                        case (
                            PartStartEvent(part=TextPart(content=text))
                            | PartDeltaEvent(delta=TextPartDelta(content_delta=text))
                        ) if text:
                            yield text
                        case (
                            PartStartEvent(part=ThinkingPart(content=text))
                            | PartDeltaEvent(delta=ThinkingPartDelta(content_delta=text))
                        ) if text:
                            yield Aside(text)
                    if (usage := stream.usage) != counted:
                        counted = usage
                        yield self._tokens(usage)
                if stream.finish_reason is None:
                    raise ProviderError("The model provider's answer broke off.")
                if stream.finish_reason == "content_filter":
                    raise ProviderRefused("The model declined to write this.")
                if stream.finish_reason == "length":
                    raise StagesFailed("The model's answer was cut off at the most tokens that it may have.")

    def cost_usd(self, tokens: Tokens) -> float | None:
        # An estimate, asked for with every piece of an answer: looking the price up takes longer than the piece.
        return self._rate.cost_usd(tokens) if self._rate is not None else None

    async def close(self) -> None:
        await self._client.aclose()

    def _tokens(self, usage: RequestUsage) -> Tokens:
        # Input that the provider had cached costs less: the price is of all that it tells, not of the two sums.
        return Tokens(usage.input_tokens, usage.output_tokens, self._cost(usage))

    def _published(self) -> Price | None:
        """The price of a call of usual size; some models charge more for very long ones."""
        input_usd = self._cost(RequestUsage(input_tokens=1_000))
        output_usd = self._cost(RequestUsage(output_tokens=1_000))
        if input_usd is None or output_usd is None:
            return None
        return Price(input_usd * 1_000, output_usd * 1_000)

    def _cost(self, usage: RequestUsage) -> float | None:
        if self._price is not None:
            return self._price.cost_usd(Tokens(usage.input_tokens, usage.output_tokens))
        try:
            if self._url:
                found = calc_price(usage, self.name, provider_api_url=self._url)
            else:
                found = calc_price(usage, self.name, provider_id=self._provider)
        except LookupError:
            return None
        return float(found.total_price)


def _messages(turns: Sequence[Turn]) -> list[ModelMessage]:
    messages: list[ModelMessage] = []
    parts: list[ModelRequestPart] = []
    for turn in turns:
        if turn.by == "model":
            messages += [ModelRequest(parts=parts), ModelResponse(parts=[TextPart(turn.text)])]
            parts = []
        else:
            parts.append(SystemPromptPart(turn.text) if turn.by == "system" else UserPromptPart(turn.text))
    return [*messages, ModelRequest(parts=parts)]


@contextmanager
def _told() -> Iterator[None]:
    """A provider's errors as ours, in our own words."""
    try:
        yield
    except (said.AgentRunError, httpx2.HTTPError) as error:
        raise _ours(error) from None


def _ours(error: Exception) -> PipelineError:  # noqa: PLR0911 - one return for each kind
    status = f" ({error.status_code})" if isinstance(error, said.ModelHTTPError) else ""
    for kind, why in _REFUSALS.items():
        if isinstance(error, kind):
            return ProviderRefused(f"{why}{status}.")
    if isinstance(error, said.ModelRequestTimeout | said.ModelTimeoutError | httpx2.TimeoutException):
        return ProviderError("The model provider did not answer in time.")
    if isinstance(error, said.ModelConnectionError | httpx2.HTTPError):
        return ProviderError("The connection to the model provider failed.")
    if not isinstance(error, said.ModelAPIError):
        return ProviderError("The model provider's answer could not be read.")
    if isinstance(error, said.ModelRateLimitError):
        return ProviderError(f"The model provider limits the rate{status}.", retry_after_s=error.retry_after)
    if isinstance(error, _AGAIN) or not status or _may_pass(error):
        return ProviderError(f"The model provider failed{status}.", retry_after_s=error.retry_after)
    return ProviderRefused(f"The model provider declined the request{status}.")


def _may_pass(error: said.ModelAPIError) -> bool:
    return isinstance(error, said.ModelHTTPError) and (
        error.status_code >= 500 or error.status_code in (408, 409, 425, 429)
    )
