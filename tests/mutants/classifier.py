"""Mutants of the classifier and its engines."""

from tests.mutants.mutant import Change, Mutant

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
)
