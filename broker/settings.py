"""Settings of the Kafka connection and the topics."""

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from reviews.fields import read_moment
from reviews.topic_name import topic_name

_NAMED_STARTS = frozenset({"earliest", "latest", "group"})


def _start(value: str) -> str:
    if value not in _NAMED_STARTS:
        try:
            is_moment = read_moment(value) is not None
        except ValueError:
            is_moment = False
        if not is_moment:
            raise ValueError("must be 'earliest', 'latest', 'group' or an ISO 8601 time")
    return value


_MAX_PORT = 65_535
_BROKER = re.compile(
    r"(?:[^\s:/@\[\]]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?|[0-9A-Fa-f]*(?::[0-9A-Fa-f]*){2,7}"
)


def _brokers(value: str | None) -> str | None:
    for broker in value.split(",") if value else ():
        found = _BROKER.fullmatch(broker.strip())
        if found is None or not 0 < int(found[1] or 1) <= _MAX_PORT:
            raise ValueError("must be HOST:PORT, or several of them with commas in between")
    return value


TopicName = Annotated[str, AfterValidator(topic_name)]
"""A name that Kafka takes for a topic."""


class KafkaSettings(BaseModel):
    """The ``kafka`` section of the settings; the security options are handed to kafka-python as they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bootstrap_servers: Annotated[str | None, AfterValidator(_brokers)] = Field(
        default=None, description="HOST:PORT[,HOST:PORT…]; without it, a running local stack is used."
    )
    reviews_topic: TopicName = Field(default="reviews", description="The topic of the reviews.")
    labels_topic: TopicName = Field(default="review-labels", description="The topic of the labels.")
    group_id: str = Field(
        default="reviewloop", min_length=1, description="The consumer group that all workers share."
    )
    start: Annotated[str, AfterValidator(_start)] = Field(
        default="earliest",
        description="Where to start in a topic that was never read: earliest, latest, a time, or group: at "
        "the offsets that the consumer group committed before, earliest where it did not.",
    )

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="Security protocol of the connections to the brokers."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "OAUTHBEARER"] | None = (
        Field(default=None, description="Login mechanism of the SASL protocols.")
    )
    sasl_username: str | None = Field(default=None, description="For PLAIN and SCRAM.")
    sasl_password: SecretStr | None = Field(default=None, description="For PLAIN and SCRAM.")
    sasl_oauth_token_provider: str | None = Field(
        default=None, description="MODULE:CLASS of a kafka-python token provider, for OAUTHBEARER."
    )
    sasl_kerberos_service_name: str = Field(default="kafka", description="For GSSAPI.")
    sasl_kerberos_domain_name: str | None = Field(default=None, description="For GSSAPI.")
    ssl_cafile: str | None = Field(
        default=None, description="PEM file of the certificate authority of the brokers."
    )
    ssl_certfile: str | None = Field(default=None, description="PEM file of the client's certificate.")
    ssl_keyfile: str | None = Field(default=None, description="PEM file of the client's key.")
    ssl_password: SecretStr | None = Field(default=None, description="Password of the key file.")
    ssl_check_hostname: bool = Field(default=True, description="Whether the certificate must name the host.")

    session_timeout_ms: int = Field(
        default=45_000,
        ge=1_000,
        description="A worker without heartbeats loses its partitions after this time.",
    )
    heartbeat_interval_ms: int = Field(
        default=3_000, ge=100, description="Interval between a worker's heartbeats."
    )
    max_poll_interval_ms: int = Field(
        default=600_000, ge=1_000, description="A worker that does not poll for this long leaves the group."
    )

    silence_seconds: float = Field(
        default=15,
        gt=0,
        description="Brokers that have not answered for this long are reported as unavailable.",
    )

    def start_time(self) -> datetime | None:
        """The moment that ``start`` names (UTC where it has no zone); None where it names no time."""
        return None if self.start in _NAMED_STARTS else read_moment(self.start)
