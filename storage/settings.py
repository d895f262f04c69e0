"""Settings of the database connection."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class DatabaseSettings(BaseModel):
    """The ``database`` section of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: SecretStr | None = Field(
        default=None,
        description="postgresql://USER:PASSWORD@HOST:PORT/NAME; without it, a running local stack is used.",
    )
    password: SecretStr | None = Field(
        default=None, description="Used if the URL has no password; can be a secret file."
    )
    connect_timeout_seconds: int = Field(default=10, ge=1, description="Time-out of one attempt to connect.")
    statement_timeout_seconds: float = Field(
        default=60, ge=0, description="Cancels longer statements; 0: never."
    )
    idle_in_transaction_timeout_seconds: float = Field(
        default=30,
        ge=0,
        description="A worker frozen inside its transaction loses its locks after this.",
    )
    network_timeout_seconds: int = Field(
        default=30, ge=1, description="A dead connection is noticed within this time."
    )
