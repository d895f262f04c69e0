"""The pages of the documentation: every link leads somewhere, and the list of decisions is complete."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks" / "README.md"])
DECISIONS = ROOT / "docs" / "adr"


def _anchors(page: Path) -> set[str]:
    """The names under which GitHub links to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        assert not anchor or anchor in _anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`((?:\w+/)+[\w.-]*)(?:::\w+)?`", page.read_text(encoding="utf-8"))
    for path in named:
        if (ROOT / path.split("/")[0]).is_dir():
            assert (ROOT / path).exists(), path


def test_the_list_of_decisions_has_each_page_with_its_title() -> None:
    listed = re.findall(
        r"^\| \[(\d+)\]\((\S+)\) \| (.+) \|$", (DECISIONS / "README.md").read_text("utf-8"), re.MULTILINE
    )
    pages = {page.name: page.read_text("utf-8").splitlines()[0] for page in DECISIONS.glob("0*.md")}
    assert {name: f"# {number} {title}" for number, name, title in listed} == pages


@pytest.mark.parametrize(
    "package",
    [
        "reviews",
        "broker",
        "storage",
        "classifier",
        "drift",
        "pages",
        "consumer",
        "trainer",
        "console",
        "reviewloop",
    ],
)
def test_the_contributors_map_names_each_entry_of_a_package(package: str) -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    part = guide.split(f"**`{package}/`**")[1].split("**`")[0].split("## ")[0]
    listed = set(re.findall(r"^\| `([^`]+)` \|", part, re.MULTILINE))
    modules = {path.name for path in (ROOT / package).glob("*.py") if not path.name.startswith("__")}
    folders = {f"{path.parent.name}/" for path in (ROOT / package).glob("*/__init__.py")}
    assert listed == modules | folders
