"""`reviewloop publish`: from a file to the topic, at a rate, up to a limit, bad rows named and left out."""

import itertools
import json
import os
import time
from pathlib import Path

import pytest

from reviews.errors import ReviewLoopError, WrongUse
from tests import commands
from tests.integration.in_process import InProcess, Stream, read_topic, write


def _arrived(made: InProcess, expected: int) -> list[tuple[bytes | None, bytes]]:
    records = read_topic(made.kafka.bootstrap_servers, made.topic, expected)
    return [(record.key, record.value) for record in records]


def _ends(made: InProcess) -> int:
    return len(read_topic(made.kafka.bootstrap_servers, made.topic, 10**6, seconds=5))


def test_every_row_arrives_as_it_is_with_its_id_as_the_key(stream: Stream, run, tmp_path: Path) -> None:
    made = stream()
    lines = [json.dumps({"id": f"r{n}", "text": "Good.", "extra": n}).encode() for n in range(1000)]
    file = write(tmp_path, "r.jsonl", b"\n".join(lines))

    assert "Published 1,000 reviews" in run(made, "publish", file)

    assert _arrived(made, 1000) == [(f"r{n}".encode(), line) for n, line in enumerate(lines)]


def test_bad_rows_end_with_code_1_and_are_named_while_the_others_arrive(
    stream: Stream, run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = stream()
    file = write(tmp_path, "r.csv", b"id,text,stars\na,Good.,5\nb,,5\nc,Fine.,7\nd,Bad.,1\n")

    with pytest.raises(ReviewLoopError, match=r"2 rows of .*r\.csv are not valid reviews") as error:
        run(made, "publish", file)

    assert not isinstance(error.value, WrongUse)  # exit code 1, not 2
    assert [key for key, _ in _arrived(made, 2)] == [b"a", b"d"]
    assert _ends(made) == 2


def test_two_files_of_one_name_and_rows_without_ids_are_all_reviews_of_their_own(
    stream: Stream, run, tmp_path: Path
) -> None:
    made = stream()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        file = write(tmp_path / folder, "r.csv", f"text\nGood.\nGood.\nOf {folder}.\n".encode())
        for _ in range(2):
            run(made, "publish", file)
    for text in (b"Piped.", b"Piped too."):
        run(made, "publish", "-", input_bytes=b"text;stars\n" + text + b";4,5\n")
    made.consume()
    assert made.sql("SELECT count(*), count(DISTINCT text) FROM scored_reviews") == [(8, 5)]
    assert made.sql("SELECT DISTINCT stars FROM scored_reviews WHERE starts_with(text, 'Piped')") == [(4.5,)]


def test_a_named_column_that_is_not_there_publishes_nothing(stream: Stream, run, tmp_path: Path) -> None:
    made = stream()
    file = write(tmp_path, "r.csv", b"id,text\na,Good.\n")
    with pytest.raises(WrongUse, match=r"no column 'key' .*--id-column"):
        run(made, "publish", file, "--id-column", "key")
    assert _ends(made) == 0


def test_the_mistakes_are_listed_by_line_on_standard_error(
    stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stream()
    file = write(tmp_path, "r.csv", b"id,text,stars\na,Good.,5\nb,,5\n")
    done = commands.run("publish", file, env={**os.environ, **made.environment()})
    assert done.returncode == 1
    assert f"{file}, line 3: The field 'text' is missing.\n" in done.stderr
    assert "Error: 1 rows of" in done.stderr
    assert "Traceback" not in done.stderr


def test_unchecked_rows_arrive_too_and_become_dead_letters(stream: Stream, run, tmp_path: Path) -> None:
    made = stream()
    lines = [b"no json", b'{"id": "a", "text": "Good."}', b'{"id": 7, "text": "Good.", "stars": 9}']
    run(made, "publish", write(tmp_path, "r.jsonl", b"\n".join(lines)), "--unchecked")
    # What has an id keeps its order with its review's versions, also where it is none itself.
    assert _arrived(made, 3) == list(zip((None, b"a", b"7"), lines, strict=True))
    totals = made.consume()
    assert (totals.accepted, totals.dead_letters) == (1, 2)


def test_a_limit_takes_only_the_first_rows(stream: Stream, run, tmp_path: Path) -> None:
    made = stream()
    file = write(tmp_path, "r.csv", b"id,text\n" + b"".join(b"%d,Good.\n" % n for n in range(50)))
    assert "Published 7 reviews" in run(made, "publish", file, "--limit", 7)
    assert [key for key, _ in _arrived(made, 7)] == [b"%d" % n for n in range(7)]
    assert _ends(made) == 7


def test_a_rate_is_kept(stream: Stream, run, tmp_path: Path) -> None:
    made = stream()
    file = write(tmp_path, "r.csv", b"id,text\n" + b"".join(b"%d,Good.\n" % n for n in range(60)))
    started = time.monotonic()
    run(made, "publish", file, "--rate", 30)
    assert time.monotonic() - started >= 60 / 30
    times = [record.timestamp for record in read_topic(made.kafka.bootstrap_servers, made.topic, 60)]
    # Spread over the time, rather than sent at once and waited for.
    assert times[-1] - times[0] >= 1000 * 59 / 30 * 0.9
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 1000


def test_standard_input_is_read_and_publishing_again_replaces_the_reviews(stream: Stream, run) -> None:
    made = stream()
    for text in ("Old.", "New."):
        line = json.dumps({"id": "a", "text": text}).encode()
        assert "Published 1 reviews" in run(made, "publish", "-", input_bytes=line)
        time.sleep(0.01)
    made.consume()
    assert made.sql("SELECT text FROM scored_reviews") == [("New.",)]
    assert made.sql("SELECT count(*) FROM review") == [(2,)]


def test_a_record_that_the_topic_finds_too_large_is_explained_within_seconds(
    stream: Stream, run, tmp_path: Path
) -> None:
    made = stream(configs={"max.message.bytes": "1000"})
    noise = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(5_000))
    line = json.dumps({"id": "a", "text": noise}, ensure_ascii=False).encode()
    started = time.monotonic()
    with pytest.raises(ReviewLoopError, match=r"larger than the topic .*max\.message\.bytes"):
        run(made, "publish", write(tmp_path, "r.jsonl", line))
    assert time.monotonic() - started < 20


def test_a_topic_that_does_not_exist_is_named_with_what_to_do(stream: Stream, run, tmp_path: Path) -> None:
    made = stream()
    file = write(tmp_path, "r.csv", b"text\nGood.\n")
    with pytest.raises(ReviewLoopError, match=r"'nowhere' does not exist .*topics create"):
        run(made, "publish", file, "--topic", "nowhere")
