"""Imports go one way, as CONTRIBUTING.md says."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHAIN = re.search(r"to the left:\n(.*?);", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)


def imported(file):
    """What a file imports of evojax: packages and modules, by their first name."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "evojax":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("evojax."):
            yield node.module.split(".")[1]


def test_every_package_imports_only_those_before_it():
    order = re.findall(r"`(\w+)`", CHAIN[1])
    assert len(order) == 13
    for place, name in enumerate(order):
        folder = ROOT / "evojax" / name
        folder = folder if folder.is_dir() else ROOT / "experiments"
        files = list(folder.rglob("*.py"))
        if (alone := ROOT / "evojax" / f"{name}.py").exists():
            files = [alone]
        assert files
        for file in files:
            later = set(imported(file)) & set(order[place + 1 :])
            assert not later, f"{file.relative_to(ROOT)} imports {sorted(later)}"
