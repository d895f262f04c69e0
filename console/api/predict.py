"""What the serving adapter says of texts."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from console.access import Parts, Viewer
from console.api.bodies import Body
from console.routes.try_it import scorer_of
from reviews.errors import WrongUse

router = APIRouter(tags=["predict"])

_MOST_TEXTS = 32
_LONGEST_TEXT = 10_000
_MOST_CHARACTERS = 100_000


class TextsToPredict(Body):
    """Texts for the serving adapter of a task."""

    texts: list[Annotated[str, Field(min_length=1, max_length=_LONGEST_TEXT)]] = Field(
        min_length=1, max_length=_MOST_TEXTS, description="100,000 characters together at most."
    )
    task: str | None = Field(default=None, max_length=256, description="Without it, the first task.")


class ApiPrediction(BaseModel):
    """What an adapter says of one text."""

    label: str
    confidence: float = Field(description="The calibrated probability of the label.")
    probabilities: dict[str, float] = Field(description="Of each label; together 1.")
    margin: float = Field(description="Between the two most probable labels.")
    truncated: bool = Field(description="Whether the model read only a part of the text.")


class ApiPredictions(BaseModel):
    """One prediction for each text, in their order."""

    task: str
    adapter_version: str
    predictions: list[ApiPrediction]


@router.post("/predict")
def predict_texts(parts: Parts, _who: Viewer, body: TextsToPredict) -> ApiPredictions:
    """Classify texts; nothing is stored. Status 503 while the adapter is being loaded."""
    task = body.task or parts.tasks[0]
    if task not in parts.tasks:
        raise WrongUse(f"There is no task '{task}'; there are: {', '.join(parts.tasks)}.")
    if sum(map(len, body.texts)) > _MOST_CHARACTERS:
        raise WrongUse(f"The texts have more than {_MOST_CHARACTERS:,} characters together: send fewer.")
    classifier, predictions = scorer_of(parts).predict(task, body.texts)
    return ApiPredictions(
        task=task,
        adapter_version=classifier.adapter_version,
        predictions=[
            ApiPrediction(
                label=said.label,
                confidence=said.confidence,
                probabilities=dict(zip(classifier.labels, said.probabilities, strict=True)),
                margin=said.margin,
                truncated=said.truncated,
            )
            for said in predictions
        ],
    )
