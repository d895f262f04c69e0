"""What every request's body keeps to."""

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """What a request brings; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
