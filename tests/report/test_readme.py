"""The README's tables: seeds put together, what is missing, and the check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evojax.report import readme

Make = Callable[..., dict[str, Any]]
Add = Callable[[str, str, dict[str, Any]], None]
MARKED = "# Results\n\n<!-- results: mnist_lenet -->\nold\n<!-- end -->\n\nMore.\n"


def _lineage(make: Make, *rows: tuple[float, float]) -> dict[str, Any]:
    lineage = make(len(rows))
    for record, (ratio, accuracy) in zip(lineage["generations"], rows, strict=True):
        record |= {"architectural_efficiency": ratio, "accuracy": accuracy}
    return lineage


@pytest.fixture
def filled(make: Make, results: Add) -> None:
    """Three seeds of best, one of literal and random."""
    results("mnist_lenet", "random", _lineage(make, (1.0, 0.99), (6.0, 0.3)))
    results("mnist_lenet", "literal", _lineage(make, (1.0, 0.9947), (13.3, 0.9927), (66, 0.9745)))
    for seed, accuracy in enumerate((0.9910, 0.9920, 0.9900)):
        lineage = _lineage(make, (1.0, 0.995), (5.2, 0.995), (126.0 + seed, accuracy))
        results("mnist_lenet", f"best-seed{seed}", lineage)
    results("mnist_lenet", "best-seed3", _lineage(make, (1.0, 0.995), (5.2, 0.995)))


@pytest.fixture
def page(tmp_path: Path, filled: None) -> Path:
    """A README beside the results."""
    path = tmp_path / "README.md"
    path.write_text(MARKED)
    return path


def test_the_table_has_the_papers_rows_and_a_column_for_each_tag(page: Path) -> None:
    assert readme.main([str(page)]) == 0
    text = page.read_text()
    assert text.startswith("# Results\n\n<!-- results: mnist_lenet -->\n![")
    assert text.endswith("<!-- end -->\n\nMore.\n") and "\nold\n" not in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert table == [
        "| A-E | paper | best | literal | random |",
        "| ---: | ---: | ---: | ---: | ---: |",
        "| 1.00× | 99.47 | 99.50 (99.50–99.50) at 1.00× | 99.47 at 1.00× | 99.00 at 1.00× |",
        "| 5.20× | 99.41 | 99.50 (99.50–99.50) at 5.20× | 99.27 at 13.3× | 30.00 at 6.00× |",
        "| 12.09× | 99.28 | 99.10 (99.00–99.20) at 126–128×, 3 of 4 seeds | 99.27 at 13.3× | — |",
        "| 32.23× | 98.84 | 99.10 (99.00–99.20) at 126–128×, 3 of 4 seeds | 97.45 at 66.0× | — |",
        "| 62.74× | 98.49 | 99.10 (99.00–99.20) at 126–128×, 3 of 4 seeds | 97.45 at 66.0× | — |",
        "| 125.09× | 97.75 | 99.10 (99.00–99.20) at 126–128×, 3 of 4 seeds | — | — |",
        "| 250.00× | — | — | — | — |",
    ]
    assert "Runs: best 4 seeds, literal 1 seed, random 1 seed." in text
    assert "Shafiee and Wong 2016 (arXiv 1609.01360), Table 1" in text


def test_the_picture_is_drawn_beside_the_results(page: Path) -> None:
    readme.main([str(page)])
    assert "(results/mnist_lenet/accuracy.png)" in page.read_text()
    picture = page.parent / "results" / "mnist_lenet" / "accuracy.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_check_tells_an_outdated_readme_and_changes_nothing(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert readme.main([str(page), "--check"]) == 1
    assert "out of date; run: python -m evojax.report.readme" in capsys.readouterr().err
    assert page.read_text() == MARKED
    readme.main([str(page)])
    before = page.read_text()
    assert readme.main([str(page), "--check"]) == 0
    page.write_text(before.replace("99.41", "99.42"))
    assert readme.main([str(page), "--check"]) == 1


def test_where_the_papers_have_nothing_round_figures_stand(make: Make, results: Add) -> None:
    lineage = _lineage(make, (1.0, 0.98), (4.0, 0.975), (21.0, 0.96))
    groups = {"default": [lineage]}
    rows = readme.table(groups, None).cells()
    assert [row[0] for row in rows] == ["1.00×", "2.00×", "5.00×", "10.00×", "20.00×"]
    assert rows[1] == ["2.00×", "97.50 at 4.00×"]


def test_detection_shows_precision_and_recall(make: Make) -> None:
    groups = {"best": [make(2, detection=True, ancestor=0.8)]}
    rows = readme.table(groups, readme.published("kitti_detectnet")).cells()
    assert rows[0] == ["1.00×", "78.03 / 62.03", "80.00 / 64.00 at 1.00×"]


def test_tags_are_ordered_and_seeds_grouped(page: Path, make: Make, results: Add) -> None:
    results("mnist_lenet", "another-seed0", make(2))
    results("mnist_lenet", "seedling", make(2))
    groups = readme.collect(page.parent / "results" / "mnist_lenet")
    assert list(groups) == ["best", "literal", "random", "another", "seedling"]
    assert len(groups["best"]) == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<!-- results: mnist_lenet -->\nno end\n", "'<!-- results: NAME -->' line has no"),
        ("<!-- benchmark: a/b -->\nno end\n", "'<!-- benchmark: NAME -->' line has no"),
        ("<!-- benchmark: a/b -->\n<!-- end -->\n", "b.json: expected a benchmark's JSON"),
        (MARKED.replace("mnist", "other"), "expected TAG/lineage.json files, found none"),
    ],
)
def test_a_wrong_marker_is_an_error(
    page: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    page.write_text(text)
    assert readme.main([str(page)]) == 2
    assert words in capsys.readouterr().err
    assert page.read_text() == text


def test_results_of_another_experiment_are_an_error(
    page: Path, make: Make, results: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    results("mnist_lenet", "strange", make(2, experiment="stl10_lenet"))
    assert readme.main([str(page)]) == 2
    assert "field 'experiment' is 'stl10_lenet', expected 'mnist_lenet'" in capsys.readouterr().err


def test_a_missing_readme_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert readme.main([str(tmp_path / "README.md")]) == 2
    assert "README.md" in capsys.readouterr().err


def test_this_projects_readme_is_up_to_date() -> None:
    path = Path(__file__).parents[2] / "README.md"
    if not path.exists() or "<!-- results:" not in path.read_text(encoding="utf-8"):
        pytest.skip("there is no README with results' markers here")
    assert readme.main([str(path), "--check"]) == 0
