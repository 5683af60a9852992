"""The prompts: templates in `pipeline/prompts`, filled in.

Rule 1: what a model is told stands in a template, never in code.
"""

from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment(folder: str, *, trim_blocks: bool = False) -> Environment:
    """The templates of a folder of the package; a name that nothing was given for is an error."""
    loader = PackageLoader("pipeline", folder)
    return Environment(
        loader=loader,
        undefined=StrictUndefined,
        trim_blocks=trim_blocks,
        autoescape=False,  # nosec B701 # noqa: S701 - Markdown and plain text, not HTML
    )


@lru_cache(maxsize=1)
def prompts() -> Environment:
    """The prompts, every one compiled, so that a broken one shows before anything is written."""
    made = environment("prompts")
    for name in made.list_templates():
        if name.endswith(".md.j2"):
            made.get_template(name)
    return made


def prompt(name: str, **values: Any) -> str:
    """One template filled in."""
    return prompts().get_template(name).render(**values).strip()
