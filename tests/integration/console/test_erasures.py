"""Receipts of erasures: owners see what was erased and what is open, and nobody else does."""

from reviews.account import Role
from reviews.erasure import ErasureFinding
from storage.lifecycle.erasure import ErasureStore
from storage.lifecycle.receipts import ReceiptStore
from tests.integration.console.conftest import Site
from tests.planted import ENDS, ID, OLD_TEXT, plant


def test_receipts_show_their_state_and_what_is_open_and_no_id(site: Site) -> None:
    plant(site.admin)
    erasures = ErasureStore(site.admin)
    number = erasures.request([ID], "ann", "Asked to erase, ticket <17>.", ENDS)
    client = site.client(Role.OWNER)
    assert "at work (requested)" in client.get("/erasures").text
    open_ = ErasureFinding("export /lake", 0, "open", "The files of 2026-05-01: run it.")
    ReceiptStore(site.admin).add_finding(number, open_)
    erasures.proceed(number)

    listed = client.get("/erasures").text
    assert "erased" in listed
    assert "export /lake" in listed
    assert "ticket &lt;17&gt;" in listed
    assert "There is no erasure" in client.get("/erasures/99").text
    shown = client.get(f"/erasures/{number}").text
    assert "The files of 2026-05-01: run it." in shown
    assert "dead_letter" in shown
    assert "serves, and is replaced" not in shown
    for secret in (ID, OLD_TEXT.strip()):
        assert secret not in shown + listed
    assert "No review was erased." in client.get(f"/erasures?before={number}").text


def test_only_owners_see_receipts(site: Site) -> None:
    for role in (Role.VIEWER, Role.ANNOTATOR, Role.OPERATOR):
        client = site.client(role)
        assert client.get("/erasures").status_code == 403
        assert client.get("/erasures/1").status_code == 403
