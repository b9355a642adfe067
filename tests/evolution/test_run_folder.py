"""A run's folder: what is refused, what is continued, and that nothing is written by then."""

import json
import os
import stat

import pytest

from evojax.evolution import RunFolderError, Settings, read_lineage
from evojax.evolution.lineage import configuration, new_lineage, write_lineage
from evojax.evolution.run_folder import check_folder, open_run
from evojax.evolution.settings import OF_OFFSPRING
from evojax.learning import Recipe

SETTINGS = Settings(generations=3, recipe=Recipe(learning_rate=0.01))
CONFIG = configuration(SETTINGS, "test", "quarters")
DATASET = {"name": "quarters", "train": 64, "crc32": 1}


def opened(out, config=CONFIG, dataset=DATASET, model=None):
    with open_run(out, config, dataset, model or {}) as lineage:
        return lineage


def tree(path):
    """Everything under a folder, with its content."""
    return {p: p.read_bytes() if p.is_file() else None for p in path.rglob("*")}


@pytest.fixture
def records(make):
    """One generation."""
    return make(1)["generations"]


@pytest.fixture
def run(tmp_path, records):
    """A run with one finished generation."""
    out = tmp_path / "run"
    assert opened(out) is None
    lineage = new_lineage("test", "python test.py", SETTINGS, CONFIG, DATASET)
    write_lineage(out, lineage | {"generations": records})
    return out


def test_a_new_folder_is_made_with_its_parents(tmp_path):
    out = tmp_path / "a" / "b"
    assert opened(out) is None
    assert json.loads((out / "config.json").read_text()) == CONFIG
    assert CONFIG["recipe.learning_rate"] == 0.01
    assert {path.name for path in out.iterdir()} == {"config.json", ".lock"}


def test_an_empty_folder_and_one_with_hidden_files_will_do(tmp_path):
    (tmp_path / ".git").mkdir()
    assert opened(tmp_path) is None


def test_a_run_is_continued(run, records):
    lineage = opened(run)
    assert lineage["generations"] == records
    assert lineage == read_lineage(run)


def test_another_configuration_is_refused_with_its_fields(run):
    other = configuration(
        Settings(generations=2, seed=5, recipe=Recipe(learning_rate=0.02)), "test", "quarters"
    )
    before = tree(run)
    with pytest.raises(RunFolderError) as error:
        opened(run, other)
    assert "(recipe.learning_rate: 0.01 there, 0.02 now, seed: 0 there, 5 now)" in str(error.value)
    assert tree(run) == before


THREE = CONFIG | {"epochs": [1], "sizes": [2.0, 4.0]}


@pytest.fixture
def three(run, make):
    """A run with three finished generations, of one epoch each and of two sizes."""
    (run / "config.json").write_text(json.dumps(THREE))
    changes = {"config": THREE, "generations": make(3)["generations"]}
    write_lineage(run, read_lineage(run) | changes)
    return run


@pytest.mark.parametrize(
    "later",
    [
        {"generations": 5},
        {"epochs": [1, 1, 1, 7]},
        {"sizes": [2.0, 4.0, 9.0]},
        {"generations": 9, "epochs": [1, 1, 1, 2, 3], "sizes": [2.0, 4.0, 9.0, 12.0]},
    ],
)
def test_the_future_of_a_run_may_change(three, later):
    assert opened(three, THREE | later) == read_lineage(three)
    assert json.loads((three / "config.json").read_text()) == THREE | later


@pytest.mark.parametrize("name", OF_OFFSPRING)
def test_an_ancestor_binds_nothing_of_its_offspring(run, name):
    other = CONFIG | {name: "other"}
    assert opened(run, other) == read_lineage(run)
    assert json.loads((run / "config.json").read_text()) == other


@pytest.mark.parametrize("name", OF_OFFSPRING)
def test_a_generation_binds_the_next_ones(three, name):
    with pytest.raises(RunFolderError, match=rf"\({name}: .* there, 'other' now\)"):
        opened(three, THREE | {name: "other"})


@pytest.mark.parametrize(
    ("past", "message"),
    [
        ({"generations": 2}, r"\(generations: 3 there, 2 now\)"),
        ({"generations": 6, "seed": 1}, r"\(seed: 0 there, 1 now\)"),
        ({"epochs": [1, 1, 2]}, r"\(epochs: \[1\] there, \[1, 1, 2\] now\).* its 3 finished"),
        ({"sizes": [2.0, 5.0]}, r"\(sizes: \[2.0, 4.0\] there, \[2.0, 5.0\] now\)"),
        ({"sizes": [2.0]}, r"\(sizes: \[2.0, 4.0\] there, \[2.0\] now\)"),
    ],
)
def test_the_past_of_a_run_may_not(three, past, message):
    before = tree(three)
    with pytest.raises(RunFolderError, match=message):
        opened(three, THREE | past)
    assert tree(three) == before


def test_a_lineage_of_another_run_is_refused(three):
    lineage = read_lineage(three)
    write_lineage(three, lineage | {"config": THREE | {"seed": 1, "epochs": [2, 1]}})
    before = tree(three)
    with pytest.raises(RunFolderError, match=r"of different runs \(epochs, seed\)"):
        opened(three, THREE)
    assert tree(three) == before


def test_a_config_of_somebody_else_is_left_alone(tmp_path):
    theirs = tmp_path / "config.json"
    theirs.write_text('{"experiment": "mine", "lr": 3}')
    with pytest.raises(RunFolderError, match="config.json that is not of a run of evojax"):
        opened(tmp_path)
    assert theirs.read_text() == '{"experiment": "mine", "lr": 3}'


@pytest.mark.parametrize("name", ["seed[1]", "a*", "what?", "nul\0", "\udcff"])
def test_names_that_cannot_be_written_to_are_refused(tmp_path, name):
    with pytest.raises(RunFolderError, match="Name another folder"):
        check_folder(tmp_path / name / "run")
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("name", ["generations", "figures"])
def test_a_file_where_a_folder_belongs_is_refused(run, name):
    (run / name).write_text("mine")
    with pytest.raises(RunFolderError, match=f"{name} is no folder"):
        opened(run)


def test_other_images_of_the_same_name_are_refused(run):
    changes = r"other data \(dataset.crc32: 1 there, 2 now, dataset.train: 64 there, 65 now\)"
    with pytest.raises(RunFolderError, match=f"{changes}.*bring back the data"):
        opened(run, CONFIG, DATASET | {"crc32": 2, "train": 65})
    with pytest.raises(RunFolderError, match=r"dataset.identity: absent there, '(ab){6}...' now\)"):
        opened(run, CONFIG, DATASET | {"identity": 32 * "ab"})


def test_another_network_of_equal_weights_is_refused(run):
    lineage = read_lineage(run)
    model = {"class": "shipped.Net", "normalisation": "batch"}
    write_lineage(run, lineage | {"model": model})
    assert opened(run, model=model | {"class": "moved.Net", "later": 1}) and opened(run)
    with pytest.raises(RunFolderError, match="model.normalisation: 'batch' there, 'response' now"):
        opened(run, model=model | {"normalisation": "response"})
    for damaged in (None, 7):
        write_lineage(run, lineage | {"model": damaged})
        assert opened(run, model=model)


def test_a_configuration_binds_once_a_generation_is_finished(tmp_path):
    opened(tmp_path)
    (tmp_path / "generations" / "001").mkdir(parents=True)  # Saved, but not recorded.
    other = CONFIG | {"seed": 1}
    assert opened(tmp_path, other) is None
    assert json.loads((tmp_path / "config.json").read_text()) == other


def test_a_lost_lineage_is_not_started_over(run):
    (run / "generations" / "002").mkdir(parents=True)
    (run / "lineage.json").unlink()
    with pytest.raises(RunFolderError, match="lineage.json is missing"):
        opened(run)


@pytest.mark.parametrize("inside", [False, True])
def test_a_file_is_refused(tmp_path, inside):
    file = tmp_path / "file"
    file.write_text("mine")
    out = file / "run" if inside else file
    for check in (check_folder, opened):
        with pytest.raises(RunFolderError, match=f"--out {out}: {file} is no folder"):
            check(out)
    assert file.read_text() == "mine"


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    before = tree(tmp_path)
    for check in (check_folder, opened):
        with pytest.raises(RunFolderError, match="holds files but no run of evojax"):
            check(tmp_path)
    assert tree(tmp_path) == before


def test_checking_writes_nothing(tmp_path):
    check_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    out = tmp_path / "closed"
    out.mkdir()
    out.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.geteuid() == 0:  # Whom permissions do not hold back.
        monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(out))
    for place in (out, out / "run"):
        with pytest.raises(RunFolderError, match="cannot be written: Permission denied"):
            opened(place)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("part", ["generations", "figures"])
def test_a_part_without_permission_is_refused(run, monkeypatch, part):
    place = run / part
    place.mkdir(exist_ok=True)
    place.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.geteuid() == 0:
        monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(place))
    with pytest.raises(RunFolderError, match=rf"cannot be written: Permission denied .*{part}\)"):
        opened(run)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "run").symlink_to(tmp_path / "nowhere" / "at" / "all")
    with pytest.raises(RunFolderError, match="run cannot be written: File exists"):
        opened(tmp_path / "run")
    with pytest.raises(RunFolderError, match="cannot be written: File name too long"):
        opened(tmp_path / ("x" * 300))


@pytest.mark.parametrize("name", ["lineage.json", "config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_damaged_json_is_refused(run, name, content):
    (run / name).write_bytes(content)
    before = tree(run)
    with pytest.raises(RunFolderError, match=name):
        opened(run)
    assert tree(run) == before


def test_a_lineage_of_another_form_is_refused(run):
    (run / "lineage.json").write_text(json.dumps(read_lineage(run) | {"schema": 2}))
    with pytest.raises(RunFolderError, match="field 'schema' is 2.*Put it back from a copy"):
        opened(run)


def test_a_missing_or_foreign_config_is_refused(run):
    (run / "config.json").write_text("{}")
    with pytest.raises(RunFolderError, match="not of a run of evojax"):
        opened(run)
    (run / "config.json").unlink()
    with pytest.raises(RunFolderError, match="holds files but no run"):
        opened(run)


def test_a_lineage_is_written_whole_or_not_at_all(run, monkeypatch):
    before = tree(run)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_lineage(run, {"schema": 1})
    assert tree(run) == before


def test_one_run_at_a_time(run, records):
    in_use = pytest.raises(RunFolderError, match="is in use by another process")
    with open_run(run, CONFIG, DATASET), in_use:
        opened(run)
    assert opened(run)["generations"] == records
