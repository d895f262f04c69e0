"""Withdrawals: a publisher deletes a review, which then leaves the current reviews; its history stays.

A withdrawal takes back the versions that Kafka had before it, whatever time of publication they state. It is
ordered by Kafka's time, then by its arrival, like versions of one time of publication. So a deletion that is
read late does not hide a newer version, and a review that is published again afterwards is back.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from reviews.errors import InvalidMessage
from reviews.fields import Id

WithdrawalKind = Literal["delete", "tombstone"]
"""``delete``: a message says so, such as one of change data capture. ``tombstone``: a key without a value."""


class Withdrawal(BaseModel):
    """That a publisher takes a review back.

    Attributes:
        id: The publisher's name for the review.
        kind: How it was said.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    id: Id
    kind: WithdrawalKind = "delete"


def read_withdrawal(review_id: object, kind: WithdrawalKind) -> Withdrawal:
    """A withdrawal of the review with this id, as the mapping of a topic found it.

    Args:
        review_id: A text or a whole number; None where the record has none.
        kind: How it was said.

    Raises:
        InvalidMessage: If it is no id of a review, with a sentence that does not quote it.
    """
    if review_id is None:
        raise InvalidMessage("missing_id", f"The {kind} does not say which review: its id is missing.")
    try:
        return Withdrawal.model_validate({"id": review_id, "kind": kind})
    except ValidationError as err:
        message = str(err.errors(include_url=False, include_input=False)[0]["msg"])
        message = message.removeprefix("Value error, ")
        raise InvalidMessage(
            "bad_id", f"The id in the {kind} is not valid: {message[:1].lower()}{message[1:]}."
        ) from None
