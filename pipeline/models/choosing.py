"""From an operator's words to the model that runs use, `openai:NAME` or `anthropic:NAME`.

Rule 1: nothing of a provider's library is imported before a model is asked for in words that make sense.
Rule 2: keys and addresses come from the variables that the providers' own libraries read, and go nowhere else.
"""

import math
import os
from collections.abc import Mapping
from typing import Final

from pipeline.models import chat
from pipeline.models.chat import Chat
from pipeline.spending import Price, Tokens

EXTRA: Final = "pip install 'runcast[llm]'"
PROVIDERS: Final = ("openai", "anthropic")


class ModelUnusable(ValueError):
    """The model that was asked for cannot be used; the message is one line for the operator."""


def choose(spec: str | None, *, price: str | None = None) -> str | None:
    """Have all runs use this model from now on, the offline ones for None. Raises ModelUnusable.

    `price` is `INPUT,OUTPUT` in US dollars for a million tokens, for a model whose price is not known. Returns a
    warning for the operator, if there is one.
    """
    model = None if spec is None else made(spec, price=_price(price) if price else None)
    chat.use(model)
    if model is not None and model.cost_usd(Tokens(1, 1)) is None:
        return f"no price is known for {spec}: costs are told as 0, and runs with a budget are refused"
    return None


def made(spec: str, *, price: Price | None = None, environment: Mapping[str, str] = os.environ) -> Chat:
    """The model that `PROVIDER:NAME` names. Raises ModelUnusable."""
    provider, colon, name = (part.strip() for part in spec.partition(":"))
    if not colon or not name or provider not in PROVIDERS:
        raise ModelUnusable(f"{spec!r} is no model: say PROVIDER:NAME, where PROVIDER is {' or '.join(PROVIDERS)}")
    key, url = (environment.get(f"{provider.upper()}_{part}", "").strip() for part in ("API_KEY", "BASE_URL"))
    if url and not url.startswith(("http://", "https://")):
        raise ModelUnusable(f"{provider.upper()}_BASE_URL must begin with http:// or https://")
    if not key and not (provider == "openai" and url):  # a server of one's own may want none
        raise ModelUnusable(f"{spec} needs a key in {provider.upper()}_API_KEY")
    try:
        from pipeline.models.llm import ProviderModel  # noqa: PLC0415 - see rule 1

        return ProviderModel("openai" if provider == "openai" else "anthropic", name, key=key, url=url, price=price)
    except ImportError as error:
        raise ModelUnusable(f"{spec} needs what is not installed here ({error.name}): {EXTRA}") from None


def _price(text: str) -> Price:
    try:
        input_usd, output_usd = map(float, text.split(","))
    except ValueError:
        input_usd = output_usd = -1.0
    if not (0 <= input_usd < math.inf and 0 <= output_usd < math.inf):
        raise ModelUnusable("a price is INPUT,OUTPUT in US dollars for a million tokens, such as 0.15,0.60")
    return Price(input_usd, output_usd)
