"""Every check, in the order in which one needs the other."""

from collections.abc import Iterator

from reviewloop.doctor import machine, model, services
from reviewloop.doctor.finding import Finding, examine, failure
from reviewloop.settings import Settings
from reviewloop.wiring import open_database
from reviews.errors import ReviewLoopError


def examine_all(settings: Settings) -> Iterator[Finding]:
    """The findings, as they come; what cannot be looked at without an earlier part is left out."""
    yield from examine("versions", machine.versions)
    yield from examine("caches", lambda: machine.caches(settings))
    yield from examine("device", lambda: machine.device(settings))
    yield from examine("kafka", lambda: services.kafka(settings))
    yield from _examine_database(settings)


def _examine_database(settings: Settings) -> Iterator[Finding]:
    try:
        with open_database(settings) as database:
            found = list(examine("database", lambda: services.server(database)))
            yield from found
            if len(found) > 1:  # an error stands alone
                yield from examine("schema", lambda: services.schema(database))
                yield from examine("adapter", lambda: model.adapters(settings, database))
                return
    except ReviewLoopError as err:
        yield failure("database", err)
    yield from examine("base model", lambda: model.base_model(settings))
