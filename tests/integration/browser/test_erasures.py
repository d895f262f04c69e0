"""Receipts of erasures in a browser: nobody is kept out, on any screen."""

from reviews.erasure import ErasureFinding
from storage.lifecycle.erasure import ErasureStore
from storage.lifecycle.receipts import ReceiptStore
from tests.browser.visits import WIDTHS, accessibility_violations, overflow_pixels
from tests.integration.browser.conftest import Served
from tests.planted import ENDS, ID, plant


def test_receipts_can_be_read_by_everybody(served: Served) -> None:
    plant(served.site.admin)
    store = ErasureStore(served.site.admin)
    number = store.request([ID], "ann", "Asked.", ENDS)
    ReceiptStore(served.site.admin).add_finding(
        number,
        ErasureFinding(
            "export /lake/of/the/company/with/a/long/path/reviews",
            0,
            "open",
            "The files of 2026-05-01: run it.",
        ),
    )
    store.proceed(number)
    page = served.page("owner")
    found = []
    for path in ("/erasures", f"/erasures/{number}"):
        page.goto(path)
        for summary in page.locator("summary").all():
            summary.click()
        for width in WIDTHS.values():
            page.set_viewport_size({"width": width, "height": 900})
            found += accessibility_violations(page)
            assert overflow_pixels(page) == 0, (path, width)
        page.emulate_media(color_scheme="dark")
        found += accessibility_violations(page, rules=["color-contrast"])
        page.emulate_media(color_scheme="light")
    assert found == []
