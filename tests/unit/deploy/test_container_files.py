"""docker-compose.yml and Dockerfile, as far as they can be held to their words without a container engine."""

import json
import re
import tomllib
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement

from reviewloop.settings import Settings
from tests.unit.deploy.parsing import parse

ROOT = Path(__file__).parents[3]
PREFIX = "REVIEWLOOP_"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file with its anchors merged."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def _ours(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: item for name, item in compose["services"].items() if item["image"].startswith("reviewloop")
    }


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_compose_file_follows_the_specifications_schema(compose: dict[str, Any]):
    schema = resources.files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json")
    jsonschema.validate(compose, json.loads(schema.read_text()))


def test_the_schema_would_notice_a_mistake(compose: dict[str, Any]):
    schema = resources.files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json")
    wrong = {**compose, "services": {"consumer": {"image": "x", "helthcheck": {}}}}
    with pytest.raises(jsonschema.ValidationError, match="helthcheck"):
        jsonschema.validate(wrong, json.loads(schema.read_text()))


def test_every_command_of_a_service_is_one_that_the_command_line_takes(compose: dict[str, Any]):
    for service in _ours(compose).values():
        parse(list(service["command"]))


def test_a_command_that_does_not_exist_would_be_noticed():
    with pytest.raises(Exception, match="No such"):
        parse(["consumes"])
    with pytest.raises(Exception, match="No such"):
        parse(["consume", "--workres=2"])


def test_every_reviewloop_variable_names_a_setting_or_a_file_of_settings(compose: dict[str, Any]):
    for service in _ours(compose).values():
        names = [
            *service["environment"],
            *(item["target"] for item in service.get("secrets", ()) if "target" in item),
        ]
        for name in names:
            section, _, setting = name.upper().removeprefix(PREFIX).lower().partition("__")
            if section in {"secrets", "config"}:
                continue
            model: Any = Settings.model_fields[section].annotation
            assert setting in model.model_fields, name


def test_no_password_stands_in_the_file_or_goes_through_an_environment(compose: dict[str, Any]):
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable:
                assert variable.endswith("_FILE"), (name, variable)
            assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), (name, variable)
    assert all(set(item) == {"file"} for item in compose["secrets"].values())


def test_every_password_is_mounted_only_where_it_is_needed(compose: dict[str, Any]):
    def sources(name: str) -> set[str]:
        entries = compose["services"][name].get("secrets", ())
        return {item if isinstance(item, str) else item["source"] for item in entries}

    assert sources("consumer") == {"writer_password"}
    assert sources("trainer") == sources("drift") == {"trainer_password"}
    assert sources("console") == {"console_password"}
    assert sources("kafka") == sources("topics") == set()
    assert sources("postgres") == sources("migrate") == sources("admin") == {"owner_password"}


def test_every_service_that_runs_for_long_logs_in_as_a_role_that_may_only_what_it_needs(compose):
    users = {
        name: re.match(r"postgresql://(\w+)@", service["environment"]["REVIEWLOOP_DATABASE__URL"])[1]
        for name, service in _ours(compose).items()
        if service["restart"] == "unless-stopped"
    }
    made = {
        item.partition("=")[2] for item in compose["services"]["roles"]["command"] if "password" not in item
    }
    owner = compose["services"]["postgres"]["environment"]["POSTGRES_USER"]
    assert users.keys() == {"consumer", "trainer", "drift", "console"}
    assert set(users.values()) <= made - {"", owner}
    for name in users:
        assert compose["services"][name]["depends_on"]["roles"]["condition"] == (
            "service_completed_successfully"
        )


def test_the_console_is_reached_from_this_machine_alone(compose: dict[str, Any]):
    published = {name: item["ports"] for name, item in compose["services"].items() if "ports" in item}
    assert published == {"console": ["127.0.0.1:8321:8321"]}


def test_every_image_from_elsewhere_has_a_whole_version(compose: dict[str, Any]):
    named = [item["image"] for item in compose["services"].values() if "build" not in item]
    named += re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(named) >= 4
    for image in named:
        parts = 2 if image.startswith("postgres:") else 3  # PostgreSQL has no third
        assert re.search(rf":\d+(\.\d+){{{parts - 1}}}(-\w+)*$", image), image


def test_the_images_packages_have_the_versions_that_are_tested_and_a_hash_each():
    tested = {_name(pin): pin.partition("==")[2] for pin in _pins(ROOT / "constraints.txt")}
    for file in ("requirements.txt", "build-requirements.txt"):
        text = (ROOT / "deploy" / "image" / file).read_text()
        assert "://" not in text, "no place to download from is written down"
        entries = re.split(r"\n(?=\S)", text.strip())
        for entry in entries:
            name, version = re.match(r"([\w.-]+)==([\w.]+)", entry).groups()
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), name
            assert version == tested.get(_name(name), version), f"{name}: make image-requirements"


def test_the_image_has_every_package_that_the_project_needs():
    """Installed without looking for dependencies: one that is not on the list would be missing."""
    listed = {_name(pin) for pin in _pins(ROOT / "deploy" / "image" / "requirements.txt")}
    project = _project()["project"]
    needed = set()
    waiting = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    waiting += _project()["project"]["optional-dependencies"]["console"]
    while waiting:
        requirement = Requirement(waiting.pop())
        name = _name(requirement.name)
        if name in needed or not (requirement.marker is None or _holds_in_the_image(requirement.marker)):
            continue
        needed.add(name)
        waiting += [
            item for item in metadata.requires(requirement.name) or ()
            if _is_wanted(Requirement(item), requirement.extras)
        ]  # fmt: skip
    assert needed - listed == set(), "make image-requirements"


def _is_wanted(requirement: Requirement, extras: set[str]) -> bool:
    return requirement.marker is None or any(
        _holds_in_the_image(requirement.marker, extra) for extra in ("", *extras)
    )


def _holds_in_the_image(marker: Any, extra: str = "") -> bool:
    place = {"python_version": "3.12", "python_full_version": "3.12.12", "sys_platform": "linux",
             "platform_system": "Linux", "platform_machine": "x86_64", "extra": extra}  # fmt: skip
    return bool(marker.evaluate(place))


def _pins(file: Path) -> list[str]:
    return re.findall(r"^[\w.-]+==[\w.]+", file.read_text(), re.MULTILINE)


def _name(requirement: str) -> str:
    """As the index spells it."""
    return re.sub(r"[-_.]+", "-", requirement.partition("==")[0]).lower()


def test_our_services_are_read_only_without_capabilities_and_the_others_are_confined(compose: dict[str, Any]):
    for name, service in _ours(compose).items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
    for name, service in compose["services"].items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("privileged"), name
        published = service.get("ports", ())
        assert all(port.startswith("127.0.0.1:") for port in published), f"{name} is published to the outside"


def test_data_is_in_named_volumes_and_what_runs_for_long_has_a_health_check(compose: dict[str, Any]):
    for name in ("kafka", "postgres", "consumer"):
        service = compose["services"][name]
        assert "healthcheck" in service, name
        for volume in service["volumes"]:
            assert volume.partition(":")[0] in compose["volumes"], volume


def test_a_service_waits_for_what_it_needs(compose: dict[str, Any]):
    conditions = {
        name: item["condition"] for name, item in compose["services"]["consumer"]["depends_on"].items()
    }
    assert conditions == {
        "kafka": "service_healthy",
        "postgres": "service_healthy",
        "roles": "service_completed_successfully",
        "topics": "service_completed_successfully",
    }
    for service in compose["services"].values():
        assert set(service.get("depends_on", ())) <= compose["services"].keys()


def test_the_image_holds_every_package_and_runs_as_nobody_in_particular():
    text = (ROOT / "Dockerfile").read_text()
    stages = text.split("\nFROM ")
    copied = re.findall(r"^COPY (\w+) \1$", stages[0] + "\n" + "\n".join(stages[1:-1]), re.MULTILINE)
    assert sorted(copied) == sorted(_project()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    instructions = re.findall(r"^([A-Z]+) (.*)$", stages[-1], re.MULTILINE)
    users = [value for name, value in instructions if name == "USER"]
    assert users == ["10001:10001"]
    assert dict(instructions)["ENTRYPOINT"] == '["reviewloop"]'
    assert "reviewloop" in _project()["project"]["scripts"]
    parse(json.loads(dict(instructions)["CMD"]))


def test_what_the_image_copies_is_there_and_passes_the_ignore_file():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    first_stage = (ROOT / "Dockerfile").read_text().partition("\nFROM ")[0]
    for line in re.findall(r"^COPY (.*) \S+$", first_stage, re.MULTILINE):
        for source in line.split():
            assert (ROOT / source).exists(), source
            assert source in allowed, source


def test_image_and_kafka_have_the_versions_of_the_project(compose: dict[str, Any]):
    from reviewloop.local.jars import KAFKA_VERSION

    assert {item["image"] for item in _ours(compose).values()} == {
        f"reviewloop:{_project()['project']['version']}"
    }
    assert compose["services"]["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
