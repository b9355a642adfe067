"""Files are replaced whole or not at all."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evojax.files import expanded, replace, with_home


def test_a_full_disk_leaves_the_former_file(tmp_path: Path, monkeypatch: Any) -> None:
    path = replace(tmp_path / "report.html", "former")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace(path, b"latter")
    assert path.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_replacement_leaves_the_former_file(
    tmp_path: Path, monkeypatch: Any
) -> None:
    path = replace(tmp_path / "a" / "b.txt", b"former")

    def interrupted(source: str, target: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace(path, b"latter")
    assert path.read_bytes() == b"former"
    assert list(path.parent.iterdir()) == [path]


@dataclass(frozen=True)
class Options:
    out: Path
    result: Path | None = None
    name: str = "~"
    beside: tuple[Path, ...] = ()


def test_every_path_among_options_may_start_at_home(monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    found = with_home(Options(Path("~/run")))
    assert found == Options(Path("/somewhere/run"))
    assert with_home(Options(Path("a~b"), Path("~/x"))).result == Path("/somewhere/x")
    assert with_home(Options(Path(), beside=(Path("~/x"),))).beside == (Path("/somewhere/x"),)
    assert expanded("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
