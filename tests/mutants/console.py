"""Mutants of the console and its pages."""

from tests.mutants.mutant import Change, Mutant

MUTANTS = (
    Mutant(
        "pages-without-escaping",
        "safety: texts from outside are escaped and sanitised in pages",
        "tests/unit/pages/test_pages.py::test_what_is_put_into_a_template_is_sanitised_bounded_and_escaped",
        (Change("pages/rendering.py", "        autoescape=True,\n", ""),),
    ),
    Mutant(
        "charts-without-sanitising",
        "safety: a name with a control character cannot break a chart",
        "tests/unit/pages/test_pages.py"
        "::test_a_chart_is_part_of_a_page_or_a_file_and_says_in_words_what_it_shows",
        (Change("pages/picture.py", '" ".join(sanitise(text).split())', '" ".join(text.split())'),),
    ),
    Mutant(
        "console-without-roles",
        "safety: every route of the console lets in the least role that it declares, and no lower one",
        "tests/integration/console/test_every_route.py::test_a_role_reaches_what_it_may_and_nothing_else",
        (Change("console/access.py", "if not actor.role.covers(self.role):", "if self.role is Role.OWNER:"),),
    ),
    Mutant(
        "console-without-csrf",
        "safety: what a cookie may change, the page of another site cannot",
        "tests/integration/console/test_every_route.py::test_nobody_reaches_anything_without_a_log_in",
        (
            Change(
                "console/access.py",
                "if actor.csrf and request.method not in _CHANGES_NOTHING:",
                "if request.method is None:",
            ),
        ),
    ),
    Mutant(
        "console-believes-every-proxy",
        "safety: only a trusted proxy names the user",
        "tests/integration/console/test_protection.py"
        "::test_the_user_that_a_trusted_proxy_names_is_logged_in_and_nobody_else_is_believed",
        (
            Change(
                "console/protection.py",
                'if not self._settings.trusts((scope.get("client") or ("",))[0]):',
                "if not named:",
            ),
        ),
    ),
    Mutant(
        "corrections-without-a-check",
        "dead letters: what replaces a value is published only if the parser of its topic takes it",
        "tests/integration/browser/test_dead_letter_pages.py"
        "::test_a_value_that_the_parser_refuses_is_not_published_and_stays_in_the_form",
        (
            Change(
                "console/routes/dead_letters.py",
                "            parser_of(parts, next(store.read(chosen)))(corrected)\n",
                "            next(store.read(chosen))\n",
            ),
        ),
    ),
    Mutant(
        "formulas-in-downloads",
        "reviews: no cell of a download is run by a spreadsheet",
        "tests/integration/console/test_stream_pages.py"
        "::test_a_download_has_what_is_seen_and_no_cell_that_a_spreadsheet_runs",
        (
            Change(
                "console/routes/reviews.py",
                "    writer = CsvWriter(content, raw=False)\n",
                "    writer = CsvWriter(content, raw=True)\n",
            ),
        ),
    ),
)
