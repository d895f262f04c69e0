"""What an annotator sees; texts are shown as they are, with nothing in them that a terminal obeys."""

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from reviewloop.labelling.choices import Choices, Command
from reviews.label_task import LeasedItem
from reviews.sanitise import sanitise

_WIDEST = 100  # longer lines are hard to read
_FIRST_CHARACTERS = 2_000
_FIRST_LINES = 30
_HELP = {
    Command.unsure: "you looked and cannot tell; this is an answer, too",
    Command.skip: "not for you; others may be asked",
    Command.undo: "take your last answer or skip back; again for the one before",
    Command.more: "the whole of a long text",
    Command.help: "this help",
    Command.quit: "stop; the review on the screen goes back to the queue",
}


class Screen:
    """Prints items, choices and remarks.

    Args:
        choices: The labels with their keys.
        console: Where to.
    """

    def __init__(self, choices: Choices, console: Console) -> None:
        self._choices = choices
        self._console = console
        console.width = min(console.width, _WIDEST)

    def show(self, item: LeasedItem, progress: str) -> None:
        """An item with the choices, and neither the model's guess nor why it was chosen."""
        self._console.print(Rule(Text(progress), style="dim"))
        facts = (item.product, item.source, f"{item.published_at:%Y-%m-%d %H:%M} UTC", item.review_id)
        self._line(" · ".join(_one_line(fact) for fact in facts if fact), "dim")
        if item.is_edited:
            self._line("This review has been edited since; judge the text as it stands here.", "yellow")
        text = sanitise(item.text)
        shown = _beginning(text)
        self._line(f"\n{shown}\n", "")
        if len(shown) < len(text):
            self._line(f"… {len(text) - len(shown):,} characters more: m shows them.", "yellow")
        self._console.print(self._offer())

    def show_whole(self, item: LeasedItem) -> None:
        """The whole text of an item, with the choices."""
        self._line(f"\n{sanitise(item.text)}\n", "")
        self._console.print(self._offer())

    def show_help(self) -> None:
        """What each key does."""
        for label in self._choices.labels:
            self._line(f"  {' or '.join(self._choices.keys[label]):>6}  {_one_line(label)}", "")
        for command, meaning in _HELP.items():
            self._line(f"  {command.value:>6}  {command.name}: {meaning}", "")

    def tell_choice(self, item: LeasedItem, label: str | None, *, reveal_guess: bool) -> None:
        """The choice that was made, and then what the model had said."""
        told = Text("→ " + ("unsure" if label is None else _one_line(label)), "bold")
        if reveal_guess and item.guess is not None:
            guess = item.guess
            style = "green" if guess.label == label else "yellow"
            told.append(f"   the model: {_one_line(guess.label)} ({guess.confidence:.2f})", style)
        elif reveal_guess:
            told.append("   the model has not scored it", "dim")
        self._console.print(told)

    def remark(self, sentence: str) -> None:
        """Something the annotator should know."""
        self._line(sanitise(sentence), "yellow")

    def _line(self, text: str, style: str) -> None:
        self._console.print(Text(text, style))

    def _offer(self) -> Text:
        offer = Text()
        for label, (key, *others) in self._choices.keys.items():
            offer.append(key, "bold cyan")
            offer.append(f" {_one_line(label)}" + "".join(f" ({other})" for other in others) + "   ")
        offer.append("\n")
        for command in Command:
            offer.append(command.value, "bold")
            offer.append(f" {command.name}   ", "dim")
        offer.rstrip()
        return offer


def _beginning(text: str) -> str:
    return "\n".join(text[:_FIRST_CHARACTERS].split("\n")[:_FIRST_LINES])


def _one_line(text: str) -> str:
    return " ".join(sanitise(text).split())
