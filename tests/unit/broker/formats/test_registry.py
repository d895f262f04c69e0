"""The client of the schema registry, against servers that misbehave."""

import socket
import time
from base64 import b64encode
from uuid import UUID

import pytest
from pydantic import SecretStr, ValidationError
from structlog.testing import capture_logs

from broker.formats.registry import MAX_ANSWER_BYTES, Reference, Schema, SchemaRegistry
from broker.formats.settings import RegistrySettings
from reviews.errors import InvalidMessage, Unavailable, WrongUse
from tests.unit.broker.formats.served import Served


def test_a_schema_is_asked_for_once(served: Served):
    served.add(7, "string")
    registry = served.registry()
    assert [registry.by_id(7) for _ in range(3)] == [Schema("AVRO", "string")] * 3
    assert served.asked == ["/schemas/ids/7"]


def test_a_guid_and_a_version_have_addresses_of_their_own(served: Served):
    guid = UUID("89791762-2336-4186-9674-299b90a802e2")
    served.answers[f"/schemas/guids/{guid}"] = (200, {"schema": "{}", "schemaType": "JSON"})
    served.answers["/subjects/a%2Fb%20c/versions/3"] = (200, {"schema": "by version"})
    registry = served.registry()
    assert registry.by_guid(guid) == Schema("JSON", "{}")
    assert registry.by_version(Reference("x", "a/b c", 3)).text == "by version"


def test_an_id_that_the_registry_does_not_have_is_the_records_fault(served: Served):
    with pytest.raises(InvalidMessage, match="no schema with the id 7") as raised:
        served.registry().by_id(7)
    assert raised.value.reason == "unknown_schema"


@pytest.mark.parametrize(
    "answer",
    [
        (404, "<html>no such page</html>"),
        (404, {"status": 404}),
        (200, ["not", "a", "schema"]),
        (200, {"schema": 5}),
        (200, {"schema": "x", "references": [{"name": "no subject"}]}),
        (500, {"error_code": 50001}),
        (429, {}),
        (301, {}),
    ],
)
def test_no_other_answer_is_taken_for_one_about_the_record(served: Served, answer):
    served.answers["/schemas/ids/7"] = answer
    with pytest.raises(Unavailable, match="does not answer like a schema registry") as raised:
        served.registry().by_id(7)
    assert raised.value.service == "registry"


def test_a_registry_that_knows_no_guids_has_none_of_them(served: Served):
    guid = UUID("89791762-2336-4186-9674-299b90a802e2")
    served.answers["/schemas/types"] = (200, ["AVRO"])
    served.answers[f"/schemas/guids/{guid}"] = (404, "")
    with pytest.raises(InvalidMessage) as raised:
        served.registry().by_guid(guid)
    assert raised.value.reason == "unknown_schema"


def test_a_refused_login_names_its_settings_and_waits(served: Served):
    served.answers["/schemas/ids/7"] = (401, {"error_code": 40101})
    with pytest.raises(Unavailable, match=r"refuses the login \(status 401\): check registry.username"):
        served.registry().by_id(7)


def test_logins_are_sent_as_they_are_set(served: Served):
    served.add(7, "string")
    served.registry(username="me", password=SecretStr("säcret")).by_id(7)
    served.registry(token=SecretStr("abc")).by_id(7)
    served.registry().by_id(7)
    assert served.logins == [f"Basic {b64encode('me:säcret'.encode()).decode()}", "Bearer abc", None]


def test_while_it_is_unavailable_it_is_asked_ever_more_rarely(served: Served):
    now = [100.0]
    served.answers["/schemas/ids/7"] = (503, {})
    registry, pauses = served.registry(clock=lambda: now[0]), []
    with capture_logs() as log:
        for _ in range(5):
            with pytest.raises(Unavailable) as raised:
                registry.by_id(7)
            pauses.append(raised.value.retry_seconds)
            with pytest.raises(Unavailable) as again:  # at once, without asking
                registry.by_id(8)
            assert again.value.retry_seconds == pytest.approx(pauses[-1])
            now[0] += pauses[-1]
        served.add(7, "string")
        assert registry.by_id(7).text == "string"
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert served.asked == ["/schemas/ids/7"] * 6
    assert [line["event"] for line in log] == ["registry_unavailable", "registry_back"]


def test_what_is_known_is_found_while_it_is_unavailable(served: Served):
    served.add(7, "string")
    registry = served.registry()
    registry.by_id(7)
    served.answers["/schemas/ids/8"] = (503, {})
    with pytest.raises(Unavailable):
        registry.by_id(8)
    assert registry.by_id(7).text == "string"


def test_each_attempt_is_noted(served: Served):
    now, noted = [0.0], list[str | None]()
    registry = SchemaRegistry(
        RegistrySettings(url=served.url),
        note=lambda err: noted.append(err and "failed"),
        clock=lambda: now[0],
    )
    served.answers["/schemas/ids/7"] = (503, {})
    with pytest.raises(Unavailable):
        registry.by_id(7)
    now[0] += 1
    with pytest.raises(InvalidMessage):
        registry.by_id(8)
    assert noted == ["failed", None]


def test_a_server_that_is_not_there_is_unavailable():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(Unavailable, match=r"does not answer \(Connection refused\)"):
        SchemaRegistry(RegistrySettings(url=url)).by_id(7)


def test_an_answer_that_never_ends_is_cut_off_in_time(served: Served):
    def drip(request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000000")
        request.end_headers()
        try:
            while True:
                request.wfile.write(b" ")
                time.sleep(0.02)
        except OSError:
            pass

    served.answers["/schemas/ids/7"] = drip
    with pytest.raises(Unavailable):
        served.registry(timeout_seconds=0.3).by_id(7)


def test_an_answer_that_is_too_long_is_not_read_to_its_end(served: Served):
    served.add(7, "x" * (MAX_ANSWER_BYTES + 1))
    with pytest.raises(InvalidMessage, match="takes more bytes than can be read") as raised:
        served.registry().by_id(7)
    assert raised.value.reason == "bad_schema"


def test_references_come_before_those_that_use_them(served: Served):
    def version(name: str, *uses: str) -> None:
        references = [{"name": use, "subject": use, "version": 1} for use in uses]
        served.answers[f"/subjects/{name}/versions/1"] = (200, {"schema": name, "references": references})

    version("a", "b", "c")
    version("b", "c")
    version("c")
    registry = served.registry()
    found = registry.referenced(Schema("AVRO", "main", (Reference("a", "a", 1), Reference("c", "c", 1))))
    assert list(found) == ["c", "b", "a"]


def test_references_in_a_circle_are_the_records_fault(served: Served):
    uses = {"name": "a", "subject": "a", "version": 1}
    served.answers["/subjects/a/versions/1"] = (200, {"schema": "a", "references": [uses]})
    with pytest.raises(InvalidMessage, match="circle"):
        served.registry().referenced(Schema("AVRO", "main", (Reference("a", "a", 1),)))


def test_references_without_an_end_are_the_records_fault(served: Served):
    def endless(request) -> None:
        number = int(request.path.split("/")[2]) + 1
        uses = f'{{"name": "{number}", "subject": "{number}", "version": 1}}'
        body = f'{{"schema": "x", "references": [{uses}]}}'.encode()
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    served.answers |= {f"/subjects/{number}/versions/1": endless for number in range(1_000)}
    with pytest.raises(InvalidMessage, match="more than 200"):
        served.registry().referenced(Schema("AVRO", "main", (Reference("0", "0", 1),)))


def test_a_check_asks_anew(served: Served):
    served.answers["/schemas/types"] = (200, ["AVRO"])
    registry = served.registry()
    registry.check()
    served.answers["/schemas/types"] = (200, {"welcome": "to another service"})
    with pytest.raises(Unavailable, match=r"check registry\.url"):
        registry.check()


def test_without_an_address_the_command_for_a_local_one_is_named():
    with pytest.raises(WrongUse, match="reviewloop local up --registry"):
        SchemaRegistry(RegistrySettings())


def test_certificates_that_are_not_there_are_named_before_anything_is_asked(tmp_path):
    with pytest.raises(WrongUse, match=r"registry\.ssl_cafile: there is no file"):
        SchemaRegistry(RegistrySettings(url="https://registry", ssl_cafile=str(tmp_path / "none.pem")))


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "registry:8081"},
        {"url": "ftp://registry"},
        {"url": "http://"},
        {"url": "http://registry:99999"},
        {"url": "http://me:secret@registry"},
        {"url": "http://registry?a=b"},
        {"url": "http://reg istry"},
        {"username": "me"},
        {"password": "secret"},
        {"username": "me", "password": "secret", "token": "t"},
        {"username": "m:e", "password": "secret"},
        {"ssl_keyfile": "key.pem"},
        {"timeout_seconds": 0},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings):
    with pytest.raises(ValidationError):
        RegistrySettings(**settings)
