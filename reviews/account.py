"""People and programs that use the console: their roles, tokens, and the log of their decisions."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from reviews.errors import WrongUse
from reviews.fields import MODEL_PREFIX, looks_like_model

LONGEST_NAME = 128
TOKEN_ACTOR = "token "  # noqa: S105  the beginning of a name
"""How the audit log names a token: with this before its name."""
COMMAND_LINE = "the command line"
"""How it names decisions that were not taken in the console."""
LONGEST_REASON = 2_000


class Role(StrEnum):
    """What somebody may do; each role may all that the ones before it may."""

    VIEWER = "viewer"
    ANNOTATOR = "annotator"
    OPERATOR = "operator"
    OWNER = "owner"

    def covers(self, least: "Role") -> bool:
        """Whether this role may what the other one may."""
        order = list(Role)
        return order.index(self) >= order.index(least)


@dataclass(frozen=True, slots=True)
class User:
    """A person with an account.

    Attributes:
        id: The number of the account.
        name: Unique without regard to case; labels and decisions carry it.
        role: What the person may do.
        is_disabled: Whether nothing of this account works any more.
        has_password: False for those who log in by links or by single sign-on alone.
        created_at: When the account was made (UTC).
        created_by: Who made it.
    """

    id: int
    name: str
    role: Role
    is_disabled: bool
    has_password: bool
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token of a program; the token itself is stored as a hash alone.

    Attributes:
        id: Its number.
        name: Unique among all tokens.
        user: The person who answers for it; it ends with the account.
        role: What it may do: at most what its user may.
        created_at: When it was made (UTC).
        expires_at: From then on it is refused.
        revoked_at: When it was revoked; None while it is not.
        last_used_at: To the minute; None before its first use.
    """

    id: int
    name: str
    user: str
    role: Role
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A decision, as the audit log has it.

    Attributes:
        id: Its number, ascending in time.
        decided_at: When it was taken (UTC).
        actor: The name of the person, or ``token NAME``.
        action: For example ``adapter.promote``.
        subject: What it is about, for example a version.
        reason: Why, in the person's words; may be empty.
        outcome: ``done``, ``refused``, or None where the console ended before it knew.
        message: Why it was refused.
        address: The client's network address.
    """

    id: int
    decided_at: datetime
    actor: str
    action: str
    subject: str
    reason: str
    outcome: str | None
    message: str
    address: str


def require_account_name(name: str) -> str:
    """The name, if accounts and tokens can have it.

    Raises:
        WrongUse: Says what a name is.
    """
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or name.strip() != name:
        raise WrongUse(
            f"A name has 1 to {LONGEST_NAME} printable characters, and no blank at its beginning or end."
        )
    if looks_like_model(name):
        raise WrongUse(f"A name cannot begin with '{MODEL_PREFIX}': answers under it count as a model's.")
    if name.lower().startswith((TOKEN_ACTOR, COMMAND_LINE)):
        raise WrongUse(
            f"A name cannot begin with '{TOKEN_ACTOR}' or '{COMMAND_LINE}': the audit log uses them."
        )
    return name
