"""Names to pipelines, each with its input and result models.

Rule 1: what a pipeline takes and gives is read from its annotations, once, when it is declared.
Rule 2: declaring happens on import, into `REGISTRY`; whoever runs pipelines decides which modules to import.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter

from pipeline.context import Context

ENTRY_POINTS = "runcast.pipelines"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

Function = Callable[..., Awaitable[Any]]
F = TypeVar("F", bound=Function)


@dataclass(frozen=True)
class Pipeline:
    """A declared pipeline: call it with a Context and an input that `input_type` has validated."""

    name: str
    description: str
    function: Function
    input_type: TypeAdapter[Any]
    result_type: TypeAdapter[Any]

    async def __call__(self, ctx: Context, input: Any) -> Any:
        return await self.function(ctx, input)

    def input_schema(self) -> dict[str, Any]:
        """JSON Schema of the input."""
        return self.input_type.json_schema(mode="validation")

    def result_schema(self) -> dict[str, Any]:
        """JSON Schema of the result."""
        return self.result_type.json_schema(mode="serialization")


class Registry:
    """A set of pipelines with unique names."""

    def __init__(self) -> None:
        self._pipelines: dict[str, Pipeline] = {}

    def __iter__(self) -> Iterator[Pipeline]:
        return iter(self._pipelines.values())

    def get(self, name: str) -> Pipeline | None:
        return self._pipelines.get(name)

    def add(self, declared: Pipeline) -> None:
        """Raises ValueError when the name is taken by another function."""
        present = self._pipelines.get(declared.name)
        if present is not None and _origin(present.function) != _origin(declared.function):
            raise ValueError(f"two pipelines are named {declared.name!r}")
        self._pipelines[declared.name] = declared

    def load(self, modules: Iterable[str]) -> None:
        """Import the named modules and those of installed packages' entry points (group `runcast.pipelines`).

        The working directory counts, as it does for `python -m`. Raises ImportError for a module that is not there.
        """
        if (here := str(Path.cwd())) not in sys.path and "" not in sys.path:
            sys.path.insert(0, here)
        for module in modules:
            importlib.import_module(module)
        for entry in entry_points(group=ENTRY_POINTS):
            entry.load()


REGISTRY = Registry()


def pipeline(name: str) -> Callable[[F], F]:
    """Declare `async def f(ctx: Context, input: SomeModel) -> Result` as the pipeline `name`.

    The first paragraph of the docstring is its description. Raises TypeError when the function has not that
    shape, ValueError when the name is not `[a-z0-9._-]` or is taken.
    """

    def declare(function: F) -> F:
        REGISTRY.add(describe(name, function))
        return function

    return declare


def describe(name: str, function: Function) -> Pipeline:
    """Read a function's annotations and docstring into a Pipeline, without registering it."""
    if not NAME.fullmatch(name):
        raise ValueError(f"a pipeline's name matches {NAME.pattern}; {name!r} does not")
    parameters = list(inspect.signature(function).parameters)
    if not inspect.iscoroutinefunction(function) or len(parameters) != 2:
        raise TypeError(f"pipeline {name!r} must be `async def f(ctx, input)`")
    hints = get_type_hints(function)
    description = inspect.cleandoc(function.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    return Pipeline(
        name=name,
        description=description,
        function=function,
        input_type=TypeAdapter(hints.get(parameters[1], dict[str, Any])),
        result_type=TypeAdapter(hints.get("return", Any)),
    )


def _origin(function: Function) -> tuple[str, str]:
    return function.__module__, function.__qualname__
