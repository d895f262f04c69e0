"""Mutants of what is done with stored data: queries, exports, erasure, backups."""

from tests.mutants.mutant import Change, Mutant

MUTANTS = (
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
)
