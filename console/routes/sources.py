"""Sources: how topics are read, and a trial of other settings on live records."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from console.access import Operator, Parts
from console.parts import ConsoleParts
from console.rendering import page
from console.source_trial import LONGEST_SECTION, SourceTrial, make_source, read_section, section_of
from reviews.errors import Unavailable, WrongUse
from reviews.sources.settings import SourceSettings, source_of

router = APIRouter()

TRIED_RECORDS = 50
_LONGEST_TOPIC = 249

Topic = Annotated[str, Form(max_length=_LONGEST_TOPIC)]


@router.get("/sources")
def show_sources(
    request: Request,
    parts: Parts,
    _who: Operator,
    topic: Annotated[str, Query(max_length=_LONGEST_TOPIC)] = "",
) -> Response:
    """The sources in the settings, and a form to try one on live records."""
    return page(request, "sources.html", _values(parts, topic))


@router.post("/sources/try")
def try_source(
    request: Request,
    parts: Parts,
    _who: Operator,
    *,
    topic: Topic = "",
    section: Annotated[str, Form(max_length=LONGEST_SECTION)] = "",
) -> Response:
    """What a source makes of the latest records of a topic; nothing is stored."""
    values = _values(parts, topic) | {"section": section}
    try:
        trial = parts.trier.run(topic, _source(parts, topic, section), TRIED_RECORDS)
    except WrongUse as err:
        return page(request, "sources.html", values | {"error": str(err)}, status=422)
    except Unavailable as err:
        return page(request, "sources.html", values | {"error": str(err)}, status=503)
    values |= {"trial": trial, "section": _next_section(trial)}
    return page(request, "sources.html", values)


def _source(parts: ConsoleParts, topic: str, section: str) -> SourceSettings:
    """What is to be tried: the section in the form, else what the settings have for the topic.

    Raises:
        WrongUse: If it is not valid, or names files of this machine that the settings do not name.
    """
    if not topic.strip():
        raise WrongUse("Name a topic first.")
    configured = source_of(parts.sources, topic)
    if not section.strip():
        return configured or make_source({"topic": topic})
    source = read_section(section)
    known = {source.schema_file for source in parts.sources} | {
        one.reader_schema_file for one in parts.sources
    }
    for file in (source.schema_file, source.reader_schema_file):
        if file is not None and file not in known:
            raise WrongUse(
                "A page reads no file of this machine that the settings do not name: try schema files with "
                "'reviewloop sources try'."
            )
    return source


def _next_section(trial: SourceTrial) -> str:
    """What the form holds next: a proposal where there is one."""
    return trial.proposed or trial.section


def _values(parts: ConsoleParts, topic: str) -> dict[str, object]:
    return {
        "sources": [(source.name, section_of(source)) for source in parts.sources],
        "reviews_topic": parts.kafka.reviews_topic,
        "topic": topic,
        "section": "",
        "error": "",
        "trial": None,
        "tried_records": TRIED_RECORDS,
        "longest_section": LONGEST_SECTION,
    }
