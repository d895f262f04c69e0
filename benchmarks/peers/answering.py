"""A peer's side of the conversation: one JSON line of texts in, one line of seconds and labels out."""

import json
import os
import sys
import traceback

from benchmarks.classifier_data import clock


def answer_lines(engines) -> None:
    """Answer ``{"engine": NAME, "texts": [...]}``, one a line; ``engines``: names to makers of functions.

    A maker's function takes texts and gives label indices. Engines are made when they are first asked for.
    """
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print would stand between the answers
    ready = {}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            run = ready.get(asked["engine"]) or ready.setdefault(asked["engine"], engines[asked["engine"]]())
            began = clock()
            labels = run(asked["texts"])
            answer = {"seconds": clock() - began, "labels": labels}
        except Exception as why:  # noqa: BLE001  the benchmark goes on with the other engines
            traceback.print_exc()
            answer = {"failed": f"{type(why).__name__}: {why}"}
        print(json.dumps(answer), file=replies, flush=True)
