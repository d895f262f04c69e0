"""Settings: their order of precedence, their errors, and what is shown of them."""

from pathlib import Path

import pytest

from reviewloop import settings as module
from reviewloop.cli.config import settings_page
from reviewloop.settings import load_settings, origins, shown_settings
from reviews.errors import WrongUse
from storage.database import Database


def test_command_line_beats_environment_beats_file_beats_default(monkeypatch):
    assert load_settings().kafka.group_id == "reviewloop"
    Path("reviewloop.toml").write_text('[kafka]\ngroup_id = "file"\nreviews_topic = "file-topic"\n')
    assert load_settings().kafka.group_id == "file"
    monkeypatch.setenv("REVIEWLOOP_KAFKA__GROUP_ID", "environment")
    assert load_settings().kafka.group_id == "environment"
    loaded = load_settings({"kafka": {"group_id": "line", "reviews_topic": None}})
    assert (loaded.kafka.group_id, loaded.kafka.reviews_topic) == ("line", "file-topic")


def test_origins_say_where_each_value_came_from(monkeypatch):
    Path("reviewloop.toml").write_text('[kafka]\ngroup_id = "file"\n')
    monkeypatch.setenv("REVIEWLOOP_CONSUMER__BREAKER__MAX_INVALID_SHARE", "0.5")
    found = origins()
    assert found["kafka", "group_id"] == "file reviewloop.toml"
    assert found["consumer", "breaker"] == "environment"


def test_a_running_local_stack_is_used_for_what_nothing_else_configures(monkeypatch, tmp_path):
    from reviewloop.local.state import KafkaStatus, PostgresStatus, StackStatus

    stack = StackStatus(
        tmp_path,
        KafkaStatus("127.0.0.1:1234", pid=1, log=tmp_path, running=True),
        PostgresStatus("postgresql+psycopg://me:pw@127.0.0.1:5/x", pid=1, log=tmp_path, running=True),
    )
    monkeypatch.setattr(module, "find_running", lambda: stack)
    monkeypatch.setenv("REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS", "elsewhere:9092")
    loaded = load_settings()
    assert loaded.kafka.bootstrap_servers == "elsewhere:9092"
    assert loaded.database.url is not None
    assert origins()["database", "url"] == "local stack"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (
            "REVIEWLOOP_KAFKA__STRAT",
            "latest",
            "kafka.strat (REVIEWLOOP_KAFKA__STRAT): there is no such setting",
        ),
        ("REVIEWLOOP_KAFKA__START", "soon", "'latest', 'group' or an ISO 8601 time"),
        (
            "REVIEWLOOP_KAFKA__START",
            "2026-01-31+02:00",
            "'latest', 'group' or an ISO 8601 time",
        ),
        ("REVIEWLOOP_KAFKA__START", " ", "'latest', 'group' or an ISO 8601 time"),
        ("REVIEWLOOP_CONSUMER__MAX_WAIT_SECONDS", "0", "greater than 0"),
        ("REVIEWLOOP_KAFKA__REVIEWS_TOPIC", "a,b", "must be the name of one topic"),
        ("REVIEWLOOP_KAFKA__LABELS_TOPIC", "", "must be the name of one topic"),
        ("REVIEWLOOP_CONSUMER__DEAD_LETTER_TOPIC", "..", "must be the name of one topic"),
        ("REVIEWLOOP_ALERTS__TOPIC", "a" * 250, "must be the name of one topic"),
        ("REVIEWLOOP_KAFKA__GROUP_ID", "", "at least 1 character"),
        (
            "REVIEWLOOP_CONSUMER__RETRY_MAX_SECONDS",
            "inf",
            "(REVIEWLOOP_CONSUMER__RETRY_MAX_SECONDS): must be finite",
        ),
        ("REVIEWLOOP_DRIFT__WATCH__AVERAGE_RUN_LENGTH", "1e999", "drift.watch.average_run_length (REVIEW"),
        ("REVIEWLOOP_CONSUMER__TASKS", '["a", "b", "a"]', "must not name a task twice"),
        ("REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS", "kafka:abc", "must be HOST:PORT, or several"),
        ("REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS", "kafka:99999", "must be HOST:PORT, or several"),
        ("REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS", "a:9092,,b:9092", "must be HOST:PORT, or several"),
        ("REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS", "http://kafka:9092", "must be HOST:PORT, or several"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(monkeypatch, name, value, says):
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongUse) as refused:
        load_settings()
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "brokers", ["kafka", "kafka_1:9092", "a:1, b-2.local:65535", "[::1]:9092", "::1", "127.0.0.1:9092", ""]
)
def test_brokers_are_written_as_for_any_program_of_kafka(monkeypatch, brokers):
    monkeypatch.setenv("REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS", brokers)
    assert load_settings().kafka.bootstrap_servers == brokers


def test_a_settings_file_that_is_named_must_exist(monkeypatch):
    monkeypatch.setenv("REVIEWLOOP_CONFIG", "nowhere.toml")
    with pytest.raises(WrongUse, match="nowhere"):
        load_settings()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"kafka = [", "The settings file 'my.toml' cannot be read: Invalid value"),
        ("[kafka]".encode("utf-16"), "The settings file 'my.toml' is not UTF-8: save it as UTF-8"),
    ],
)
def test_a_settings_file_that_is_no_toml_is_named_with_the_reason(monkeypatch, content, says):
    Path("my.toml").write_bytes(content)
    monkeypatch.setenv("REVIEWLOOP_CONFIG", "my.toml")
    with pytest.raises(WrongUse, match=says):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("REVIEWLOOP_KAFKA_START", "latest", "sets nothing: write REVIEWLOOP_KAFKA__START."),
        ("reviewloop_trainer_gate_alpha", "0.1", "write REVIEWLOOP_TRAINER__GATE__ALPHA."),
        ("REVIEWLOOP_KAFAK__START", "latest", "sets nothing: the sections are kafka, database"),
        (
            "REVIEWLOOP_CONSUMER__TASKS",
            "a,b",
            r'REVIEWLOOP_CONSUMER__TASKS must be JSON.*\["first", "second"\]',
        ),
    ],
)
def test_a_variable_that_sets_nothing_is_named_with_what_to_write(monkeypatch, name, value, says):
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongUse, match=says):
        load_settings()


def test_variables_that_only_share_the_prefix_are_left_alone(monkeypatch):
    # Kubernetes makes the first of a service that is called reviewloop.
    for name in ("REVIEWLOOP_SERVICE_HOST", "REVIEWLOOP_DEBUG", "REVIEWLOOP_KAFKA_UI"):
        monkeypatch.setenv(name, "1")
    assert load_settings().kafka.start == "earliest"


def test_a_byte_order_mark_is_part_of_no_setting_and_of_no_secret(monkeypatch, tmp_path):
    Path("reviewloop.toml").write_text('\ufeff[kafka]\ngroup_id = "of an editor"\n', encoding="utf-8")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "reviewloop_database__password").write_text("\ufeffpassword\r\n", encoding="utf-8")
    monkeypatch.setenv("REVIEWLOOP_SECRETS", str(secrets))
    loaded = load_settings()
    assert loaded.kafka.group_id == "of an editor"
    assert loaded.database.password is not None
    assert loaded.database.password.get_secret_value() == "password"


def test_every_setting_says_what_it_does_and_the_page_of_all_settings_is_current():
    page = Path(__file__).parents[3] / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == settings_page(), "reviewloop config page > docs/settings.md"
    assert [item.name for item in shown_settings(load_settings()) if not item.does] == []


def test_secrets_are_never_shown(monkeypatch):
    canary = "c4nary"
    monkeypatch.setenv("REVIEWLOOP_KAFKA__SASL_PASSWORD", canary)
    monkeypatch.setenv("REVIEWLOOP_KAFKA__SSL_PASSWORD", canary)
    monkeypatch.setenv("REVIEWLOOP_DATABASE__URL", f"postgresql://me:{canary}@db/x?sslpassword={canary}")
    loaded = load_settings()
    shown = {item.name: item.value for item in shown_settings(loaded)}
    assert shown["database.url"] == "postgresql://me:********@db/x"
    assert canary not in repr(loaded) + str(shown)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:c4n@ry@db/x",
        "postgresql://me:c4n@ry/@db/x",
        "postgresql://me:c4n@ry?@db/x",
        "postgresql://me:c4n%40ry@db:1/x@ry",
    ],
)
def test_no_part_of_a_password_with_an_at_sign_is_shown_or_told(monkeypatch, url):
    monkeypatch.setenv("REVIEWLOOP_DATABASE__URL", url)
    loaded = load_settings()
    shown = {item.name: item.value for item in shown_settings(loaded)}
    assert shown["database.url"] == "********"
    with pytest.raises(WrongUse, match="'@' too many") as refused:
        Database(loaded.database)
    assert "ry" not in str(refused.value).replace("try", "")


def test_secrets_come_from_files_below_the_environment_and_are_never_shown(monkeypatch, tmp_path):
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "reviewloop_database__password").write_text("from-a-file\n")
    (secrets / "REVIEWLOOP_KAFKA__SASL_PASSWORD").write_text("from-another")
    (secrets / "not_ours").write_text("ignored")
    monkeypatch.setenv("REVIEWLOOP_SECRETS", str(secrets))
    monkeypatch.setenv("REVIEWLOOP_KAFKA__SASL_PASSWORD", "from-the-environment")
    loaded = load_settings()
    assert loaded.database.password is not None
    assert loaded.kafka.sasl_password is not None
    assert loaded.database.password.get_secret_value() == "from-a-file"
    assert loaded.kafka.sasl_password.get_secret_value() == "from-the-environment"
    assert origins()["database", "password"] == "secret file"
    assert not [item for item in shown_settings(loaded) if "from-" in item.value]


def test_a_folder_of_secrets_that_is_not_there_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setenv("REVIEWLOOP_SECRETS", "/no/such/folder")
    with pytest.raises(WrongUse, match="/no/such/folder"):
        load_settings()


def test_sections_within_sections_are_shown_with_their_origins(monkeypatch):
    monkeypatch.setenv("REVIEWLOOP_TRAINER__GATE__ALPHA", "0.2")
    shown = {item.name: item for item in shown_settings(load_settings())}
    assert (shown["trainer.gate.alpha"].value, shown["trainer.gate.alpha"].origin) == ("0.2", "environment")
    assert "probability" in shown["trainer.gate.alpha"].does.lower()


def test_two_sizes_for_one_audit_slice_are_refused(monkeypatch):
    monkeypatch.setenv("REVIEWLOOP_TRAINER__NIGHTLY__AUDIT_SHARE", "0.2")
    with pytest.raises(WrongUse, match=r"audit_share \(0\.05\) and trainer\.nightly\.audit_share \(0\.2\)"):
        load_settings()
