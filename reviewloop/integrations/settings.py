"""The ``mlflow`` section of the settings."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator


def _server(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError(
            "must be the http or https address of a tracking server, without a name and password in it"
        )
    return text.rstrip("/")


class MlflowSettings(BaseModel):
    """Where training runs and adapters are mirrored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tracking_uri: Annotated[str, AfterValidator(_server)] | None = Field(
        default=None,
        description="The tracking server that mirrors runs and adapters; unset, none does.",
    )
    username: str | None = Field(default=None, description="For a server with basic authentication.")
    password: SecretStr | None = Field(default=None, description="The user's password.")
    token: SecretStr | None = Field(default=None, description="For a server that takes bearer tokens.")
    name: str = Field(
        default="reviewloop",
        pattern=r"^[A-Za-z0-9_-]{1,100}$",
        description="Experiments and registered models are called this, a dash and the task.",
    )
    poll_seconds: float = Field(
        default=30, gt=0, description="Interval between two looks for what is not mirrored yet."
    )
    timeout_seconds: float = Field(default=30, gt=0, description="Time-out of one request to the server.")

    @model_validator(mode="after")
    def _log_in_one_way(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("mlflow.username and mlflow.password belong together: give both or none")
        if self.token is not None and self.username is not None:
            raise ValueError("give mlflow.token, or mlflow.username and mlflow.password, not both")
        return self
