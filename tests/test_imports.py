"""Imports go one way, as CONTRIBUTING.md says."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHAIN = re.search(r"to the left:\n(.*?);", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)


def imported(file):
    """What a file imports of evojax: packages and modules, by their first name."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            yield from (name[1] for name in names if name[0] == "evojax" and len(name) > 1)
        if isinstance(node, ast.ImportFrom) and node.module == "evojax":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("evojax."):
            yield node.module.split(".")[1]


def test_every_package_imports_only_those_before_it():
    order = re.findall(r"`(\w+)`", CHAIN[1])
    parts = {path.stem for path in (ROOT / "evojax").glob("[a-z]*") if path.name != "py.typed"}
    assert set(order) == parts | {"experiments"}
    for place, name in enumerate(order):
        folder = ROOT / name if name == "experiments" else ROOT / "evojax" / name
        # A name of nothing ends in an error, for there is no such file.
        for file in list(folder.rglob("*.py")) or [folder.with_suffix(".py")]:
            later = set(imported(file)) & set(order[place + 1 :])
            assert not later, f"{file.relative_to(ROOT)} imports {sorted(later)}"


def test_a_folder_called_evojax_is_not_taken_for_the_package(tmp_path):
    """Such as the clone, for scripts that lie beside it."""
    (tmp_path / "evojax").mkdir()
    where = "import importlib.util; print(importlib.util.find_spec('evojax').origin)"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()).name == "__init__.py"
