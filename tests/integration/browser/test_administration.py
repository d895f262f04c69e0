"""Logging in, and an owner's pages, as a person uses them: by keyboard, and without script."""

from playwright.sync_api import expect

from console.passwords import hash_password
from reviews.account import Role
from storage.accounts.users import UserStore
from tests.browser.visits import Visits, accessibility_violations, overflow_pixels
from tests.integration.browser.conftest import Served

PASSWORD = "four words are enough"


def test_somebody_logs_in_changes_a_role_by_keyboard_and_logs_out(served: Served, visits: Visits) -> None:
    UserStore(served.site.admin).add("ada", Role.OWNER, "the tests", hash_password(PASSWORD))
    served.site.user("viewer", "bob")
    visits.expect_error("status of 401")
    page = served.page(None)
    page.goto(f"{served.url}/people")
    page.keyboard.type("ada")
    page.keyboard.press("Tab")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("No account has this name and this password.")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="People")).to_be_visible()

    bob = page.get_by_role("row", name="bob")
    bob.get_by_text("Change role").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Another role for bob")).to_be_visible()
    assert accessibility_violations(page) == []
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Another role for bob")).to_be_hidden()
    page.keyboard.press("Enter")  # the focus is back on the button
    role = page.get_by_role("combobox", name="Role").and_(page.locator(":focus"))
    expect(role).to_be_visible()
    page.keyboard.press("o")
    expect(role).to_have_value("operator")
    page.keyboard.press("Tab")
    page.keyboard.type("on call from today")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("bob is operator now.")
    entry = served.site.sql("SELECT actor, action, subject, reason, outcome FROM audit_log")
    assert entry == [("ada", "user.role.operator", "bob", "on call from today", "done")]

    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    assert accessibility_violations(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("button", name="Log in")).to_be_visible()


def test_a_role_is_changed_without_script_on_a_phone_too(served: Served) -> None:
    served.site.user("viewer", "bob")
    page = served.page("owner", width="phone", scripts=False)
    page.goto(f"{served.url}/people")
    page.get_by_role("row", name="bob").get_by_text("Disable").first.click()
    page.get_by_role("row", name="bob").get_by_role("button", name="Disable").click()
    expect(page.get_by_text("bob is disabled")).to_be_visible()
    assert overflow_pixels(page) == 0


def test_a_live_page_says_when_the_session_has_ended(served: Served, visits: Visits) -> None:
    visits.expect_error("status of 401")
    page = served.page("viewer")
    page.goto(served.url)
    expect(page.locator("[data-poll]").first).to_be_attached()
    served.site.sql("DELETE FROM console_session")
    expect(page.get_by_role("status")).to_contain_text("You are logged out", timeout=20_000)
