"""How the product's source tree is built: its size, its modules, and what they import of each other.

``python -m benchmarks tree_shape`` measures this checkout, ``python -m benchmarks.tree_shape DIR`` another,
for instance a worktree of an older commit. Nothing is imported or run: the modules are parsed.
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.figures import report

_NOT_PRODUCT = {"benchmarks", "tests", "deploy", "docs"}


@dataclass(frozen=True)
class Import:
    """One import of one of the product's own modules; ``nested`` if it is inside a function."""

    importer: str
    imported: str
    nested: bool


@dataclass(frozen=True)
class Tree:
    """The product's modules.

    Attributes:
        files: By dotted name.
        syntax: The same, parsed.
    """

    files: dict[str, Path]
    syntax: dict[str, ast.Module]

    def imports(self) -> list[Import]:
        """Every import of one own module by another."""
        return [found for name, tree in self.syntax.items() for found in _imports(name, tree, self.files)]


def read_tree(root: Path = Path(__file__).parent.parent) -> Tree:
    """Every module of the product's packages below a checkout's root."""
    files = _modules(root)
    return Tree(files, {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in files.items()})


def main(_: Path | None = None, root: Path = Path(__file__).parent.parent) -> None:
    """Print the figures of a checkout."""
    tree = read_tree(root)
    imports = tree.imports()
    lines = {name: path.read_text(encoding="utf-8").count("\n") for name, path in tree.files.items()}
    written = [count for name, count in lines.items() if tree.files[name].name != "__init__.py"]
    report("product_lines", [sum(lines.values())], "lines")
    report("modules", [len(lines)], "modules")
    report("median_module", [median(written)], "lines")
    report("longest_module", [max(written)], "lines")
    report("modules_for_one_neighbour", [len(_for_one_neighbour(tree.files, imports))], "modules")
    report("own_imports_inside_functions", [sum(found.nested for found in imports)], "imports")
    report("import_circles", [len(import_circles(tree.files, imports))], "circles")
    report("class_names_used_twice", [len(class_names_used_twice(tree.syntax))], "names")


def _modules(root: Path) -> dict[str, Path]:
    packages = [path.parent for path in root.glob("*/__init__.py") if path.parent.name not in _NOT_PRODUCT]
    files = [file for package in packages for file in package.rglob("*.py")]
    return {
        ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file
        for file in files
    }


def _imports(name: str, tree: ast.Module, modules: dict[str, Path]) -> Iterator[Import]:
    for node, nested in _walk(tree, nested=False):
        for imported in _imported(node, modules):
            if imported != name:
                yield Import(name, imported, nested)


def _walk(node: ast.AST, *, nested: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below this one, and whether it is inside a function."""
    for child in ast.iter_child_nodes(node):
        yield child, nested
        yield from _walk(
            child, nested=nested or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        )


def _imported(node: ast.AST, modules: dict[str, Path]) -> set[str]:
    """The own modules that a statement imports; ``from package import module`` imports the module."""
    if isinstance(node, ast.Import):
        names = {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
        inner = {f"{node.module}.{alias.name}" for alias in node.names}
        names = {name if name in modules else node.module for name in inner}
    else:
        names = set()
    return names & modules.keys()


def _for_one_neighbour(modules: dict[str, Path], imports: list[Import]) -> list[str]:
    """Modules that one other module imports, which is in the same folder."""
    importers: dict[str, set[str]] = {}
    for found in imports:
        importers.setdefault(found.imported, set()).add(found.importer)
    return [
        name
        for name, who in importers.items()
        if len(who) == 1
        and modules[name].name != "__init__.py"
        and all(modules[importer].parent == modules[name].parent for importer in who)
    ]


def import_circles(modules: dict[str, Path], imports: list[Import]) -> list[set[str]]:
    """Groups of modules that import each other, at the top, for type checking or inside functions."""
    reached = {name: reachable(name, imports) for name in modules}
    circles: list[set[str]] = []
    for name in modules:
        group = {other for other in reached[name] if name in reached[other]}
        if group and group not in circles:
            circles.append(group)
    return circles


def reachable(start: str, imports: Iterable[Import]) -> set[str]:
    """The modules that importing this one leads to."""
    following: dict[str, set[str]] = {}
    for found in imports:
        following.setdefault(found.importer, set()).add(found.imported)
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for name in following.get(waiting.pop(), set()) - seen:
            seen.add(name)
            waiting.append(name)
    return seen


def class_names_used_twice(trees: dict[str, ast.Module]) -> list[str]:
    """Names that more than one class of the product has."""
    names = Counter(
        node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    )
    return sorted(name for name, count in names.items() if count > 1)


if __name__ == "__main__":
    main(root=Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent)
