"""The prompts: templates in `pipeline/prompts`, filled in.

Rule 1: what a model is told stands in a template, never in code.
"""

from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@lru_cache(maxsize=1)
def prompts() -> Environment:
    """The templates, every one compiled, so that a broken one shows before anything is written."""
    loader = PackageLoader("pipeline", "prompts")
    # Markdown and plain prompts, not HTML.
    made = Environment(loader=loader, autoescape=False, undefined=StrictUndefined, keep_trailing_newline=False)  # nosec B701 # noqa: S701 - see above
    for name in loader.list_templates():
        if name.endswith(".md.j2"):
            made.get_template(name)
    return made


def prompt(name: str, **values: Any) -> str:
    """One template filled in."""
    return prompts().get_template(name).render(**values).strip()
