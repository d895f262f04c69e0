"""``reviewloop mlflow``: mirrors what MLflow has not had yet, now."""

from reviewloop.cli.arguments import configured
from reviewloop.integrations.mlflow_mirror import MlflowMirror
from reviewloop.terminal import say
from reviews.errors import WrongUse


def mlflow() -> None:
    """Mirror runs and adapters to MLflow now; 'trainer schedule' does it by itself."""
    with configured() as (settings, database):
        if settings.mlflow.tracking_uri is None:
            raise WrongUse("No tracking server is configured: set mlflow.tracking_uri.")
        done = MlflowMirror(settings.mlflow, database).mirror()
    if done is None:
        say("Another process mirrors at this moment.")
    else:
        say(f"Mirrored {done.runs:,} runs, {done.adapters:,} adapters and {done.aliases:,} aliases.")
