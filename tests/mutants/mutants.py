"""The mutants: what each changes in the code, which invariant that breaks, and the test that must notice."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Change:
    """One piece of text in one file and what takes its place."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """One way to break one invariant.

    Attributes:
        name: For the command line.
        invariant: What it breaks.
        test: The test meant for it, as pytest names it.
        changes: To the code.
    """

    name: str
    invariant: str
    test: str
    changes: tuple[Change, ...]

    def check(self, tree: Path) -> None:
        """Make sure that it applies.

        Raises:
            SystemExit: If the text of a change is not in the code exactly once.
        """
        for change in self.changes:
            found = (tree / change.path).read_text().count(change.old)
            if found != 1:
                raise SystemExit(
                    f"The mutant '{self.name}' does not apply: {change.path} holds its text {found} times. "
                    f"Move the mutant with the code (tests/mutants/mutants.py):\n{change.old}"
                )

    @contextmanager
    def applied(self, tree: Path) -> Iterator[None]:
        """Change the code for as long as the block runs."""
        before = {change.path: (tree / change.path).read_text() for change in self.changes}
        try:
            for change in self.changes:
                path = tree / change.path
                path.write_text(path.read_text().replace(change.old, change.new))
            yield
        finally:
            for name, text in before.items():
                (tree / name).write_text(text)


MUTANTS = (
    Mutant(
        "packed-engine-reads-the-first-token",
        "an adapter whose head reads the mean over the tokens is served so by every engine",
        "tests/unit/classifier/test_pooling.py::test_the_packed_engine_reads_the_mean_over_the_tokens",
        (
            Change(
                "classifier/engine/packed.py",
                ".view(texts, length, -1).mean(dim=1, dtype=torch.float32)",
                ".view(texts, length, -1)[:, 0].float()",
            ),
        ),
    ),
    Mutant(
        "head-keeps-the-bias-of-its-scale",
        "a head answers on features as they are what it answers on standardised ones",
        "tests/unit/trainer/test_heads.py"
        "::test_a_head_on_columns_of_any_scale_predicts_as_the_one_on_standardised_columns",
        (
            Change(
                "trainer/fitting/head.py",
                "found.append((first + moved, base + bias - moved @ middle))",
                "found.append((first + moved, base + bias))",
            ),
        ),
    ),
    Mutant(
        "models-vote-among-people",
        "a model's answer is neither audit truth nor any other",
        "tests/integration/trainer/test_answers_of_models.py::test_no_answer_of_a_model_is_audit_truth",
        (
            Change(
                "storage/migrations/versions/0032_answers_of_models.py",
                '("label_consensus", f"NOT {by_model}", people)',
                '("label_consensus", "true", people)',
            ),
        ),
    ),
    Mutant(
        "models-judge-adapters",
        "what only models say is trained on at most",
        "tests/integration/trainer/test_answers_of_models.py"
        "::test_what_only_models_say_is_trained_on_with_its_weight_and_neither_judges_nor_chooses",
        (
            Change(
                "trainer/nightly/snapshot.py",
                'if not one.by_models or slice_of(one.review_id, shares) == "train"]',
                "if one.record >= 0]",
            ),
        ),
    ),
    Mutant(
        "zero-shot-replaces-what-was-trained",
        "a zero-shot adapter never takes over from one that was fitted to labelled reviews",
        "tests/integration/storage/test_zero_shot_adapters.py"
        "::test_it_never_takes_over_from_an_adapter_that_was_fitted_to_labels",
        (
            Change(
                "reviewloop/wiring/zero_shot.py",
                "if expected is not None and not store.find(expected.version).is_zero_shot:",
                "if expected is None and store.active(adapter.task) is not None:",
            ),
        ),
    ),
    Mutant(
        "erasure-passes-over-headers",
        "nothing of an erased review is found in any table",
        "tests/integration/storage/test_erasure.py::test_nothing_of_an_erased_review_is_found_in_any_table",
        (Change("storage/lifecycle/traces.py", "coalesce(d.headers, '[]')", "jsonb '[]'"),),
    ),
    Mutant(
        "erasure-skips-a-table",
        "nothing of an erased review is found in any table",
        "tests/integration/storage/test_erasure.py::test_nothing_of_an_erased_review_is_found_in_any_table",
        (
            Change(
                "storage/lifecycle/erasure.py",
                '(*TABLES_OF_A_REVIEW, "label_action", "training_item")',
                '(*TABLES_OF_A_REVIEW[:-1], "label_action", "training_item")',
            ),
        ),
    ),
    Mutant(
        "receipts-close-before-exports",
        "a receipt is closed when no export holds an erased review",
        "tests/integration/export/test_erased.py"
        "::test_erased_reviews_leave_every_file_and_the_receipt_names_the_days_and_closes",
        (Change("storage/lifecycle/receipts.py", "if not exports and not any(", "if not any("),),
    ),
    Mutant(
        "labels-exported-by-id",
        "an export loses no label that commits behind one with a greater id",
        "tests/integration/export/test_parquet.py"
        "::test_a_label_that_commits_behind_one_with_a_greater_id_is_exported_once",
        (
            Change(
                "storage/exporting.py",
                "({transaction}, {label}) AND l.transaction_id < {settled}",
                "({transaction}, {label}) AND {settled} = {settled}",
            ),
        ),
    ),
    Mutant(
        "commit-without-the-names-of-its-files",
        "an export that is killed at any step leaves each row once",
        "tests/faults/test_export_kills.py::test_a_folder_has_each_row_once_wherever_the_export_is_killed",
        (
            Change(
                "reviewloop/export/folder.py",
                "        state = FolderState(position=position, files=tuple(files))\n",
                "        state = FolderState(position=position, files=())\n",
            ),
        ),
    ),
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
        "int8-without-trust",
        "int8 serves only an adapter whose answers agree with fp32",
        "tests/unit/classifier/test_number_formats.py::test_outliers_are_refused_in_int8_and_served_in_the_next_best_format",
        (
            Change(
                "classifier/engine/choice.py",
                "            if not reasons:",
                "            if reasons is not None:",
            ),
        ),
    ),
    Mutant(
        "near-ties-once",
        "near ties of int8 are answered again in a closer format",
        "tests/unit/classifier/test_number_formats.py::test_labels_that_int8_alone_would_change_stay_as_in_fp32",
        (
            Change(
                "classifier/engine/near_ties.py",
                "if len(near) == 0:",
                "if len(near) >= 0:",
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
        "withdrawn-reviews-stay-in-the-queue",
        "a withdrawn review is shown to nobody who asks for current ones",
        "tests/integration/storage/test_withdrawals.py"
        "::test_a_withdrawn_review_is_shown_to_nobody_who_asks_for_current_ones",
        (
            Change(
                "storage/labels/annotation_queue.py",
                "AND EXISTS (SELECT FROM published_review r WHERE r.record = q.record)",
                "AND EXISTS (SELECT FROM review r WHERE r.record = q.record)",
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
        "head-measured-on-what-it-knows",
        "what a head says of rows that it was trained on is told by fits without them",
        "tests/unit/trainer/test_heads.py"
        "::test_a_head_that_learns_the_validation_rows_is_measured_on_them_by_fits_without_them",
        (
            Change(
                "trainer/fitting/head_fit.py",
                "if head.left_out is None else head.left_out\n",
                "\n",
            ),
        ),
    ),
    Mutant(
        "copies-letter-for-letter-only",
        "what an adapter is judged by is nearly said by nothing that it was trained on",
        "tests/unit/trainer/nightly/test_snapshot.py"
        "::test_nothing_that_is_held_out_is_trained_on_nor_anything_that_says_nearly_the_same",
        (
            Change(
                "trainer/nightly/snapshot.py",
                "    groups = duplicate_groups([review.text for review, _ in known])\n",
                "    groups = [review.text.casefold() for review, _ in known]\n",
            ),
        ),
    ),
    Mutant(
        "promotion-without-its-lease",
        "I7: the trainer's activation holds its lease row",
        "tests/faults/test_nights.py::test_a_trainer_frozen_past_its_lease_wakes_up_and_cannot_promote",
        (
            Change(
                "storage/learning/runs.py",
                "            require_held(connection, lease)\n",
                "            del lease\n",
            ),
        ),
    ),
    Mutant(
        "decision-on-an-old-page",
        "I7: a person's decision replaces the activation that the person saw, and no other",
        "tests/integration/console/test_adapters.py::test_who_decided_on_an_old_page_hears_who_was_faster",
        (
            Change(
                "storage/adapters/promotion.py",
                "    if present != seen:\n",
                "    if seen is None:\n",
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
        "tensors-left-out",
        "every tensor of an adapter finds its place in the base, or the adapter is refused",
        "tests/unit/classifier/test_meeting.py::test_an_adapter_that_does_not_meet_its_base_is_refused_with_the_names",
        (
            Change(
                "classifier/model.py",
                "    if result.unexpected_keys or added:\n",
                "    if result.unexpected_keys and added:\n",
            ),
        ),
    ),
    Mutant(
        "gradient-of-one-product-only",
        "training: layers that read the same input all send their gradient to it",
        "tests/unit/trainer/test_cpu_layers.py::test_fast_layers_give_the_models_own_logits_and_gradients",
        (
            Change(
                "trainer/fitting/cpu_layers.py",
                "return gradient @ weight if others is None else others.addmm_(gradient, weight)",
                "return gradient @ weight",
            ),
        ),
    ),
    Mutant(
        "head-begins-at-random",
        "training: a fresh fit that reads the mean begins with the head of the base, whatever its seed",
        "tests/unit/trainer/test_steady_fits.py"
        "::test_a_fresh_fit_that_reads_the_mean_begins_with_the_head_of_the_base_whatever_its_seed",
        (
            Change(
                "trainer/fitting/head_start.py",
                "        layer.weight.copy_(torch.from_numpy(head.weights))\n",
                "",
            ),
        ),
    ),
    Mutant(
        "epoch-chosen-by-chance",
        "training: an epoch that is best by less than a standard error is not preferred to a later one",
        "tests/unit/trainer/test_steady_fits.py"
        "::test_the_last_epoch_is_kept_unless_it_is_clearly_worse_than_the_best",
        (
            Change(
                "trainer/fitting/loop.py",
                "if score < at.best_score - standard_error(at.best_score, len(validation.labels)):",
                "if score < at.best_score:",
            ),
        ),
    ),
    Mutant(
        "states-of-another-batch",
        "tasks on one base share the states of the same texts, and of no others",
        "tests/unit/classifier/test_lower_states.py"
        "::test_three_tasks_compute_the_common_layer_once_and_answer_exactly_as_each_alone",
        (
            Change(
                "classifier/engine/packed.py",
                "key = (layers, encoder.dtype, encoder.by_products, *content)",
                "key = (layers, encoder.dtype, encoder.by_products, len(content[0]))",
            ),
        ),
    ),
    Mutant(
        "pages-without-escaping",
        "safety: texts from outside are escaped and sanitised in pages",
        "tests/unit/pages/test_pages.py::test_what_is_put_into_a_template_is_sanitised_bounded_and_escaped",
        (Change("pages/rendering.py", "        autoescape=True,\n", ""),),
    ),
    Mutant(
        "charts-without-sanitising",
        "safety: a name with a control character cannot break a chart",
        "tests/unit/pages/test_pages.py"
        "::test_a_chart_is_part_of_a_page_or_a_file_and_says_in_words_what_it_shows",
        (Change("pages/picture.py", '" ".join(sanitise(text).split())', '" ".join(text.split())'),),
    ),
    Mutant(
        "items-leased-twice",
        "labelling: two annotators never have one item at once",
        "tests/integration/storage/test_label_actions.py"
        "::test_several_items_are_leased_at_once_and_nobody_else_gets_one_of_them",
        (
            Change(
                "storage/labels/annotation_queue.py",
                "     WHERE q.task = :task AND q.state = 'open' AND {IS_FREE}\n       AND (CAST(:among",
                "     WHERE q.task = :task AND q.state = 'open'\n       AND (CAST(:among",
            ),
        ),
    ),
    Mutant(
        "actions-done-again",
        "labelling: an answer that is sent again is one answer",
        "tests/integration/storage/test_label_actions.py::test_an_answer_that_is_sent_again_is_one_answer",
        (
            Change(
                "storage/labels/actions.py",
                "    if connection.execute(_NOTE, row).one_or_none() is None:\n",
                "    if connection.execute(_NOTE, row).one_or_none() is None and False:\n",
            ),
        ),
    ),
    Mutant(
        "guess-before-the-choice",
        "labelling: what the model says is nowhere before the own answer",
        "tests/integration/console/test_label_api.py"
        "::test_what_the_model_and_others_say_is_nowhere_before_the_own_answer_and_there_after_it",
        (
            Change(
                "console/api/labelling.py",
                '        why=REASONS.get(item.reason, ""),\n',
                '        why=REASONS.get(item.reason, "") + str(item.guess),\n',
            ),
        ),
    ),
    Mutant(
        "console-without-roles",
        "safety: every route of the console lets in the least role that it declares, and no lower one",
        "tests/integration/console/test_every_route.py::test_a_role_reaches_what_it_may_and_nothing_else",
        (Change("console/access.py", "if not actor.role.covers(self.role):", "if self.role is Role.OWNER:"),),
    ),
    Mutant(
        "console-without-csrf",
        "safety: what a cookie may change, the page of another site cannot",
        "tests/integration/console/test_every_route.py::test_nobody_reaches_anything_without_a_log_in",
        (
            Change(
                "console/access.py",
                "if actor.csrf and request.method not in _CHANGES_NOTHING:",
                "if request.method is None:",
            ),
        ),
    ),
    Mutant(
        "console-believes-every-proxy",
        "safety: only a trusted proxy names the user",
        "tests/integration/console/test_protection.py"
        "::test_the_user_that_a_trusted_proxy_names_is_logged_in_and_nobody_else_is_believed",
        (
            Change(
                "console/protection.py",
                'if not self._settings.trusts((scope.get("client") or ("",))[0]):',
                "if not named:",
            ),
        ),
    ),
    Mutant(
        "corrections-without-a-check",
        "dead letters: what replaces a value is published only if the parser of its topic takes it",
        "tests/integration/browser/test_dead_letter_pages.py"
        "::test_a_value_that_the_parser_refuses_is_not_published_and_stays_in_the_form",
        (
            Change(
                "console/routes/dead_letters.py",
                "            parser_of(parts, next(store.read(chosen)))(corrected)\n",
                "            next(store.read(chosen))\n",
            ),
        ),
    ),
    Mutant(
        "pages-without-a-total-order",
        "reviews: pages show every match once, though thousands are scored in one moment",
        "tests/integration/storage/test_review_pages.py::test_pages_show_every_match_once_in_order",
        (
            Change(
                "storage/queries/review_pages.py",
                "    return [tuple_(*_PLACE) < place]\n",
                "    return [_columns.scored_at < after.scored_at]\n",
            ),
        ),
    ),
    Mutant(
        "formulas-in-downloads",
        "reviews: no cell of a download is run by a spreadsheet",
        "tests/integration/console/test_stream_pages.py"
        "::test_a_download_has_what_is_seen_and_no_cell_that_a_spreadsheet_runs",
        (
            Change(
                "console/routes/reviews.py",
                "    writer = CsvWriter(content, raw=False)\n",
                "    writer = CsvWriter(content, raw=True)\n",
            ),
        ),
    ),
    Mutant(
        "a-window-counted-to-its-end",
        "growth: no statement reads all of a big table",
        "tests/integration/storage/test_every_statement.py"
        "::test_no_statement_of_the_product_reads_a_big_table_from_end_to_end",
        (
            Change(
                "storage/windows.py",
                "FROM prediction p WHERE {_IN_SPAN} LIMIT :most) c",
                "FROM prediction p WHERE {_IN_SPAN} AND :most > 0) c",
            ),
        ),
    ),
    Mutant(
        "a-pool-of-everything",
        "growth: a night looks at a bounded number of records",
        "tests/integration/trainer/test_selection.py"
        "::test_of_very_many_records_the_pool_is_the_latest_and_a_draw_from_all_before",
        (
            Change(
                "storage/record_ranges.py",
                "    if total(ranges) <= most:\n        return list(ranges)\n    share",
                "    if most > 0:\n        return list(ranges)\n    share",
            ),
        ),
    ),
    Mutant(
        "deletions-take-back-any-answer",
        "Label Studio: a deleted annotation takes back its own answer, and none that came since",
        "tests/integration/console/test_label_studio.py"
        "::test_a_deletion_takes_back_no_answer_that_was_given_elsewhere_since",
        (
            Change(
                "storage/labels/annotations.py",
                "        moment = withdraw_answer(connection, item, before.annotator, stated_at)\n",
                "        moment = withdraw_answer(connection, item, before.annotator)\n",
            ),
        ),
    ),
    Mutant(
        "old-annotations-count",
        "Label Studio: a message that is not newer than the last one changes nothing",
        "tests/integration/console/test_label_studio.py::test_messages_that_come_twice_or_late_change_nothing",
        (
            Change(
                "storage/labels/annotations.py",
                "            if before.is_deleted or is_old:\n",
                "            if before.is_deleted:\n",
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
        "a-restore-that-lets-kafka-bring-erased-reviews",
        "I10",
        "tests/integration/test_backup.py"
        "::test_workers_read_on_after_a_restore_and_nothing_is_lost_stored_twice_or_back_from_erasure",
        (
            Change(
                "storage/lifecycle/past_erasures.py",
                "                guard_positions(connection, number, _ends_here(one, partitions))\n",
                "                _ends_here(one, partitions)\n",
            ),
        ),
    ),
    Mutant(
        "a-rollback-that-forgets-the-weights",
        "audit rows speak for the stream, with whatever chances they were drawn",
        "tests/unit/trainer/test_watch.py"
        "::test_losses_that_the_audit_preferred_roll_back_nothing_that_is_better_on_the_stream",
        (
            Change(
                "trainer/gate/rollback.py",
                "np.array([row.draw_weight for row in known], np.float64)",
                "np.ones(len(known))",
            ),
        ),
    ),
    Mutant(
        "an-audit-that-forgets-the-weights",
        "accuracy and macro-F1 by audit labels are those of the stream, with whatever chances it was drawn",
        "tests/unit/drift/test_audited.py::test_answers_that_another_adapter_had_drawn_are_weighted_back",
        (
            Change(
                "drift/audited.py",
                "    share_of = answers.weights / answers.weights.sum()",
                "    share_of = np.full(len(answers), 1 / len(answers))",
            ),
        ),
    ),
    Mutant(
        "an-audit-that-draws-from-what-is-left",
        "audit items are drawn from reviews that were candidates of no earlier draw",
        "tests/integration/trainer/test_selection.py::test_a_review_is_a_candidate_of_one_draw_of_the_audit",
        (
            Change(
                "storage/learning/pool.py",
                "    received_since = max(filter(None, (since, last)), default=None)",
                "    received_since = since",
            ),
        ),
    ),
    Mutant(
        "a-dump-of-another-moment",
        "backup: rows, offsets and counts are of one snapshot",
        "tests/integration/test_backup.py::test_a_backup_is_of_one_moment_while_workers_go_on",
        (
            Change(
                "reviewloop/operations/dump_programs.py",
                '["--format=custom", f"--snapshot={snapshot}", "--no-password"',
                '["--format=custom", "--no-password"',
            ),
        ),
    ),
    Mutant(
        "old-answers-that-keep-their-old-label",
        "labels: answers under a renamed label count under its new name",
        "tests/integration/storage/test_label_sets.py"
        "::test_answers_under_a_renamed_label_count_under_its_new_name_and_stay_in_the_history",
        (
            Change(
                "storage/labels/label_sets.py",
                "AS changed (old, new) ON changed.old = latest.label",
                "AS changed (old, new) ON changed.new = latest.label",
            ),
        ),
    ),
    Mutant(
        "a-candidate-with-new-labels-that-nobody-compares",
        "labels: an adapter of the old labels serves until one that is not worse passes",
        "tests/unit/trainer/gate/test_judge.py"
        "::test_an_adapter_with_other_labels_is_replaced_by_one_that_is_not_worse_on_what_both_know",
        (
            Change(
                "trainer/gate/judge.py",
                "    compared = evidence if common is None else common\n",
                "    compared = evidence\n",
            ),
        ),
    ),
)
