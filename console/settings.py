"""The sections ``console`` and ``label_studio`` of the settings."""

import re
from ipaddress import ip_address, ip_network
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from reviews.fields import ShortText

_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")


def _header(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("must be the name of an HTTP header, such as X-Forwarded-User")
    return name.lower()


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError("must be an IP address of this machine, such as 127.0.0.1 or 0.0.0.0") from None


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        raise ValueError("must be an address or a network, such as 10.0.0.7 or 10.0.0.0/24") from None


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError("must be an http or https address without a name and password in it")
    return text.rstrip("/")


class LabelStudioSettings(BaseModel):
    """How annotations of Label Studio come here, and what the model says goes there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, AfterValidator(_web_address)] | None = Field(
        default=None, description="Where Label Studio is; unset, annotators are known by their numbers alone."
    )
    token: SecretStr | None = Field(
        default=None, description="An access token of a user of Label Studio: its personal or its legacy one."
    )
    predictions: bool = Field(
        default=True,
        description="Whether Label Studio gets the model's predictions; reviews of the audit slice never do.",
    )
    models: dict[ShortText, ShortText] = Field(
        default_factory=dict,
        description="Accounts of Label Studio by which models answer: the e-mail address of each, and the "
        "model's name.",
    )
    timeout_seconds: float = Field(default=30, gt=0, description="Time-out of one request to Label Studio.")

    @model_validator(mode="after")
    def _log_in(self) -> Self:
        if self.url is not None and self.token is None:
            raise ValueError("label_studio.url needs label_studio.token: an access token of a user there")
        return self


class ConsoleSettings(BaseModel):
    """How the console is reached, and by whom."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: Annotated[str, AfterValidator(_address)] = Field(
        default="127.0.0.1", description="The address to listen on; other machines reach only another one."
    )
    port: int = Field(default=8321, ge=1, le=65535, description="The port to listen on.")
    hosts: tuple[str, ...] = Field(
        default=(),
        description="Names under which browsers reach the console; localhost and IP addresses always work.",
    )
    session_hours: float = Field(default=12, gt=0, le=24 * 90, description="A log-in ends after this time.")
    link_hours: float = Field(
        default=48, gt=0, le=24 * 30, description="A one-time link can be used for so long."
    )
    query_seconds: float = Field(
        default=10, gt=0, description="A page that the database cannot answer in this time says so instead."
    )
    upload_bytes: int = Field(
        default=256 * 2**20, gt=0, description="The largest adapter that can be uploaded."
    )
    try_it: bool = Field(
        default=True,
        description="Whether texts can be tried: the console then loads the active adapter on request.",
    )
    trusted_proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
        default=(), description="Addresses or networks of the proxies whose headers are believed."
    )
    user_header: Annotated[str, AfterValidator(_header)] | None = Field(
        default=None,
        description="Single sign-on: the header in which a trusted proxy names the user who logged in.",
    )
    user_header_role: Literal["viewer", "annotator", "operator", "owner"] | None = Field(
        default=None,
        description="The role of users whom the proxy names without an account; unset, they are refused.",
    )

    @model_validator(mode="after")
    def _name_the_proxies(self) -> Self:
        if self.user_header is not None and not self.trusted_proxies:
            raise ValueError(
                "console.user_header needs console.trusted_proxies: name the proxies that set it"
            )
        return self

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ip_address(self.address).is_loopback

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}"

    def trusts(self, address: str) -> bool:
        """Whether an address is that of a trusted proxy."""
        try:
            peer = ip_address(address)
        except ValueError:
            return False
        return any(peer in ip_network(network) for network in self.trusted_proxies)
