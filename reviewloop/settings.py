"""All settings and their origins: command line > environment > secrets > file > local stack > default."""

import json
import math
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from broker.formats.settings import RegistrySettings
from broker.settings import KafkaSettings
from classifier.settings import ClassifierSettings
from console.settings import ConsoleSettings, LabelStudioSettings
from consumer.settings import ConsumerSettings, SinkSettings
from drift.settings import DriftSettings
from reviewloop.export.settings import ExportSettings
from reviewloop.integrations.settings import MlflowSettings
from reviewloop.local.state import find_running
from reviewloop.operations.settings import AlertSettings, MetricsSettings
from reviews.errors import WrongUse
from reviews.sources.settings import Sources
from reviews.task import Tasks
from storage.lifecycle.settings import RetentionSettings
from storage.settings import DatabaseSettings
from trainer.settings import TrainerSettings

CONFIG_VARIABLE = "REVIEWLOOP_CONFIG"
SECRETS_VARIABLE = "REVIEWLOOP_SECRETS"
"""Names a folder with one secret a file, called like the variable that it stands for."""
WORKER_VARIABLE = "REVIEWLOOP_WORKER"
"""Tells one of several workers its number: its log lines carry it, and it draws no progress bar."""
SUPERVISOR_VARIABLE = "REVIEWLOOP_SUPERVISOR"
"""Tells a child the process id of its supervisor, with which it ends."""
DEFAULT_FILE = "reviewloop.toml"
_PREFIX = "REVIEWLOOP_"

Overrides = Mapping[str, Mapping[str, Any]]


class LocalStackSource(PydanticBaseSettingsSource):
    """The addresses of a running local stack, for what nothing else configures."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Not used: the source answers for whole sections."""
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """The addresses, by section and name."""
        stack = find_running()
        if stack is None:
            return {}
        found: dict[str, Any] = {}
        if stack.kafka.running:
            found["kafka"] = {"bootstrap_servers": stack.kafka.bootstrap_servers}
        if stack.postgres.running:
            found["database"] = {"url": stack.postgres.url}
        if stack.registry and stack.registry.running:
            found["registry"] = {"url": stack.registry.url}
        return found


class SettingsFileSource(InitSettingsSource):
    """The settings file; a byte order mark, which some editors write, is ignored."""

    def __init__(self, settings_cls: type[BaseSettings], file: Path) -> None:
        try:
            text = file.read_text(encoding="utf-8-sig") if file.is_file() else ""
            content = tomllib.loads(text)
        except UnicodeDecodeError as err:
            raise WrongUse(f"The settings file '{file}' is not UTF-8: save it as UTF-8.") from err
        except (OSError, tomllib.TOMLDecodeError) as err:
            raise WrongUse(f"The settings file '{file}' cannot be read: {err}.") from err
        super().__init__(settings_cls, content)


class SecretFilesSource(NestedSecretsSettingsSource):
    """One secret per file; a byte order mark is ignored."""

    @classmethod
    def load_secrets(cls, path: Path) -> dict[str, str]:
        """The contents by the files' names."""
        return {name: value.removeprefix("\ufeff") for name, value in super().load_secrets(path).items()}


class Settings(BaseSettings):
    """Every section; each package is handed its own."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    classifier: ClassifierSettings = Field(default_factory=ClassifierSettings)
    consumer: ConsumerSettings = Field(default_factory=ConsumerSettings)
    trainer: TrainerSettings = Field(default_factory=TrainerSettings)
    drift: DriftSettings = Field(default_factory=DriftSettings)
    alerts: AlertSettings = Field(default_factory=AlertSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    console: ConsoleSettings = Field(default_factory=ConsoleSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    export: ExportSettings = Field(default_factory=ExportSettings)
    sinks: tuple[SinkSettings, ...] = ()
    sources: Sources = ()
    tasks: Tasks = ()
    label_studio: LabelStudioSettings = Field(default_factory=LabelStudioSettings)
    mlflow: MlflowSettings = Field(default_factory=MlflowSettings)

    @model_validator(mode="after")
    def _write_to_topics_of_their_own(self) -> Self:
        topics = [sink.topic for sink in self.sinks]
        if len(set(topics)) < len(topics):
            raise ValueError("two sections [[sinks]] name one topic: the topic identifies a sink")
        others = {
            "kafka.reviews_topic": self.kafka.reviews_topic,
            "kafka.labels_topic": self.kafka.labels_topic,
            "consumer.dead_letter_topic": self.consumer.dead_letter_topic,
            "alerts.topic": self.alerts.topic,
        }
        for name, topic in others.items():
            if topic in topics:
                raise ValueError(f"a section [[sinks]] names '{topic}', which {name} is: name another topic")
        return self

    @model_validator(mode="after")
    def _read_what_can_be_read(self) -> Self:
        written = {
            "kafka.labels_topic": self.kafka.labels_topic,
            "consumer.dead_letter_topic": self.consumer.dead_letter_topic,
            "alerts.topic": self.alerts.topic,
        }
        of_sinks = {f"sinks[{number}].topic": sink.topic for number, sink in enumerate(self.sinks, 1)}
        for source in self.sources:
            for name, topic in {**written, **of_sinks}.items():
                if source.topic is not None and source.topic == topic:
                    raise ValueError(
                        f"a section [[sources]] names '{topic}', which {name} is: it holds no reviews"
                    )
            if unknown := set(source.tasks) - set(self.consumer.tasks):
                raise ValueError(
                    f"the source {source.name} names the task '{min(unknown)}', which is not among "
                    "consumer.tasks"
                )
        return self

    @model_validator(mode="after")
    def _describe_known_tasks(self) -> Self:
        known = {*self.consumer.tasks, self.classifier.task}
        if unknown := [task.name for task in self.tasks if task.name not in known]:
            raise ValueError(
                f"a section [[tasks]] describes '{unknown[0]}', which is neither among consumer.tasks nor "
                "classifier.task"
            )
        return self

    @model_validator(mode="after")
    def _agree_on_the_audit_slice(self) -> Self:
        kept, drawn = self.consumer.embeddings.audit_share, self.trainer.nightly.audit_share
        if kept != drawn:
            raise ValueError(
                f"consumer.embeddings.audit_share ({kept:g}) and trainer.nightly.audit_share ({drawn:g}) "
                "name one slice of the reviews: give both the same value"
            )
        return self

    @model_validator(mode="after")
    def _be_finite(self) -> Self:
        """No clock and no pause takes an infinity; 'never' is a value of its own where there is one."""
        for section in type(self).model_fields:
            for name, _, value, _ in _leaves_of_section(section, getattr(self, section)):
                if isinstance(value, float) and not math.isfinite(value):
                    raise ValueError(f"{name} ({_variable(*name.split('.'))}): must be finite")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order of precedence, written once."""
        del dotenv_settings
        secrets = SecretFilesSource(
            file_secret_settings,
            secrets_dir=os.environ.get(SECRETS_VARIABLE) or None,
            secrets_dir_missing="error",
            secrets_nested_delimiter="__",
        )
        file = SettingsFileSource(settings_cls, config_file())
        return init_settings, env_settings, secrets, file, LocalStackSource(settings_cls)


_SOURCES = {
    "InitSettingsSource": "command line",
    "EnvSettingsSource": "environment",
    "SecretFilesSource": "secret file",
    "SettingsFileSource": "file",
    "LocalStackSource": "local stack",
}


def config_file() -> Path:
    """The settings file: the one named in ``REVIEWLOOP_CONFIG``, else ``reviewloop.toml`` of this folder."""
    return Path(os.environ.get(CONFIG_VARIABLE) or DEFAULT_FILE)


def load_settings(overrides: Overrides | None = None) -> Settings:
    """The settings in effect, with the command line's options on top.

    Args:
        overrides: Values by section and name; None values are left out.

    Raises:
        WrongUse: If a value is not valid or a name is unknown; says which and where it was set.
    """
    given = {
        section: {name: value for name, value in values.items() if value is not None}
        for section, values in (overrides or {}).items()
    }
    _require_named_file()
    _refuse_unknown_variables()
    try:
        return Settings(**given)  # type: ignore[arg-type]  # sections, not pydantic-settings' own options
    except ValidationError as err:
        raise WrongUse(_explain(err)) from None
    except (OSError, ValueError) as err:  # of secret files, or JSON in a variable that is none
        raise WrongUse(_why_unreadable(err)) from err


def origins() -> dict[tuple[str, str], str]:
    """Where each value that is not a default came from, by section and name."""
    sources = Settings.settings_customise_sources(Settings, *_plain_sources())
    found: dict[tuple[str, str], str] = {}
    for source in sources:
        name = _SOURCES[type(source).__name__]
        for section, values in source().items():
            for key in [""] if isinstance(values, list) else _named(values):
                found.setdefault((section, key), f"{name} {config_file()}" if name == "file" else name)
    return found


def _named(values: Any, prefix: str = "") -> Iterator[str]:
    """The names that a source gives, those in sections within a section with a dot."""
    for key, value in values.items() if isinstance(values, dict) else ():
        yield f"{prefix}{key}"
        yield from _named(value, f"{prefix}{key}.")


class ShownSetting(NamedTuple):
    """A setting as people see it.

    Attributes:
        name: With its section, such as ``trainer.gate.alpha``.
        value: In words; secrets and passwords are hidden.
        origin: Where the value came from.
        does: What the setting does.
    """

    name: str
    value: str
    origin: str
    does: str


def shown_settings(settings: Settings) -> Iterator[ShownSetting]:
    """Every setting as it may be shown."""
    came_from = origins()
    for section in type(settings).model_fields:
        for name, key, value, does in _leaves_of_section(section, getattr(settings, section)):
            yield ShownSetting(name, shown_value(value), came_from.get((section, key), "default"), does)


def _leaves_of_section(section: str, values: Any) -> Iterator[tuple[str, str, Any, str]]:
    """Name, key of the origin, value and description of each setting; a section may come several times."""
    if isinstance(values, tuple):
        for number, item in enumerate(values, 1):
            yield from (
                (f"{section}[{number}].{name}", "", value, does) for name, value, does in _leaves(item)
            )
    else:
        yield from ((f"{section}.{name}", name, value, does) for name, value, does in _leaves(values))


def _leaves(values: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    for name, field in type(values).model_fields.items():
        value = getattr(values, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, field.description or ""


def shown_value(value: Any) -> str:
    """A setting's value in words; secrets and passwords are hidden."""
    if value is None:
        return "not set"
    if isinstance(value, SecretStr):
        return _without_password(value.get_secret_value())
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)


def _without_password(secret: str) -> str:
    """A URL without its password; any other secret as stars."""
    scheme, found, rest = secret.partition("://")
    credentials, _, place = rest.partition("@")
    if not found or rest.count("@") != 1:  # with two of them nobody knows where the password ends
        return "********"
    return f"{scheme}://{credentials.partition(':')[0]}:********@{place.partition('?')[0]}"


def _plain_sources() -> tuple[PydanticBaseSettingsSource, ...]:
    return (
        InitSettingsSource(Settings, {}),
        EnvSettingsSource(Settings),
        DotEnvSettingsSource(Settings),
        SecretsSettingsSource(Settings),
    )


def _require_named_file() -> None:
    named = os.environ.get(CONFIG_VARIABLE)
    if named and not Path(named).is_file():
        raise WrongUse(f"The settings file '{named}' does not exist (--config or {CONFIG_VARIABLE}).")


def _refuse_unknown_variables() -> None:
    """Refuse variables that are meant for a setting and set none; others may have our prefix.

    Raises:
        WrongUse: Says how the variable is written.
    """
    known = {_variable(*name.split(".")): name for name in _setting_names(Settings)}
    single = {name.replace("__", "_"): name for name in known}
    sections = {name.upper() for name in Settings.model_fields}
    for given in filter(lambda name: name.upper().startswith(_PREFIX), os.environ):
        name = given.upper()
        section, nested, _ = name.removeprefix(_PREFIX).partition("__")
        if name in single and section not in sections:
            raise WrongUse(f"The variable {given} sets nothing: write {single[name]}.")
        if nested and section not in sections:
            there_are = ", ".join(Settings.model_fields)
            raise WrongUse(f"The variable {given} sets nothing: the sections are {there_are}.")


def _variable(*path: str) -> str:
    return _PREFIX + "__".join(path).upper()


def _setting_names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _setting_names(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _why_unreadable(err: Exception) -> str:
    if isinstance(err.__cause__, json.JSONDecodeError):  # pydantic-settings names the section alone
        for name, value in os.environ.items():
            if name.upper().startswith(_PREFIX) and value == err.__cause__.doc:
                return f'The variable {name} must be JSON, for example a list: ["first", "second"].'
    return f"The settings cannot be read: {err}."


def _explain(err: ValidationError) -> str:
    lines = []
    for problem in err.errors(include_input=False, include_url=False):
        path = [str(part) for part in problem["loc"]]
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "there is no such setting; 'reviewloop config show' lists them"
        # What two settings say together has no place of its own; its message names both.
        variable = f" ({_variable(*path)})" if not any(part.isdigit() for part in path) else ""
        place = f"{'.'.join(path)}{variable}: " if path else ""
        lines.append(f"{place}{message}")
    return "The settings are not valid. " + "; ".join(lines) + "."
