"""Settings of the schema registry."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator


def _address(value: str | None) -> str | None:
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or parts.query or parts.fragment or any(mark <= " " for mark in value):
        raise ValueError("must be an address such as http://registry:8081, without a query")
    if "@" in parts.netloc:
        raise ValueError("must not hold a login: use registry.username and registry.password")
    return value.rstrip("/")


class RegistrySettings(BaseModel):
    """The ``registry`` section of the settings: a schema registry that speaks Confluent's HTTP API."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str | None, AfterValidator(_address)] = Field(
        default=None,
        description="Address of a schema registry with Confluent's API, such as http://registry:8081 or "
        "http://registry:8080/apis/ccompat/v7; without it, that of a running local stack is used.",
    )
    username: str | None = Field(default=None, description="For basic authentication.")
    password: SecretStr | None = Field(default=None, description="For basic authentication.")
    token: SecretStr | None = Field(default=None, description="For bearer authentication.")
    ssl_cafile: str | None = Field(
        default=None, description="PEM file of the certificate authority of the registry."
    )
    ssl_certfile: str | None = Field(default=None, description="PEM file of the client's certificate.")
    ssl_keyfile: str | None = Field(default=None, description="PEM file of the client's key.")
    ssl_password: SecretStr | None = Field(default=None, description="Password of the key file.")
    timeout_seconds: float = Field(
        default=10, gt=0, le=300, description="A request that takes longer than this has failed."
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("registry.username and registry.password need each other")
        if self.username is not None and ":" in self.username:
            raise ValueError("registry.username must not hold a colon")
        if self.token is not None and self.username is not None:
            raise ValueError("registry.token and registry.username exclude each other")
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ValueError("registry.ssl_keyfile needs registry.ssl_certfile")
        return self
