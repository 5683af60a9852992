"""What a verified credential says about its bearer."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from gateway.errors import Forbidden


class Scope(StrEnum):
    START = "runs:start"
    READ = "runs:read"
    CANCEL = "runs:cancel"
    CONTROL = "runs:control"
    PUBLISH = "runs:publish"
    DELEGATE = "runs:delegate"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """`expires_at` and `issued_at` in Unix seconds; `runs`: further runs that may be seen; `key`: which key vouched.

    `only`: a ticket narrowed to some runs sees no others, whoever its bearer is.
    """

    subject: str
    scopes: frozenset[str]
    expires_at: float
    issued_at: float | None = None
    token_id: str | None = None
    key: str | None = None
    runs: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    ticket: bool = False

    @property
    def admin(self) -> bool:
        return Scope.ADMIN in self.scopes

    def require(self, *scopes: Scope) -> None:
        """Raises Forbidden unless every scope is held."""
        missing = [scope for scope in scopes if scope not in self.scopes]
        if missing:
            raise Forbidden(detail=f"the scope {' '.join(missing)} is missing")

    def for_ticket(self, runs: frozenset[str] | None) -> Self:
        """The same bearer as a ticket carries it, narrowed to `runs` if given."""
        return replace(self, ticket=True, only=self.only if runs is None else runs)
