"""``forget`` killed by SIGKILL between its steps and inside of them: the next one ends what it began."""

from itertools import count

from sqlalchemy import text

from reviews.adapter import AdapterVersion
from storage.adapters.registry import AdapterStore
from storage.lifecycle.receipts import ReceiptStore
from tests.faults.erasing import is_killed
from tests.integration.export.stored import open_database
from tests.planted import ENDS, ID, NEEDLES, held, places, plant


def test_an_erasure_killed_at_any_point_is_ended_by_the_next_one_which_finds_everything_once(database: str):
    with open_database(database) as store:
        plant(store)
        for last in count(1):
            if not is_killed(database, ID, ENDS, last):
                break
            store.execute(
                text("UPDATE lease SET expires_at = now() - interval '1 s'")
            )  # as two minutes later
        assert last > 8
        receipts = ReceiptStore(store)
        (receipt,) = receipts.receipts(10)
        assert receipt.state == "erased"
        rows = {one.place: one.rows for one in receipts.receipt(receipt.id).findings if one.state == "erased"}
        assert rows["review"] == rows["prediction"] == rows["label"] == 2
        assert rows["dead_letter"] == 5
        assert places(store, *NEEDLES) == held(store)

        adapters = AdapterStore(store)
        clean = AdapterVersion("sentiment-ffffffffffff", "sentiment", ("bad", "good"), "base", None, "f" * 64)
        adapters.add(clean, {"weights.safetensors": b"56"})
        adapters.activate(
            clean, expected=adapters.active("sentiment"), decided_by="run", reason="replaces it"
        )
        assert receipts.close_all() == 1
        assert receipts.receipt(receipt.id).state == "closed"
        assert places(store, *NEEDLES) == set()
