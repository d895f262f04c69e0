"""Where copies of a review's id or text are beside its own rows, and how they go.

Everything here may be done again: what is gone already is not found.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from reviews.erasure import DISTINCT_CHARACTERS, DISTINCT_ID_BYTES, ERASED, written_ids, written_texts

LETTERS_AT_ONCE = 500
"""Dead letters that one statement looks through."""

# What people and this program wrote about reviews: columns in which an id or a text may be quoted.
_REMARKS = {
    "audit_log": ("subject", "reason", "message"),
    "adapter_activation": ("reason",),
    "adapter_shadow": ("reason", "end_reason"),
    "guideline": ("text",),
    "run_request": ("reason", "error"),
    "stream_gap": ("reason",),
    "training_run": ("error",),
}
_JSON_REMARKS = {"training_run": ("config", "manifest", "metrics", "verdict"), "adapter": ("metrics",)}
_NEXT_LETTER = text("""
SELECT max(record)
  FROM (SELECT record FROM dead_letter WHERE record >= :first ORDER BY record LIMIT :limit) part
""")
_DELETE_LETTERS = text("""
DELETE FROM dead_letter d
 WHERE d.record >= :first AND d.record <= :last
   AND (d.key = ANY(CAST(:keys AS bytea[]))
        OR EXISTS (SELECT FROM unnest(CAST(:needles AS bytea[])) AS n (needle)
                    WHERE position(n.needle IN d.raw) > 0 OR position(n.needle IN d.key) > 0)
        OR EXISTS (SELECT FROM jsonb_array_elements(coalesce(d.headers, '[]')) AS h (header)
                   CROSS JOIN LATERAL (
                          SELECT convert_to(h.header ->> 'name', 'UTF8')
                           UNION ALL SELECT convert_to(h.header ->> 'value', 'UTF8')
                           UNION ALL SELECT decode(h.header ->> 'base64', 'base64')) AS part (bytes)
                    WHERE part.bytes = ANY(CAST(:keys AS bytea[]))
                       OR EXISTS (SELECT FROM unnest(CAST(:needles AS bytea[])) AS n (needle)
                                   WHERE position(n.needle IN part.bytes) > 0)))
""")
# Small files only: weights hold no texts.
_HOLDING = text("""
INSERT INTO erasure_adapter (erasure_id, adapter_id)
SELECT DISTINCT CAST(:erasure AS integer), f.adapter_id FROM adapter_file f
 WHERE f.path LIKE '%.json'
   AND EXISTS (SELECT FROM unnest(CAST(:needles AS bytea[])) AS n (needle)
                WHERE position(n.needle IN f.content) > 0)
ON CONFLICT DO NOTHING
""")
_SUBJECTS = text("UPDATE audit_log SET subject = :erased WHERE subject = ANY(:ids)")
_REPORTS = text("""
SELECT id, since, until, measures, attribution FROM drift_report WHERE id > :after ORDER BY id LIMIT :limit
""")
_KEEP_REPORT = text("""
UPDATE drift_report SET measures = CAST(:measures AS jsonb), attribution = CAST(:attribution AS jsonb)
 WHERE id = :report
""")


def letter_step(
    connection: Connection, first: int, review_ids: Sequence[str], texts: Sequence[str]
) -> tuple[int, int | None]:
    """Delete the next dead letters that hold one of these: how many, and where the next step begins.

    Args:
        connection: In a transaction.
        first: The least record of this step.
        review_ids: Of the erased reviews.
        texts: Of all their versions.
    """
    last: int | None = connection.execute(_NEXT_LETTER, {"first": first, "limit": LETTERS_AT_ONCE}).scalar()
    if last is None:
        return 0, None
    given = {
        "first": first,
        "last": last,
        "keys": [one.encode("utf-8", "surrogatepass") for one in review_ids],
        "needles": needles(review_ids, texts),
    }
    return connection.execute(_DELETE_LETTERS, given).rowcount, last + 1


def needles(review_ids: Iterable[str], texts: Iterable[str]) -> list[bytes]:
    """What is searched for in bytes."""
    ids = {form for one in review_ids for form in written_ids(one)}
    return sorted(ids | {form for one in texts for form in written_texts(one)})


def note_holding_adapters(connection: Connection, erasure: int, texts: Sequence[str]) -> int:
    """Note the adapters whose files hold one of these texts; how many."""
    found = sorted({form for one in texts for form in written_texts(one)})
    if not found:
        return 0
    return connection.execute(_HOLDING, {"erasure": erasure, "needles": found}).rowcount


def clean_remarks(
    connection: Connection, review_ids: Sequence[str], texts: Sequence[str]
) -> Iterator[tuple[str, int]]:
    """Take ids and texts out of what was written about them: tables, and how many entries of each."""
    plain = [one for one in review_ids if len(one.encode("utf-8", "surrogatepass")) >= DISTINCT_ID_BYTES]
    plain += [one for one in texts if len(one) >= DISTINCT_CHARACTERS]
    forms = dict.fromkeys(plain, ERASED)
    forms |= {f"'{one}'": f"'{ERASED}'" for one in review_ids if one not in forms}
    for table, columns in _REMARKS.items():
        if entries := sum(_clean(connection, table, column, "text", forms) for column in columns):
            yield table, entries
    subjects = connection.execute(_SUBJECTS, {"ids": list(review_ids), "erased": ERASED}).rowcount
    if subjects:
        yield "audit_log", subjects
    written = {json.dumps(form, ensure_ascii=False)[1:-1]: by for form, by in forms.items()}
    for table, columns in _JSON_REMARKS.items():
        if entries := sum(_clean(connection, table, column, "jsonb", written) for column in columns):
            yield table, entries


def _clean(connection: Connection, table: str, column: str, kind: str, forms: Mapping[str, str]) -> int:
    find = text(
        f"SELECT CAST(ctid AS text), CAST({column} AS text) FROM {table} "  # noqa: S608  names of ours
        "WHERE EXISTS (SELECT FROM unnest(CAST(:forms AS text[])) AS f (form) "
        f"WHERE position(f.form IN CAST({column} AS text)) > 0) FOR UPDATE"
    )
    keep = text(f"UPDATE {table} SET {column} = CAST(:content AS {kind}) WHERE ctid = CAST(:place AS tid)")  # noqa: S608
    rows = connection.execute(find, {"forms": list(forms)}).all()
    for place, content in rows:
        cleaned = content
        for form, by in forms.items():
            cleaned = cleaned.replace(form, by)
        connection.execute(keep, {"place": place, "content": cleaned})
    return len(rows)


def clean_reports(
    connection: Connection,
    records: frozenset[int],
    texts: Sequence[str],
    scored: Sequence[datetime],
    *,
    after: int,
    limit: int,
) -> tuple[int, int | None]:
    """Take erased reviews out of the next drift reports: how many changed, and the last one looked at.

    Examples are record numbers and go. Words and groups of texts in the reports of a window that an erased
    review is in go where the review has the word.

    Args:
        connection: In a transaction.
        records: Of the erased versions.
        texts: Theirs.
        scored: When they were scored.
        after: Reports with greater numbers.
        limit: At most so many.
    """
    rows = connection.execute(_REPORTS, {"after": after, "limit": limit}).all()
    words = frozenset(word for one in texts for word in _words(one))
    changed = 0
    for row in rows:
        hidden = words if any(row.since <= moment < row.until for moment in scored) else frozenset()
        cleaned = {
            name: _cleaned(getattr(row, name), records, texts, hidden) for name in ("measures", "attribution")
        }
        if cleaned != {"measures": row.measures, "attribution": row.attribution}:
            changed += 1
            given = {name: json.dumps(value) for name, value in cleaned.items()}
            connection.execute(_KEEP_REPORT, {"report": row.id, **given})
    return changed, rows[-1].id if rows else None


def _words(content: str) -> Iterator[str]:
    word = ""
    for letter in f"{content.casefold()} ":
        if letter.isalnum():
            word += letter
        elif word:
            yield word
            word = ""


def _cleaned(value: Any, records: frozenset[int], texts: Sequence[str], words: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {key: _cleaned(one, records, texts, words) for key, one in value.items()}
    if isinstance(value, list):
        kept = [one for one in value if not (_is_record(one) and one in records) and not _names(one, words)]
        return [_cleaned(one, records, texts, words) for one in kept]
    if isinstance(value, str):
        for one in texts:
            if len(one) >= DISTINCT_CHARACTERS:
                value = value.replace(one, ERASED)
    return value


def _is_record(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _names(value: Any, words: frozenset[str]) -> bool:
    """Whether it is a part of a shift that is named by one of these words."""
    return (
        isinstance(value, dict)
        and "share" in value
        and not words.isdisjoint(_words(str(value.get("name", ""))))
    )
