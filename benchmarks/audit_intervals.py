"""Audits of real adapters on real streams: how wide and how true the intervals are, and what a draw finds.

Reviews of a stream are drawn with replacement as a window, some of them are audited, and the intervals by the
audit answers are compared with what all rows of the stream say. What is chosen (how places are dealt to the
labels, share of the even draw, answers that the probabilities give) was chosen on ``movies_stream`` and on
the rows of ``clothing_stream`` with even hash; the rows with odd hash are reported. Heads are fitted on rows
of the half that is not audited.
"""

import os

import numpy as np

from benchmarks.figures import report, report_machine
from benchmarks.scored_streams import scored_streams
from drift.audited import AuditAnswers, audited_performance, stored_predictions
from drift.performance import mean_over_classes
from trainer.selection.audit_draw import draw_chances, systematic_draw
from trainer.settings import SelectionSettings
from trainer.simulation.stream import half_of

AUDITS = int(os.environ.get("REVIEWLOOP_BENCH_AUDITS", "2000"))
ANSWERS = (50, 100, 200, 400)
WINDOW = 4_000
RESAMPLES = 1_000
STRENGTH = 0.003
DRAWS = os.environ.get("REVIEWLOOP_BENCH_DRAWS", "even,unequal").split(",")
EVEN_SHARES = [{"even": 1.0, "unequal": SelectionSettings().audit_even_share}[draw] for draw in DRAWS]
CHOSEN = os.environ.get(
    "REVIEWLOOP_BENCH_ADAPTERS", "bundled adapter,head of 300 balanced,head of 1000 plain"
).split(",")
PARTS = 4  # a figure's range is that of so many parts of the audits


def main(data):
    report_machine()
    for adapter, truth, said in adapters(data):
        if adapter in CHOSEN:
            for answers in ANSWERS:
                audit(f"audit.{adapter}.{answers}", truth, said, answers)


def adapters(data):
    """The bundled adapter, and heads on its embeddings: name, truth, probabilities."""
    from sklearn.linear_model import LogisticRegression

    stream, _ = scored_streams(data)
    is_audited = np.array([half_of(text) == "odd" for text in stream.texts])
    truth = stream.truth[is_audited]
    yield "bundled adapter", truth, stream.probabilities[is_audited].astype(np.float64)
    columns = stream.embeddings.astype(np.float64)
    columns = (columns - columns.mean(axis=0)) / np.maximum(columns.std(axis=0), 1e-9)
    order = np.random.default_rng(0).permutation(len(columns))
    others = order[~is_audited[order]]
    for rows_fitted, weights in ((300, "balanced"), (1000, None)):
        chosen = others[:rows_fitted]
        head = LogisticRegression(C=STRENGTH, class_weight=weights, max_iter=500, tol=1e-3)
        head.fit(columns[chosen], stream.truth[chosen])
        name = f"head of {rows_fitted} {weights or 'plain'}"
        yield name, truth, head.predict_proba(columns[is_audited])


def audit(name, truth, said, answers, even_shares=EVEN_SHARES):
    """Many audits of one adapter: coverage, widths beside those before, bias, and answers of rare labels."""
    random, classes = np.random.default_rng(1), said.shape[1]
    predicted, minority = said.argmax(axis=1), truth != np.bincount(truth).argmax()
    known = table(truth, predicted, classes)
    wanted = {"accuracy": np.trace(known) / len(truth), "macro_f1": float(macro_f1(known))}
    before, found, rare = [], {share: [] for share in even_shares}, {share: [] for share in even_shares}
    for number in range(AUDITS):
        window = random.integers(0, len(truth), WINDOW)
        stored = stored_predictions(said[window], predicted[window])
        for share in even_shares:
            drawn, weights = draw(said[window], answers, share, random)
            asked = window[drawn]
            given = AuditAnswers(truth[asked], predicted[asked], said[asked], weights)
            found[share].append(audited_performance(given, stored, seed=number))
            rare[share].append(minority[asked].mean() / minority.mean())
        even = random.choice(window, answers, replace=False)
        before.append(today(table(truth[even], predicted[even], classes), number))
    for share in even_shares:
        title = f"{name}.{'even' if share == 1 else 'unequal'}"
        in_parts(f"{title}.rare answers beside an even draw", rare[share], "ratio")
        for key, value in wanted.items():
            ours = [getattr(one, key) for one in found[share]]
            figures = np.array([(one.value, one.low, one.high) for one in ours])
            summed_up(f"{title}.{key}", figures, np.array([one[key] for one in before]), value)


def draw(probabilities, answers, even_share, random):
    """Places in the window, and their weights."""
    rows = len(probabilities)
    chances, weights = draw_chances(probabilities, answers, even_share)
    order = np.lexsort((random.random(rows), probabilities.argmax(axis=1)))
    drawn = order[systematic_draw(chances[order], answers, random.random())]
    return drawn, weights[drawn]


def summed_up(name, found, before, value):
    in_parts(f"{name}.coverage", 100.0 * ((found[:, 1] <= value) & (value <= found[:, 2])), "%")
    in_parts(f"{name}.coverage before", 100.0 * ((before[:, 0] <= value) & (value <= before[:, 1])), "%")
    in_parts(f"{name}.width", 100 * (found[:, 2] - found[:, 1]), "points")
    widths = [
        np.mean(ours[:, 2] - ours[:, 1]) / np.mean(theirs[:, 1] - theirs[:, 0])
        for ours, theirs in zip(np.array_split(found, PARTS), np.array_split(before, PARTS), strict=True)
    ]
    report(f"{name}.width beside before", widths, "ratio")
    in_parts(f"{name}.bias", 100 * (found[:, 0] - value), "points")


def in_parts(figure, values, unit):
    report(figure, [float(np.mean(part)) for part in np.array_split(np.array(values), PARTS)], unit)


def table(truth, predicted, classes):
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def macro_f1(tables):
    hits = np.diagonal(tables, axis1=-2, axis2=-1)
    true, said = tables.sum(axis=-1), tables.sum(axis=-2)
    return mean_over_classes(2 * hits / np.maximum(true + said, 1e-300), true)


def today(counts, seed):
    """The intervals before prediction-powered ones: Wilson's, and the percentile bootstrap of macro-F1."""
    rows = int(counts.sum())
    share, z = np.trace(counts) / rows, 1.959964
    middle, scale = share + z * z / (2 * rows), 1 + z * z / rows
    half = z * np.sqrt(share * (1 - share) / rows + (z / (2 * rows)) ** 2)
    drawn = np.random.default_rng(seed).multinomial(rows, counts.ravel() / rows, RESAMPLES)
    scores = macro_f1(drawn.reshape(RESAMPLES, *counts.shape))
    return {
        "accuracy": ((middle - half) / scale, (middle + half) / scale),
        "macro_f1": tuple(np.percentile(scores, (2.5, 97.5))),
    }
