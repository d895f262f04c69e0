"""Tokens for the tests of OAUTHBEARER: unsigned ones, which a broker takes that was told to."""

import base64
import json
import time

from kafka.net.sasl.oauth import AbstractTokenProvider


def _part(content: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


class Unsigned(AbstractTokenProvider):
    """A token that is good for a minute."""

    def token(self) -> str:
        now = int(time.time())
        return f"{_part({'alg': 'none'})}.{_part({'sub': 'scorer', 'iat': now, 'exp': now + 60})}."


class Expired(AbstractTokenProvider):
    """A token of long ago."""

    def token(self) -> str:
        return f"{_part({'alg': 'none'})}.{_part({'sub': 'scorer', 'iat': 1, 'exp': 2})}."


class Broken(AbstractTokenProvider):
    """No token at all."""

    def token(self) -> str:
        raise RuntimeError("the identity provider is away")


class Foreign:
    """Not what kafka-python wants."""
