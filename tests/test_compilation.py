"""Commands keep what they compiled, where the user wants it."""

import sys
from contextlib import suppress
from pathlib import Path

import jax
import pytest

from evojax import cli, study
from evojax.command import Options, run
from evojax.compilation import FOLDER, keep_programs
from evojax.evolution import Settings
from evojax.models import LeNet


@pytest.fixture(autouse=True)
def unset():
    before = jax.config.values[FOLDER]
    jax.config.update(FOLDER, None)
    yield
    jax.config.update(FOLDER, before)


def help_of_an_experiment():
    with suppress(SystemExit):
        run("digits", LeNet, Options(Path("runs"), "digits", Settings()), "")


@pytest.mark.parametrize(
    "command",
    [
        keep_programs,
        help_of_an_experiment,
        lambda: cli.main(["show", "nowhere"]),
        lambda: study.guarded(lambda: 0),
    ],
)
def test_programs_are_kept_among_the_users_caches(command, caches, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["digits", "--help"])
    command()
    assert jax.config.values[FOLDER] == str(caches / "evojax")


def test_or_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    keep_programs()
    assert jax.config.values[FOLDER] == str(tmp_path / ".cache" / "evojax")


def test_nowhere_if_it_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep_programs()
    assert jax.config.values[FOLDER] is None


def test_nowhere_without_a_home(monkeypatch):
    """As of a user whom a container's system does not know."""
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "~")  # What is left of it where it cannot be expanded.
    keep_programs()
    assert jax.config.values[FOLDER] is None


def test_a_folder_that_is_set_stays():
    jax.config.update(FOLDER, "elsewhere")
    keep_programs()
    assert jax.config.values[FOLDER] == "elsewhere"
