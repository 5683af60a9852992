"""Declaring pipelines: names, shapes and schemas."""

import pytest
from pydantic import BaseModel

from pipeline import Context, Recorder
from pipeline.registry import REGISTRY, Registry, describe


class Given(BaseModel):
    count: int


async def double(ctx: Context, input: Given) -> int:
    """Say twice
    the count.

    More about it.
    """
    return input.count * 2


async def other(ctx: Context, input: Given) -> int:
    return input.count


async def test_a_declared_pipeline_knows_its_models_and_runs() -> None:
    """Description and schemas are read from the function, which can be called through the declaration."""
    declared = describe("double", double)
    assert declared.description == "Say twice the count."
    assert declared.input_schema()["properties"]["count"]["type"] == "integer"
    assert declared.result_schema() == {"type": "integer"}
    assert await declared(Context(Recorder()), Given(count=2)) == 4


@pytest.mark.parametrize("name", ["", "Has Space", "-first", "x" * 65, "é"])
def test_a_bad_name_is_refused(name: str) -> None:
    """A name is lower-case letters, digits and ._- only."""
    with pytest.raises(ValueError, match="name"):
        describe(name, double)


def test_another_shape_is_refused() -> None:
    """Only a coroutine function of two parameters is a pipeline."""

    async def alone(ctx: Context) -> None: ...

    with pytest.raises(TypeError):
        describe("alone", alone)
    with pytest.raises(TypeError):
        describe("plain", len)


def test_a_name_is_taken_once() -> None:
    """The same function may be declared again, another one may not."""
    registry = Registry()
    registry.add(describe("one", double))
    registry.add(describe("one", double))
    with pytest.raises(ValueError, match="two pipelines"):
        registry.add(describe("one", other))
    assert registry.get("none") is None
    assert [declared.name for declared in registry] == ["one"]


def test_loading_a_module_declares_its_pipelines() -> None:
    """After loading its module the built-in pipeline is there; an unknown module is an ImportError."""
    REGISTRY.load(["pipeline.content"])
    assert REGISTRY.get("content") is not None
    with pytest.raises(ImportError):
        REGISTRY.load(["pipeline.no_such_module"])
