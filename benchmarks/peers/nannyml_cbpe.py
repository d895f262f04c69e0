"""NannyML's CBPE on probabilities of files; prints the accuracy and macro-F1 that it expects of each window.

``nannyml_cbpe.py FILE…``: ``reference`` (rows, classes) with its ``truth``, and ``window`` (rows, classes).
"""

import json
import logging
import sys

import nannyml
import numpy as np
import pandas as pd


def main() -> None:
    logging.disable(logging.CRITICAL)
    for path in sys.argv[1:]:
        print(json.dumps(expected(np.load(path))))


def expected(rows):
    """Accuracy and macro-F1."""
    columns = {f"class{number}": f"p{number}" for number in range(rows["window"].shape[1])}
    estimator = nannyml.CBPE(
        problem_type="classification_multiclass",
        y_pred_proba=columns,
        y_pred="predicted",
        y_true="truth",
        metrics=["accuracy", "f1"],
        chunk_number=1,
    )
    reference = frame(rows["reference"], columns)
    reference["truth"] = [f"class{label}" for label in rows["truth"]]
    estimator.fit(reference)
    found = estimator.estimate(frame(rows["window"], columns)).filter(period="analysis").to_df()
    return {metric: float(found[(metric, "value")].iloc[-1]) for metric in ("accuracy", "f1")}


def frame(probabilities, columns):
    """The columns that CBPE wants."""
    values = pd.DataFrame(probabilities, columns=list(columns.values()))
    values["predicted"] = [f"class{label}" for label in probabilities.argmax(axis=1)]
    return values


if __name__ == "__main__":
    main()
