"""What a run exchanges with people: the labels that they gave by now, and the questions to ask next."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

from reviews.label import LabelledReview
from reviews.label_set import LabelSet
from reviews.queue_item import NewItem, Reason
from storage.database import Database
from storage.labels.label_sets import LabelSetStore, follow_newest
from storage.labels.queue_contents import QueueContents, queued_records
from storage.labels.store import LabelStore
from storage.labels.waiting import pin_waiting
from storage.learning.disagreements import disagreements
from trainer.selection.reading import choose_for_run
from trainer.settings import NightlySettings, SelectionSettings

_DISPUTED_WITHIN = timedelta(days=7)
_EDITED_PRIORITY = 1.0  # it was worth a label before: first of all


@dataclass(frozen=True, slots=True)
class LabelExchange:
    """Labels in, questions out; every method raises ``Unavailable`` if the database does not answer.

    Attributes:
        database: Where both are.
        task: Whose.
        selection: Which questions, and how many.
        nightly: How large the slices are.
        now: The time.
    """

    database: Database
    task: str
    selection: SelectionSettings
    nightly: NightlySettings
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def collect(self, *, tidy: bool) -> list[LabelledReview]:
        """The records with a consensus that were labelled last, as many as the settings say.

        Those that people agree on come first; what only models answered fills up the rest, if it may train.

        With ``tidy``, waiting labels are first pinned to their reviews, answers under names of before counted
        under those of now, answered items of the annotation queue closed, and old ones expired.
        """
        if tidy:
            pin_waiting(self.database, everything=True)
            follow_newest(self.database, self.task)
            queue = QueueContents(self.database)
            queue.close_answered(self.task)
            if self.nightly.models_complete_items:
                queue.close_answered_by_models(self.task, self.nightly.shares)
            queue.expire(self.task, self.nightly.expire_days)
        labels, most = LabelStore(self.database), self.nightly.most_rows
        by_people = labels.labelled(self.task, most)
        if self.nightly.model_weight == 0 or len(by_people) >= most:
            return by_people
        return [*by_people, *labels.labelled_by_models(self.task, most - len(by_people))]

    def label_set(self) -> LabelSet | None:
        """The declared labels of the task; None where nothing was declared."""
        return LabelSetStore(self.database).declared(self.task)

    def without_text(self) -> int:
        """How many records have a consensus, but no text any more."""
        return LabelStore(self.database).without_text(self.task)

    def questions(self, seed: int) -> list[NewItem]:
        """What is worth a label next.

        Reviews edited since they were labelled, those that an adapter on trial calls something else, and a
        run's choice among all the others.

        Raises:
            WrongUse: If the task has no active adapter, so that nothing is scored.
        """
        edited = self._edited()
        chosen = choose_for_run(
            self.database, self.task, self.selection, self.nightly.shares, seed=seed, now=self.now()
        )
        return [
            *(NewItem(record, self.task, "edited", "edited", _EDITED_PRIORITY) for record in edited),
            *self._disputed(),
            *(
                NewItem(
                    one.record,
                    self.task,
                    cast("Reason", one.reason),
                    one.strategy,
                    one.priority,
                    draw_weight=one.draw_weight,
                )
                for one in chosen
            ),
        ]

    def _disputed(self) -> list[NewItem]:
        """Reviews that a shadow adapter and the active one label differently, the least certain first."""
        since = self.now() - _DISPUTED_WITHIN
        found = disagreements(
            self.database, self.task, since, self.nightly.shares, self.selection.items_per_night
        )
        return [
            NewItem(one.record, self.task, "disagreement", "shadow", 1 - min(one.margin, one.shadow_margin))
            for one in found
        ]

    def _edited(self) -> list[int]:
        """Versions that were never queued, the oldest first and no more than a run's items.

        An item that was skipped is not queued again by every run.
        """
        edited = LabelStore(self.database).edited_since_label(self.task, self.nightly.most_rows)
        asked = queued_records(self.database, self.task, edited)
        unasked = [record for record in edited if record not in asked]
        return unasked[: self.selection.items_per_night]

    def add(self, questions: list[NewItem], run: int | None = None) -> int:
        """Put them into the annotation queue; how many are new there."""
        return QueueContents(self.database).add(questions, run)
