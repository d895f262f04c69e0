"""The section ``trainer``: how adapters are fitted, judged, chosen labels for, and when runs begin."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from classifier.adapters.manifest import Pooling
from reviews.slices import SliceShares

Metric = Literal["macro_f1", "accuracy"]
FitKind = Literal["lora", "head", "refit"]


class GateSettings(BaseModel):
    """The section ``trainer.gate``; frozen. Shares and differences are in [0, 1]: 0.03 is three points."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Metric = Field(
        "macro_f1", description="The metric that must improve, and that the floor applies to."
    )
    min_rows: PositiveInt = Field(
        80,
        description="Minimum number of labelled rows that are held out from both adapters, for a decision.",
    )
    min_class_rows: PositiveInt = Field(3, description="The same for each label.")
    floor: float = Field(
        0.3, ge=0, le=1, description="Minimum value of the metric, regardless of the active adapter."
    )
    alpha: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Probability that candidates that are no better lead to a promotion, over all runs "
        "since the last promotion.",
    )
    spending_exponent: float = Field(
        1.5, gt=1, description="Run n uses a share of alpha in proportion to n to the power of minus this."
    )
    regression_tolerance: NonNegativeFloat = Field(
        0.03, description="Loss of accuracy in a class or segment that is tolerated without a test."
    )
    regression_alpha: float = Field(
        0.05, gt=0, lt=1, description="Probability that any class or segment is called worse by mistake."
    )
    min_slice_rows: PositiveInt = Field(30, description="Smaller segments are not tested separately.")
    calibration_tolerance: NonNegativeFloat = Field(
        0.02, description="Rise of the expected calibration error that is tolerated without a test."
    )
    likelihood_tolerance: NonNegativeFloat = Field(
        0.02, description="The same for the mean negative log-likelihood, in nats."
    )
    calibration_alpha: float = Field(
        0.05, gt=0, lt=1, description="Probability that calibration is called worse by mistake."
    )
    max_calibration_error: float = Field(
        0.2, ge=0, le=1, description="Maximum calibration error of the first adapter of a task."
    )
    resamples: PositiveInt = Field(1000, description="Bootstrap resamples.")
    rollback_alpha: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Probability that an adapter no worse than its predecessor is ever rolled back.",
    )


_SHARES = SliceShares()


class RecipeSettings(BaseModel):
    """One way to fit a candidate; everything else is as in the section ``trainer``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64, description="For people, and in the record of the run.")
    kind: FitKind = Field(
        "lora",
        description="lora: LoRA matrices and a head; head: a linear head alone on frozen features; refit: "
        "LoRA, and then a head on the features of its matrices.",
    )
    start: Literal["active", "base"] = Field(
        description="active: continue from the active adapter, or read its features; base: start from fresh "
        "matrices, or read the base's features."
    )
    replay: bool = Field(
        default=True,
        description="Whether rows that the active adapter was trained on are trained on again.",
    )
    learning_rate: PositiveFloat | None = Field(None, description="Peak rate; not of the kind head.")
    min_train_rows: NonNegativeInt = Field(
        0, description="With fewer training rows it is left out, if another recipe was fitted before it."
    )

    @model_validator(mode="after")
    def _has_a_rate_where_there_are_steps(self) -> Self:
        if (self.learning_rate is None) != (self.kind == "head"):
            wrong = "a head has no learning_rate" if self.kind == "head" else "learning_rate is missing"
            raise ValueError(f"{self.name}: {wrong}")
        return self


# The most promising first, by benchmarks/recipes_by_labels.py: with 150 training rows and more, LoRA and then
# a head; with fewer, a head that continues from the active adapter. LoRA with a head of its own was no better
# than these at any count that was measured: it is for bases without a mean, and for far more rows.
DEFAULT_RECIPES = (
    RecipeSettings(name="refit-active", kind="refit", start="active", learning_rate=5e-4, min_train_rows=150),
    RecipeSettings(name="head-active", kind="head", start="active"),
    RecipeSettings(name="refit-base", kind="refit", start="base", learning_rate=5e-4, min_train_rows=150),
    RecipeSettings(name="head-base", kind="head", start="base"),
    RecipeSettings(name="lora-active", start="active", learning_rate=5e-4, min_train_rows=5000),
    RecipeSettings(name="lora-base", start="base", learning_rate=5e-4, min_train_rows=5000),
)


class NightlySettings(BaseModel):
    """The section ``trainer.nightly``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cron: str = Field(
        "0 2 * * *",
        description="Start of the nightly run: minute, hour, day, month, weekday (0 or 7: Sunday); in UTC.",
    )
    misfire_grace_seconds: PositiveInt = Field(
        6 * 3600, description="A nightly run that could not start in time still starts within this time."
    )
    poll_seconds: PositiveFloat = Field(
        60, description="Interval between two checks whether labels or drift call for an earlier run."
    )
    min_new_labels: NonNegativeInt = Field(
        200, description="This many labels since the last run start another one; 0: only the schedule does."
    )
    run_on_drift: bool = Field(default=True, description="Whether a report of drift starts an earlier run.")
    recipes: tuple[RecipeSettings, ...] = Field(
        DEFAULT_RECIPES,
        min_length=1,
        description="Recipes to try, the most promising first: of "
        "several that are equal but for chance, the first is chosen.",
    )
    budget_seconds: PositiveFloat = Field(
        3600,
        description="Time budget for training; a recipe that would exceed it is skipped, except the first.",
    )
    new_weight: PositiveFloat = Field(
        2.0, description="Weight of rows that the active adapter was not trained on."
    )
    model_weight: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Weight of training rows that only models answered (annotator model:NAME); multiplied "
        "with the others. 0: they do not train.",
    )
    models_complete_items: bool = Field(
        default=False,
        description="Whether answers of models complete queued reviews of the training slice, so that no "
        "person is asked; items of the audit, test and validation slices are always for people.",
    )
    uncertain_weight: PositiveFloat = Field(
        1.5, description="Weight of rows that were uncertain when scored; multiplied with the other."
    )
    uncertain_margin: NonNegativeFloat = Field(
        0.2, le=1, description="A row is uncertain if its two best probabilities differed by less than this."
    )
    most_rows: PositiveInt = Field(
        50_000, description="A run takes this many labelled reviews at most: those that were labelled last."
    )
    min_train_rows: PositiveInt = Field(
        40,
        description="With fewer rows to train on a run waits: training rows, and validation rows while heads "
        "train on these.",
    )
    min_class_rows: PositiveInt = Field(2, description="The same for each label.")
    min_validation_rows: PositiveInt = Field(8, description="With fewer validation rows a run waits.")
    enough_validation_rows: PositiveInt = Field(
        200,
        description="With fewer validation rows that the active adapter never saw, recipes are compared by "
        "cross-validation on new training and validation rows, and heads train on validation rows, too.",
    )
    cross_check_folds: int = Field(3, ge=2, description="Number of folds of that cross-validation.")
    expire_days: PositiveFloat = Field(
        30, description="A queued review that was not labelled for this long is removed from the queue."
    )
    rejected_days: PositiveFloat = Field(
        30,
        description="An adapter that the gate rejected is deleted after so many days, unless it is on trial, "
        "in an ensemble or the parent of another one.",
    )
    audit_share: float = Field(
        _SHARES.audit,
        gt=0,
        lt=1,
        description="Share of all reviews that is never trained on (audit slice). Never change it later.",
    )
    test_share: float = Field(
        _SHARES.test,
        gt=0,
        lt=1,
        description="Share of the others that is never trained on (test rows). Never change it later.",
    )
    validation_share: float = Field(
        _SHARES.validation,
        gt=0,
        lt=1,
        description="Share of the others that chooses the recipe (validation rows).",
    )
    lease_seconds: PositiveFloat = Field(
        60, description="A trainer without a sign of life for this long may be replaced."
    )
    outage_seconds: NonNegativeFloat = Field(
        600, description="Longest outage of the database that a run waits for."
    )
    scratch: Path | None = Field(
        None, description="Directory of candidates during a run; unset, the system's temporary directory."
    )

    @model_validator(mode="after")
    def _leave_rows_to_train_on(self) -> Self:
        if self.test_share + self.validation_share >= 1:
            raise ValueError("test_share and validation_share leave nothing to train on: less than 1 in all")
        return self

    @property
    def shares(self) -> SliceShares:
        """How large the slices are."""
        return SliceShares(self.audit_share, self.test_share, self.validation_share)


StrategyName = Literal[
    "balanced-draw",
    "power-margin",
    "margin",
    "entropy",
    "diverse-margin",
    "class-balanced",
    "label-descriptions",
    "random",
]


class SelectionSettings(BaseModel):
    """The section ``trainer.selection``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: StrategyName = Field(
        "balanced-draw",
        description="balanced-draw (drawn evenly over the predicted labels, with a uniform share), "
        "power-margin (drawn in proportion to uncertainty, with a uniform share), margin or "
        "entropy (the most uncertain first), diverse-margin (uncertain, one of each cluster), "
        "class-balanced, label-descriptions (the most similar to each label in turn, with a uniform share), "
        "or random.",
    )
    first_strategy: StrategyName = Field(
        "label-descriptions",
        description="The strategy of the first draws, while the active adapter is a zero-shot one, made from "
        "label descriptions.",
    )
    first_labels: int = Field(
        0,
        ge=0,
        le=1_000,
        description="The first draws end where people have labelled so many reviews; 0: there are none, "
        "the strategy above draws from the beginning.",
    )
    uniform_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="balanced-draw, power-margin and label-descriptions: share of the uniform draw over all "
        "reviews.",
    )
    exponent: NonNegativeFloat | None = Field(
        None,
        description="The other share is in proportion to (1 - margin) to this power; unset, 0 for "
        "balanced-draw and 2 for power-margin.",
    )
    half_life_days: PositiveFloat | None = Field(
        None, description="A review this much older than the newest counts half; unset, age does not matter."
    )
    cost_exponent: float = Field(
        0.0,
        ge=0,
        le=4,
        description="The chance of a review is divided by the seconds that an answer is expected to take, to "
        "this power; 0: long reviews are selected as often as short ones.",
    )
    answer_seconds: PositiveFloat = Field(
        3.0, description="Seconds that an answer is expected to take, without the reading."
    )
    characters_a_second: PositiveFloat = Field(
        23.0, description="How fast annotators are expected to read; 23 is 240 English words a minute."
    )
    skip_near_duplicates: bool = Field(
        default=True, description="Leave out near-duplicates of selected reviews."
    )
    items_per_night: NonNegativeInt = Field(150, description="Reviews that the strategy queues per run.")
    audit_items_per_night: NonNegativeInt = Field(
        30, description="Reviews of the audit slice that are queued per run: unbiased, never trained on."
    )
    audit_window_days: PositiveInt = Field(
        7,
        description="Audit items are drawn from reviews of this many days at most: those received since the "
        "last draw.",
    )
    audit_even_share: float = Field(
        0.1,
        ge=0.05,
        le=1,
        description="Share of the audit items that is drawn evenly over all reviews; the rest is drawn "
        "evenly over the labels, by their probabilities, and each answer is weighted by what that changed. "
        "1: all evenly.",
    )
    pool_records: PositiveInt = Field(
        500_000,
        description="A run chooses among this many stored records: the latest half as many, and others drawn "
        "at random from all before.",
    )


PeftMethod = Literal["lora", "rslora", "dora", "lora+", "ia3", "none"]


class TrainerSettings(BaseModel):
    """The section ``trainer``: a recipe, recorded in what it makes, and sections about what is around it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def recipe(self) -> dict[str, Any]:
        """What decides how an adapter is fitted, ready for JSON; the sections around it are left out."""
        sections = {name for name in type(self).model_fields if isinstance(getattr(self, name), BaseModel)}
        return self.model_dump(mode="json", exclude=sections | {"held_out_texts"})

    def epochs_for(self, steps_per_epoch: int) -> int:
        """Passes over training rows of so many steps: more than ``epochs`` if these are few."""
        return max(self.epochs, -(-self.least_steps // max(1, steps_per_epoch)))

    peft_method: PeftMethod = Field(
        "lora",
        description="lora, rslora (scaled by alpha / sqrt(r)), dora (magnitudes are separate), lora+ (B "
        "learns faster), ia3 (scales activations), or none: full fine-tuning, for comparison.",
    )
    lora_r: PositiveInt = Field(8, description="Rank of the LoRA matrices.")
    lora_alpha: PositiveFloat = Field(16.0, description="LoRA's updates are scaled by alpha / r.")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout in front of the LoRA matrices.")
    loraplus_ratio: PositiveFloat = Field(16.0, description="lora+: B's learning rate over A's.")
    base_dropout: bool = Field(
        default=False,
        description="Use the base's own dropout in training; on a CPU it takes 40 % of the time.",
    )
    target_modules: tuple[str, ...] = Field(
        (),
        description="Linear layers to adapt, by the end of their names; empty: query, key, value and dense.",
    )
    adapted_layers: PositiveInt | None = Field(
        None,
        description="LoRA: number of uppermost layers to adapt; unset, all. Fewer train faster, and tasks in "
        "one worker compute the others once (classifier.adapters = shared).",
    )
    pooling: Pooling | None = Field(
        None,
        description="What the head reads of a text: first, the token that the architecture's own head reads; "
        "or mean, the mean over all tokens, through one linear layer that begins as the best on the base as "
        "it is. Unset: mean for fewer than 1,000 training rows if the base's files say that it embeds "
        "sentences by it, else first.",
    )
    train_pooler: bool = Field(
        default=True,
        description="Train the base's pooler too, if the head reads it (BERT); it is saved whole.",
    )
    epochs: PositiveInt = Field(
        3,
        description="Passes over the training rows; the last epoch is kept whose validation macro-F1 is no "
        "more than a standard error below the best.",
    )
    least_steps: NonNegativeInt = Field(
        100, description="More passes are made over few rows, until there are this many optimiser steps."
    )
    patience_epochs: PositiveInt | None = Field(
        None, description="Stop after this many epochs without a better validation macro-F1; unset, never."
    )
    batch_size: PositiveInt = Field(16, description="Rows per forward pass, over all processes.")
    accumulation_steps: PositiveInt = Field(
        1, description="Batches per optimiser step (gradient accumulation)."
    )
    learning_rate: PositiveFloat = Field(5e-4, description="Peak rate, reached after the warm-up.")
    warmup_fraction: float = Field(
        0.06, ge=0, lt=1, description="Share of the steps in which the learning rate rises."
    )
    weight_decay: NonNegativeFloat = Field(0.01, description="Weight decay of AdamW.")
    max_gradient_norm: PositiveFloat = Field(1.0, description="Larger gradients are clipped to this norm.")
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of a label's weight that is spread over all classes (label smoothing).",
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: all classes have the same total weight."
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Recompute activations instead of storing them: slower, but needs less memory.",
    )
    gradient_precision: Literal["auto", "exact"] = Field(
        "auto",
        description="auto: on a CPU that computes in fp32, gradients pass through frozen matrices in int8, "
        "which takes half the time; exact: in the format of all products.",
    )
    max_length_tokens: int = Field(256, ge=8, description="Longer training texts are cut.")
    seed: NonNegativeInt = Field(0, description="Seed of initialisation, order and dropout.")
    checkpoint_steps: PositiveInt = Field(
        50, description="Optimiser steps between two checkpoints; --resume continues at the last one."
    )
    held_out_texts: NonNegativeInt = Field(
        400,
        le=400,
        description="Number of held-out texts that travel with an adapter, so that each machine can judge "
        "int8 on them; 0: none, and int8 is not chosen by itself.",
    )
    save_precision: Literal["bf16", "fp32"] = Field(
        "bf16", description="Number format of the saved adapter; bf16 halves it."
    )
    # Not part of the recipe: who makes the gate stricter, or chooses otherwise, may still resume a run.
    gate: GateSettings = Field(default_factory=GateSettings, exclude=True)
    selection: SelectionSettings = Field(
        default_factory=SelectionSettings,
        exclude=True,
        description="Which reviews are queued to be labelled.",
    )
    nightly: NightlySettings = Field(
        default_factory=NightlySettings,
        exclude=True,
        description="When a nightly run begins and what it tries.",
    )
