"""Mutants of what reads, scores and writes the stream: broker, consumer and the stream's tables."""

from tests.mutants.mutant import Change, Mutant

MUTANTS = (
    Mutant(
        "avro-believes-the-bytes",
        "a record that is cut off, or goes on behind its last field, is no review",
        "tests/unit/broker/formats/test_avro.py::test_a_record_that_is_cut_off_anywhere_is_refused",
        (
            Change(
                "broker/formats/avro.py",
                "        if source.tell() != end:",
                "        if source.tell() > end + 1:",
            ),
        ),
    ),
    Mutant(
        "a-proxys-404-is-an-unknown-schema",
        "I8: only the registry's own word makes a dead letter of a record",
        "tests/unit/broker/formats/test_registry.py::test_no_other_answer_is_taken_for_one_about_the_record",
        (
            Change(
                "broker/formats/registry.py",
                "status == HTTPStatus.NOT_FOUND and (_is_error(answer) or self._is_there())",
                "status == HTTPStatus.NOT_FOUND",
            ),
        ),
    ),
    Mutant(
        "sink-moves-before-it-sends",
        "I9: the position of a sink moves after the topic acknowledged",
        "tests/faults/test_sinks.py::test_forwarders_killed_between_every_two_steps_lose_nothing_and_keep_the_order",
        (
            Change("storage/stream/sinks.py", "                publish(step.rows)\n", ""),
            Change(
                "storage/stream/sinks.py",
                "        return len(step.rows)\n",
                "        if step.rows:\n            publish(step.rows)\n        return len(step.rows)\n",
            ),
        ),
    ),
    Mutant(
        "sink-settles-marks-it-did-not-read",
        "I9: a change of a row is published, also one that comes while the row is sent",
        "tests/integration/test_sinks.py::test_a_row_that_is_labelled_while_it_is_sent_arrives_again",
        (
            Change(
                "storage/stream/sinks.py",
                " AND c.record = sent.record AND c.id = sent.id\n",
                " AND c.record = sent.record\n",
            ),
        ),
    ),
    Mutant(
        "no-seek-on-assignment",
        "I5: after every assignment the fetch position is the stored offset",
        "tests/faults/test_kafka_offset.py::test_an_offset_that_kafka_has_committed_is_not_where_reading_begins",
        (
            Change("broker/subscription.py", "            self._consumer.seek(partition, offset)\n", ""),
            Change(
                "broker/subscription.py",
                "            self._consumer.seek(partition, 0)\n",
                "            pass\n",
            ),
        ),
    ),
    Mutant(
        "kafka-commit-before-the-write",
        "I1: what is told of an offset follows its rows",
        "tests/faults/test_kafka_offset.py::test_kafka_hears_of_an_offset_only_when_its_rows_are_there",
        (
            Change(
                "consumer/source.py",
                "                self._states[partition].submitted = part.next\n",
                "                self._states[partition].submitted = part.next\n"
                "                self._subscription.commit({partition: part.next})\n",
            ),
        ),
    ),
    Mutant(
        "no-compare-and-set",
        "I2: the offset moves only from the value that the batch began at",
        "tests/faults/test_frozen.py::test_a_worker_frozen_past_its_session_stores_nothing_twice_when_it_wakes",
        (
            Change(
                "storage/stream/partitions.py",
                "ON s.id = given.id AND s.next_offset = given.expected",
                "ON s.id = given.id",
            ),
        ),
    ),
    Mutant(
        "old-sessions-kept-after-a-failover",
        "I8: trouble with infrastructure passes by itself",
        "tests/faults/test_failover.py"
        "::test_a_worker_stores_again_when_a_database_that_was_read_only_takes_writes",
        (
            Change(
                "storage/database.py",
                'if entry.info["interruptions"] != self._interruptions:',
                "if False:",
            ),
        ),
    ),
    Mutant(
        "time-out-tried-for-ever",
        "I4: each delivered record ends, be it as a dead letter",
        "tests/faults/test_connections.py"
        "::test_a_record_that_takes_too_long_by_itself_is_found_and_becomes_a_dead_letter",
        (Change("reviews/retry.py", "exhausted += isinstance(err, Exhausted)", "exhausted += 0"),),
    ),
    Mutant(
        "busy-database-blamed-on-a-record",
        "I8: only bad data becomes a dead letter",
        "tests/unit/consumer/test_retrying_writer.py::test_a_database_that_recovers_at_any_moment_blames_no_record",
        (
            Change(
                "consumer/retrying_writer.py",
                "while not ((takes_plain := self._takes_plain(part, err)) and has_failed_after_plain):",
                "while not (takes_plain := self._takes_plain(part, err)):",
            ),
        ),
    ),
    Mutant(
        "dead-letter-outside-the-transaction",
        "I1, I4: a dead letter appears together with the offset behind it",
        "tests/faults/test_kills.py::test_workers_killed_inside_their_transaction_leave_all_of_it_or_none",
        (
            Change(
                "storage/stream/stream_writer.py",
                "                copy_dead_letters(connection, stored, forward=self._forward)\n",
                "                with self._database.begin() as other:\n"
                "                    copy_dead_letters(other, stored, forward=self._forward)\n",
            ),
        ),
    ),
    Mutant(
        "adapter-read-after-scoring",
        "I6: the adapter on a row is the one captured before scoring it",
        "tests/faults/test_membership.py"
        "::test_an_adapter_activated_in_mid_batch_scores_the_next_batch_not_this_one",
        (
            Change(
                "consumer/pipeline.py",
                "            scored = score_batch(items[0], self._settings.embeddings)\n",
                "            scored = score_batch(items[0], self._settings.embeddings)\n"
                "            now = self._classifiers()[0].adapter_version\n"
                "            for part in scored.values():\n"
                "                part.accepted[:] = [\n"
                "                    row._replace(predictions=tuple(\n"
                "                        said._replace(adapter_version=now) for said in row.predictions\n"
                "                    ))\n"
                "                    for row in part.accepted\n"
                "                ]\n",
            ),
        ),
    ),
    Mutant(
        "dead-worker-unnoticed",
        "a worker that dies is named and started again while the others live",
        "tests/unit/operations/test_supervisor.py"
        "::test_a_child_that_is_killed_while_another_lives_is_named_and_started_again",
        (
            Change(
                "reviewloop/operations/supervisor.py",
                "            self._note_death(life, describe_exit(code), now)\n",
                "            life.is_done = True\n",
            ),
        ),
    ),
    Mutant(
        "batch-decompressed-whole",
        "memory: what a record batch expands to is never held whole",
        "tests/unit/broker/test_fetching.py::test_a_few_bytes_that_stand_for_many_megabytes_take_few",
        (
            Change(
                "broker/fetching.py",
                "self._pieces = _decompress(self.compression_type, memoryview(self._buffer)[self._pos :])",
                "self._pieces = iter([b''.join(_decompress(self.compression_type, "
                "memoryview(self._buffer)[self._pos :]))])",
            ),
        ),
    ),
    Mutant(
        "poll-without-a-bound-of-bytes",
        "memory: a poll ends when its records have so many bytes together",
        "tests/unit/broker/test_fetching.py::test_a_poll_ends_at_its_allowance_and_the_next_one_goes_on_behind_it",
        (
            Change(
                "broker/fetching.py",
                "                if self.bytes_read >= end:\n",
                "                if False:\n",
            ),
        ),
    ),
    Mutant(
        "batch-without-a-bound-of-bytes",
        "memory: a batch is closed when its records take so many bytes",
        "tests/unit/consumer/test_batching_properties.py"
        "::test_batches_hold_each_partitions_records_in_order_without_a_hole_or_a_double",
        (
            Change(
                "consumer/batch.py",
                "            or batch.held_bytes >= self._settings.max_batch_bytes\n",
                "",
            ),
        ),
    ),
    Mutant(
        "a-replay-without-its-headers",
        "sources: a replay is the record that it was",
        "tests/integration/test_sources.py"
        "::test_dead_letters_of_both_stages_are_replayed_by_the_rules_of_their_source",
        (Change("reviews/dead_letter.py", "    return [*letter.headers, *own]\n", "    return own\n"),),
    ),
    Mutant(
        "a-review-named-after-its-replay",
        "sources: a review without an id keeps the name of its first attempt",
        "tests/integration/test_sources.py"
        "::test_dead_letters_of_both_stages_are_replayed_by_the_rules_of_their_source",
        (
            Change(
                "consumer/parsing.py",
                "RecordPlace(*replay[:3]) if replay else",
                "RecordPlace(*replay[:3]) if replay is mapping else",
            ),
        ),
    ),
    Mutant(
        "answers-between-polls-lost",
        "a worker joins its consumer group however rarely it polls (I8)",
        "tests/integration/test_membership.py::test_an_answer_that_comes_between_two_polls_is_not_lost",
        (
            Change(
                "broker/subscription.py",
                "if not self._membership.join(timeout_seconds):",
                "if not timeout_seconds:",
            ),
        ),
    ),
)
