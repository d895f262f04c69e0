"""Mutants of the learning loop: training runs, fits, the gate, adapters and drift."""

from tests.mutants.mutant import Change, Mutant

MUTANTS = (
    Mutant(
        "the-best-by-chance",
        "a recipe is chosen before a more promising one only where it is better by more than chance explains",
        "tests/unit/trainer/nightly/test_cross_checks.py"
        "::test_the_most_promising_recipe_is_chosen_unless_another_is_better_by_more_than_a_standard_error",
        (
            Change(
                "trainer/nightly/cross_checks.py",
                "if scores[best] - scores[place] <= _chance(one, said[best])",
                "if scores[best] - scores[place] <= 0",
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
        "a-changed-label-forgets-what-was-learned",
        "after a change of labels, fits continue from what the active adapter knew of the old ones",
        "tests/unit/trainer/test_relabelled.py"
        "::test_a_renamed_label_is_answered_as_before_and_the_copy_names_the_adapter_as_parent",
        (
            Change(
                "trainer/fitting/relabelled.py",
                "            tensors[name] = _rows(tensor, sources)\n",
                "            tensors[name] = _rows(tensor, [[]] * len(sources))\n",
            ),
        ),
    ),
    Mutant(
        "several-labels-are-one",
        "a label that is several others in one is no label",
        "tests/unit/test_multi_label.py::test_several_labels_are_refused_with_what_to_do_instead",
        (
            Change(
                "reviews/label.py",
                "    return len(parts) > 1 and all(part in names for part in parts)\n",
                "    return len(parts) > len(name)\n",
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
        "a-gate-that-weighs-nothing-while-audit-rows-are-few",
        "the gate compares adapters on the stream, not on what the queue drew",
        "tests/unit/trainer/gate/test_numbers.py"
        "::test_with_few_audit_rows_a_gain_where_the_queue_drew_most_is_no_gain_on_the_stream",
        (Change("trainer/gate/evidence.py", "    if is_audit.any():\n", "    if is_audit.sum() >= 40:\n"),),
    ),
    Mutant(
        "an-audit-that-does-not-ask-where-accuracy-is-decided",
        "accuracy is measured no worse than by as many answers of an even draw",
        "tests/unit/trainer/test_audit_draw.py"
        "::test_accuracy_is_measured_no_worse_than_by_as_many_answers_of_an_even_draw",
        (
            Change(
                "trainer/selection/audit_draw.py",
                "np.where(best > 0, doubt, 0.0)",
                "best**_SHARPENED",
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
        "heads-calibrated-on-what-they-knew",
        "a head is calibrated on rows that the one before was not trained on",
        "tests/unit/trainer/test_heads.py"
        "::test_a_head_is_calibrated_on_rows_that_the_one_before_did_not_know_where_there_are_enough",
        (
            Change(
                "trainer/fitting/head.py",
                "return everything if counts[np.unique(labels)].min() < of_each else is_new",
                "return everything",
            ),
        ),
    ),
)
