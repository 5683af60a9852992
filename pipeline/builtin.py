"""The pipelines that come with the project, and whatever else is to be loaded beside them."""

from collections.abc import Iterable

from pipeline.registry import REGISTRY, Registry

BUILTIN = ("pipeline.content", "pipeline.campaign", "pipeline.crew", "pipeline.agent", "pipeline.writing")


def load(modules: Iterable[str] = ()) -> Registry:
    """Import the built-in pipelines, the named modules and installed packages' entry points.

    Raises ImportError for a module that is not there, and whatever importing it raises.
    """
    REGISTRY.load([*BUILTIN, *modules])
    return REGISTRY
