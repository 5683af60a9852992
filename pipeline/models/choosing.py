"""From an operator's words to the model that runs use, `openai:NAME` or `anthropic:NAME`.

Rule 1: nothing of a provider's library is imported before a model is asked for.
"""

import math

from pipeline.models import chat
from pipeline.spending import Price, Tokens

EXTRA = "pip install 'runcast[llm]'"


class ModelUnusable(ValueError):
    """The model that was asked for cannot be used; the message is one line for the operator."""


def choose(spec: str | None, *, price: str | None = None) -> str | None:
    """Have all runs use this model from now on, the offline ones for None. Raises ModelUnusable.

    `price` is `INPUT,OUTPUT` in US dollars for a million tokens, for a model whose price is not known. The keys and
    addresses are those that the providers' own libraries read: OPENAI_API_KEY, OPENAI_BASE_URL, ANTHROPIC_API_KEY,
    ANTHROPIC_BASE_URL. Returns a warning for the operator, if there is one.
    """
    if spec is None:
        chat.use(None)
        return None
    given = _price(price) if price else None
    try:
        from pipeline.models import llm  # noqa: PLC0415 - see rule 1
    except ImportError as error:
        raise ModelUnusable(f"{spec} needs what is not installed here ({error.name}): {EXTRA}") from None
    try:
        model = llm.ProviderModel(spec, price=given)
    except llm.Unusable as error:
        raise ModelUnusable(str(error)) from None
    chat.use(model)
    if model.cost_usd(Tokens(1, 1)) is None:
        return f"no price is known for {spec}: costs are told as 0, and runs with a budget are refused"
    return None


def _price(text: str) -> Price:
    try:
        input_usd, output_usd = map(float, text.split(","))
    except ValueError:
        input_usd = output_usd = -1.0
    if not (0 <= input_usd < math.inf and 0 <= output_usd < math.inf):
        raise ModelUnusable("a price is INPUT,OUTPUT in US dollars for a million tokens, such as 0.15,0.60")
    return Price(input_usd, output_usd)
