"""What a run spends on models, call by call, and the budget it may not exceed.

Rule 1: every call is told: `llm.started`, and `llm.completed` however it ends, cancelled and failed ones too, with
what it took as far as that is known. What a run took is the sum of its `llm.completed`.
Rule 2: a run over its `budget_usd` stops in the call that spent it, as soon as that is known: while a call streams
its cost is estimated from the tokens so far, of all the calls that are under way together.
"""

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol, Self, runtime_checkable

from pydantic import BaseModel

from pipeline.errors import BudgetExceeded, ProviderError, ProviderRefused, Rejected

WARN_AT: Final = 0.8  # of the budget
EXPECTED_OUTPUT_TOKENS: Final = 150  # what an estimate assumes before a call that says nothing else

Emit = Callable[[str, dict[str, Any]], Awaitable[None]]


class Usage(BaseModel):
    """What all calls to models took."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True)
class Tokens:
    """`cost_usd` where whoever counted them also knows their price, discounts for cached ones included."""

    input: int = 0
    output: int = 0
    cost_usd: float | None = None


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens."""

    input_usd: float
    output_usd: float

    def cost_usd(self, tokens: Tokens) -> float:
        return (tokens.input * self.input_usd + tokens.output * self.output_usd) / 1_000_000


# The offline models cost nothing; this notional price, that of a middling hosted model, lets budgets be exercised.
NOTIONAL: Final = Price(input_usd=3.0, output_usd=15.0)


@runtime_checkable
class Priced(Protocol):
    """A model as far as money goes. `cost_usd` is None where no price is known."""

    @property
    def name(self) -> str: ...

    def cost_usd(self, tokens: Tokens) -> float | None: ...


@dataclass(frozen=True)
class Offline:
    """A model on this machine, at the notional price."""

    name: str
    price: Price = NOTIONAL

    def cost_usd(self, tokens: Tokens) -> float:
        return self.price.cost_usd(tokens)


class OverBudget(BudgetExceeded):
    """`usage` is what all calls so far took."""

    def __init__(self, usage: Usage, limit_usd: float) -> None:
        super().__init__(f"The run has spent {usage.cost_usd:.6f} of {limit_usd:.6f} US dollars.")
        self.usage = usage


class Spending:
    """One run's calls to models. `limit_usd` is the budget, None for none."""

    def __init__(self, emit: Emit, *, limit_usd: float | None) -> None:
        self.usage = Usage()
        self._emit, self._limit = emit, None if limit_usd is None else float(limit_usd)
        self._under_way: dict[str, float] = {}
        self._calls = 0
        self._warned = self._over = self._unpriced = False

    def call(
        self, model: Priced, *, given: int, expected: int = EXPECTED_OUTPUT_TOKENS, streams: bool = True
    ) -> "Call":
        """Bracket one call; used as `async with`. See `Call`."""
        self._calls += 1
        return Call(self, f"llm{self._calls}", model, given=given, expected=expected, streams=streams)

    async def begin(self, call: str, model: Priced, *, prompt: Tokens, whole: Tokens, streams: bool) -> None:
        estimate = model.cost_usd(whole)
        if estimate is None:
            await self._warn_of_no_price(model)
        said = {} if estimate is None else {"estimated_cost_usd": _exact(estimate)}
        if streams:
            await self.mind(call, model.cost_usd(prompt) or 0.0)
        await self._emit("llm.started", {"call": call, "model": model.name, **said})

    async def mind(self, call: str, cost_usd: float) -> None:
        """A call under way has come to this cost. Raises OverBudget when it is too much, all calls together."""
        self._under_way[call] = cost_usd
        if self._over or (self._limit is not None and self._spent() > self._limit):
            raise OverBudget(self._so_far(), self._limit or 0.0)

    async def end(self, call: str, model: Priced, tokens: Tokens, *, begun: bool) -> None:
        """Tell what a call took, and whether the budget is spent now. Raises OverBudget, once told."""
        self._under_way.pop(call, None)
        if begun:
            cost = _exact((tokens.cost_usd if tokens.cost_usd is not None else model.cost_usd(tokens)) or 0.0)
            self.usage.input_tokens += tokens.input
            self.usage.output_tokens += tokens.output
            self.usage.cost_usd = _exact(self.usage.cost_usd + cost)
            took = {"input_tokens": tokens.input, "output_tokens": tokens.output}
            await self._emit("llm.completed", {"call": call, "model": model.name, "usage": took, "cost_usd": cost})

    async def settle(self, *, over: bool) -> None:
        """Warn or stop, as what is spent demands. `over`: a call was stopped, or not begun, for the budget's sake."""
        limit, spent = self._limit, self._spent()
        if limit is None:
            return
        if over or spent > limit:
            if not self._over:
                self._over = True
                await self._emit("budget.exceeded", {"limit_usd": limit, "spent_usd": spent})
            raise OverBudget(self._so_far(), limit)
        if spent >= WARN_AT * limit and not self._warned:
            self._warned = True
            await self._emit("budget.warning", {"limit_usd": limit, "spent_usd": spent})

    def _spent(self) -> float:
        return _exact(self.usage.cost_usd + math.fsum(self._under_way.values()))

    def _so_far(self) -> Usage:
        return self.usage.model_copy(update={"cost_usd": self._spent()})

    async def _warn_of_no_price(self, model: Priced) -> None:
        if self._limit is not None:
            raise Rejected(f"No price is known for the model {model.name}, so no budget can be held.")
        if not self._unpriced:
            self._unpriced = True
            message = f"No price is known for the model {model.name}: its calls are told to cost 0."
            await self._emit("warning", {"code": "price.unknown", "message": message})


class Call:
    """One call to a model, as an async context manager (see `Context.llm`).

    `given` and `expected` are the tokens of the prompt and those that an answer is likely to have. Say what comes as
    it comes (`grew`), what the provider counts once it tells (`counted`), and `again` before the same prompt is sent
    anew. `streams` False: nothing is estimated on the way, only what was counted is paid for.
    """

    def __init__(
        self, spending: Spending, name: str, model: Priced, *, given: int, expected: int, streams: bool
    ) -> None:
        self._spending, self._name, self._model = spending, name, model
        self._given, self._expected, self._streams = given, expected, streams
        self._before = Tokens()  # what earlier attempts of this call took
        self._asked = self._begun = False
        self._output = 0
        self._counted: Tokens | None = None

    async def __aenter__(self) -> Self:
        prompt, whole = Tokens(self._given), Tokens(self._given, self._expected)
        try:
            await self._spending.begin(self._name, self._model, prompt=prompt, whole=whole, streams=self._streams)
        except OverBudget as over:
            await self.__aexit__(type(over), over, None)
            raise
        self._begun = True
        return self

    def asked(self) -> None:
        """The prompt goes out now: unless the provider fails it is paid for, even if nobody waits for the answer."""
        self._asked = True

    async def grew(self, text: str) -> None:
        """The model has said this. Raises OverBudget."""
        self._output += tokens(text)
        if self._streams:
            await self._spending.mind(self._name, self._cost(self._so_far()))

    def counted(self, tokens: Tokens) -> None:
        """What the provider says that this attempt took so far; nothing at all is no count."""
        self._counted = tokens if tokens.input or tokens.output else None

    def again(self) -> None:
        """The attempt has failed; what had come of it is paid for."""
        self._asked = False
        self._before = self._so_far()
        self._output, self._counted = 0, None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._asked = self._asked and not isinstance(error, ProviderError | ProviderRefused)
        await self._spending.end(self._name, self._model, self._so_far(ended=kind is None), begun=self._begun)
        if kind is None or isinstance(error, OverBudget):
            await self._spending.settle(over=error is not None)

    def _so_far(self, *, ended: bool = False) -> Tokens:
        """Of all attempts: as counted where it is, otherwise estimated. A provider's count on the way may lag."""
        before, counted = self._before, self._counted
        if not (self._asked or self._output or counted or ended):
            return before
        if counted is not None and (ended or counted.output >= self._output):
            now = counted
        else:
            now = Tokens(counted.input if counted is not None and counted.input else self._given, self._output)
        cost = self._cost(before) + self._cost(now) if before.output or before.input else now.cost_usd
        return Tokens(before.input + now.input, before.output + now.output, cost)

    def _cost(self, tokens: Tokens) -> float:
        return (tokens.cost_usd if tokens.cost_usd is not None else self._model.cost_usd(tokens)) or 0.0


def budget_of(options: Mapping[str, Any]) -> float | None:
    """The run option `budget_usd`."""
    limit: float | None = options.get("budget_usd")
    return limit


def tokens(text: str) -> int:
    """About what a tokenizer would count: four characters each, and never less than one for a word or mark."""
    if len(text) > 20_000:  # a beginning tells enough of a long text
        return math.ceil(tokens(text[:20_000]) * len(text) / 20_000)
    return max(len(re.findall(r"\w+|[^\w\s]", text)), len(text) // 4)


def _exact(dollars: float) -> float:
    return round(dollars, 9)
