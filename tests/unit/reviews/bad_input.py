"""Messages that cannot be reviews, with the reason each is refused for; and odd ones that are reviews."""

from datetime import UTC, datetime


def message(**fields: str) -> bytes:
    """A message of raw JSON values: what is given replaces a good review's fields."""
    merged = {"id": '"1"', "text": '"Good."', **fields}
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in merged.items()) + "}").encode(
        "utf-8", "surrogatepass"
    )


HUGE = "9" * 5_000

REFUSED: dict[str, tuple[bytes | None, str]] = {
    "not JSON": (b"good", "not_json"),
    "nothing at all": (b"", "not_json"),
    "JSON that ends early": (b'{"id": "1", "text": "Go', "not_json"),
    "something behind the JSON": (message() + b" x", "not_json"),
    "a list": (b'["1", "Good."]', "not_an_object"),
    "a string": (b'"Good."', "not_an_object"),
    "null": (b"null", "not_an_object"),
    "a tombstone": (None, "tombstone"),
    "invalid UTF-8": (b'{"id": "1", "text": "Good\xff."}', "not_utf8"),
    "a surrogate in UTF-8": (message(text='"a\ud800b"'), "not_utf8"),
    "UTF-16": (message().decode().encode("utf-16"), "not_utf8"),
    "NUL in the text": (message(text=r'"Go\u0000od."'), "bad_text"),
    "NUL in the id": (message(id=r'"1\u0000"'), "bad_id"),
    "NUL in the product": (message(product=r'"\u0000"'), "bad_product"),
    "NUL in the source": (message(source=r'"\u0000"'), "bad_source"),
    "a lone surrogate": (message(text=r'"a\ud800b"'), "not_json"),
    "a lone surrogate that nobody reads": (message(other=r'"\udfff"'), "not_json"),
    "a control character that is not escaped": (message(text='"a\x01b"'), "not_json"),
    "a missing text": (b'{"id": "1"}', "missing_text"),
    "a missing id": (b'{"text": "Good."}', "missing_id"),
    "an empty text": (message(text='""'), "bad_text"),
    "a blank text": (message(text=r'" \t\n\u00a0\u3000"'), "bad_text"),
    "an invisible text": (message(text=r'"\u200b\ufeff\u2060\u00ad\ufe0f\u2800\u3164"'), "bad_text"),
    "an empty id": (message(id='""'), "bad_id"),
    "a blank id": (message(id='"  "'), "bad_id"),
    "a text that is a number": (message(text="5"), "bad_text"),
    "a text that is null": (message(text="null"), "bad_text"),
    "an id with a fraction": (message(id="5.0"), "bad_id"),
    "an id that is true": (message(id="true"), "bad_id"),
    "an id of 257 digits": (message(id="9" * 257), "bad_id"),
    "a product with a fraction": (message(product="1e3"), "bad_product"),
    "a source that is false": (message(source="false"), "bad_source"),
    "a product that is a list": (message(product="[]"), "bad_product"),
    "an id of 257 characters": (message(id=f'"{"x" * 257}"'), "bad_id"),
    "a product of 513 characters": (message(product=f'"{"x" * 513}"'), "bad_product"),
    "NaN for stars": (message(stars="NaN"), "not_json"),
    "NaN that nobody reads": (message(other="[[NaN]]"), "not_json"),
    "-Infinity that nobody reads": (message(other='{"x": -Infinity}'), "not_json"),
    "NaN in a text and as a number": (message(text='"NaN"', other="NaN"), "not_json"),
    "1e999 stars": (message(stars="1e999"), "bad_stars"),
    "2**70 stars": (message(stars=str(2**70)), "bad_stars"),
    "6 stars": (message(stars="6"), "bad_stars"),
    "0 stars": (message(stars="0"), "bad_stars"),
    "half a star": (message(stars="0.5"), "bad_stars"),
    "stars in words": (message(stars='"five"'), "bad_stars"),
    "stars of stars": (message(stars='"5/5"'), "bad_stars"),
    "stars with an exponent in a text": (message(stars='"5e0"'), "bad_stars"),
    "6 stars in a text": (message(stars='"6"'), "bad_stars"),
    "a list of stars": (message(stars="[5]"), "bad_stars"),
    "true stars": (message(stars="true"), "bad_stars"),
    "100,000 levels of nesting": (message(other="[" * 100_000 + "]" * 100_000), "not_json"),
    "5,000 digits": (message(other=HUGE), "not_json"),
    "5,000 digits behind a minus": (message(other=f"-{HUGE}"), "not_json"),
    "5,000 digits behind a point": (message(other=f"0.{HUGE}"), "not_json"),
    "5,000 digits of exponent": (message(other=f"1e{HUGE}"), "not_json"),
    "5,000 digits of stars": (message(stars=HUGE), "not_json"),
    "the 30th of February": (message(published_at='"2026-02-30"'), "bad_published_at"),
    "a date in prose": (message(published_at='"yesterday"'), "bad_published_at"),
    "a year alone": (message(published_at='"2026"'), "bad_published_at"),
    "a year as a number": (message(published_at="2026"), "bad_published_at"),
    "true for a time": (message(published_at="true"), "bad_published_at"),
    "seconds before 1970": (message(published_at="-1700000000"), "bad_published_at"),
    "eight digits that are no date": (message(published_at="20261301"), "bad_published_at"),
    "eleven digits": (message(published_at='"17000000000"'), "bad_published_at"),
    "a compact date and time of twelve digits": (message(published_at='"202601311200"'), "bad_published_at"),
    "a compact date and time of 14 digits": (message(published_at='"20260131120000"'), "bad_published_at"),
    "a digit between date and time": (message(published_at='"2026-01-31512:00"'), "bad_published_at"),
    "a date with a zone": (message(published_at='"2026-01-31+02:00"'), "bad_published_at"),
    "digits of another script": (
        message(published_at=f'"{chr(0x661) * 10}"'),
        "bad_published_at",
    ),
    "a moment past the year 9999 in UTC": (
        message(published_at='"9999-12-31T23:59:59-01:00"'),
        "bad_published_at",
    ),
    "a moment before the year 1 in UTC": (
        message(published_at='"0001-01-01T00:00:00+01:00"'),
        "bad_published_at",
    ),
}

_DAY, _NOON = datetime(2026, 1, 31, tzinfo=UTC), datetime(2026, 1, 31, 12, tzinfo=UTC)
_FIRST, _LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)

ACCEPTED: dict[str, tuple[bytes, dict[str, object]]] = {
    "a byte order mark": (b"\xef\xbb\xbf" + message(), {"text": "Good."}),
    "a date without a zone": (
        message(published_at='"2026-01-31T12:00:00"'),
        {"published_at": datetime(2026, 1, 31, 12, tzinfo=UTC)},
    ),
    "a date alone": (
        message(published_at='"2026-01-31"'),
        {"published_at": datetime(2026, 1, 31, tzinfo=UTC)},
    ),
    "another zone": (
        message(published_at='"2026-01-31T12:00:00+05:30"'),
        {"published_at": datetime(2026, 1, 31, 6, 30, tzinfo=UTC)},
    ),
    "the year 1": (message(published_at='"0001-01-01T00:00:00Z"'), {"published_at": _FIRST}),
    "the year 9999": (message(published_at='"9999-12-31T23:59:59.999999Z"'), {"published_at": _LAST}),
    "duplicate keys": (
        b'{"id": "0", "text": "Old.", "id": "1", "text": "New."}',
        {"id": "1", "text": "New."},
    ),
    "a bad value that a later one replaces": (b'{"id": "1", "text": 5, "text": "New."}', {"text": "New."}),
    "control characters": (
        message(text=r'"a\u0001\u0008\t\u001f\u007f\u0085b"'),
        {"text": "a\x01\x08\t\x1f\x7f\x85b"},
    ),
    "SQL": (
        message(text='"\'; DROP TABLE review; --"', product='"%s %(x)s :y $1 {0}"'),
        {"text": "'; DROP TABLE review; --", "product": "%s %(x)s :y $1 {0}"},
    ),
    "COPY escapes": (message(text=r'"\\N\\.\t\\\\\n\\x41"'), {"text": "\\N\\.\t\\\\\n\\x41"}),
    "1e999 that nobody reads": (message(other="1e999"), {}),
    "2**70 that nobody reads": (message(other=str(2**70)), {}),
    "NUL that nobody reads": (message(other=r'"\u0000"'), {}),
    "4,300 digits that nobody reads": (message(other="9" * 4_300), {}),
    "digits without end in a text": (message(text=f'"{HUGE * 3}"'), {"text": HUGE * 3}),
    "NaN in a text": (message(text='"NaN Infinity"'), {"text": "NaN Infinity"}),
    "a surrogate pair": (message(text=r'"\ud83d\ude00"'), {"text": "😀"}),
    "one emoji": (message(text='"👍🏽"'), {"text": "👍🏽"}),
    "an id of 256 characters": (message(id=f'"{"ä" * 256}"'), {"id": "ä" * 256}),
    "nulls for what is optional": (
        message(product="null", source="null", stars="null", published_at="null"),
        {"product": None, "source": None, "stars": None, "published_at": None},
    ),
    "empty texts for what is optional": (
        message(product='""', source='""', stars='" "', published_at='""'),
        {"product": None, "source": None, "stars": None, "published_at": None},
    ),
    "a name of one blank": (message(product='" "'), {"product": " "}),
    "names that are numbers": (
        message(id="12345678901234567890", product="-7", source="0"),
        {"id": "12345678901234567890", "product": "-7", "source": "0"},
    ),
    "stars in a text": (message(stars='" 5 "'), {"stars": 5}),
    "stars with a point naught": (message(stars="5.0"), {"stars": 5}),
    "four and a half stars": (message(stars="4.5"), {"stars": 4.5}),
    "four and a half stars in a text": (message(stars='"4,50"'), {"stars": 4.5}),
    "seconds since 1970": (message(published_at="1769860800"), {"published_at": _NOON}),
    "seconds since 1970 in a text": (message(published_at='" 1769860800 "'), {"published_at": _NOON}),
    "seconds with a fraction": (
        message(published_at="1769860800.125"),
        {"published_at": _NOON.replace(microsecond=125_000)},
    ),
    "milliseconds": (
        message(published_at="1769860800125"),
        {"published_at": _NOON.replace(microsecond=125_000)},
    ),
    "microseconds": (
        message(published_at='"1769860800125001"'),
        {"published_at": _NOON.replace(microsecond=125_001)},
    ),
    "nanoseconds": (
        message(published_at="1769860800125001999"),
        {"published_at": _NOON.replace(microsecond=125_001)},
    ),
    "a date of eight digits": (message(published_at='"20260131"'), {"published_at": _DAY}),
    "a date of eight digits as a number": (message(published_at="20260131"), {"published_at": _DAY}),
    "a blank between date and time": (message(published_at='"2026-01-31 12:00:00"'), {"published_at": _NOON}),
    "a compact date and time": (message(published_at='"20260131T120000Z"'), {"published_at": _NOON}),
    "a week's day": (message(published_at='"2026-W05-6"'), {"published_at": _DAY}),
    "3 MB of text": (message(text=f'"{"ä and so on. " * 200_000}"'), {"text": "ä and so on. " * 200_000}),
}
