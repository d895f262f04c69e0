"""Logging in, people, tokens and the audit log, as a browser does it."""

import pytest

from tests.integration.console.conftest import Site


@pytest.mark.parametrize("path", ["/people", "/tokens", "/audit-log", "/account"])
def test_an_owner_sees_every_page_of_administration(site: Site, path: str) -> None:
    answer = site.client("owner").get(path)
    assert answer.status_code == 200, answer.text
    assert "owner of the tests" in answer.text
