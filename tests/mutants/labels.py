"""Mutants of labels and the annotation queue."""

from tests.mutants.mutant import Change, Mutant

MUTANTS = (
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
        "an-audit-that-is-asked-again-in-part",
        "the audit stays a random draw where a label's answers are taken back",
        "tests/integration/storage/test_label_sets.py"
        "::test_all_that_the_audit_drew_is_asked_about_again_so_that_it_stays_a_random_draw",
        (
            Change(
                "storage/labels/label_sets.py",
                "LIMIT (SELECT :most + count(*) FROM found WHERE is_audit)",
                "LIMIT :most",
            ),
        ),
    ),
)
