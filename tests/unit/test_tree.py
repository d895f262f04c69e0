"""What the source tree keeps to, so that a reader finds one way and one name for each thing."""

import re

import pytest

from benchmarks.tree_shape import Tree, class_names_used_twice, import_circles, reachable, read_tree


@pytest.fixture(scope="module")
def tree() -> Tree:
    return read_tree()


def test_no_modules_import_in_a_circle_not_even_inside_functions_or_for_type_checking(tree: Tree):
    assert import_circles(tree.files, tree.imports()) == []


def test_every_class_name_stands_once_in_the_product(tree: Tree):
    assert class_names_used_twice(tree.syntax) == []


def test_own_modules_are_imported_inside_functions_only_where_they_load_torch_or_an_extra(tree: Tree):
    at_the_top = [found for found in tree.imports() if not found.nested]
    heavy = re.compile(r"^(import (torch|uvicorn|pyarrow as pa)$|from (argon2|fastapi) )", re.MULTILINE)
    heavily = {name for name, path in tree.files.items() if heavy.search(path.read_text(encoding="utf-8"))}
    inside = {found.imported for found in tree.imports() if found.nested}
    assert inside
    assert [name for name in inside if not ({name} | reachable(name, at_the_top)) & heavily] == []
