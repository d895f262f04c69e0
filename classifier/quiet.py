"""Reports of other libraries that mean nothing when a model is loaded on purpose, kept off the terminal."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR

_lock = threading.RLock()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence reports of replaced heads and loading bars, then restore what was set before."""
    from transformers.utils import logging

    with _lock, warnings.catch_warnings():
        # peft asks transformers for a property that has been renamed since.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Silence what the hub's library says about attempts that fail: the error that follows says it once."""
    from huggingface_hub.utils import logging

    with _lock:
        verbosity = logging.get_verbosity()
        logging.set_verbosity(ERROR)
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
