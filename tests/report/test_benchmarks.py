"""Benchmark tables in a README."""

import json

import pytest

from evojax.report import readme

CONTENT = {
    "command": "python benchmarks/training.py",
    "environment": {"jax": "0.10.2", "device": "cpu", "cpus": 2},
    "table": [["what", "speed"], ["dense", "1.00"], ["masked", "0.98"]],
}


@pytest.fixture
def page(tmp_path):
    (tmp_path / "results" / "benchmarks").mkdir(parents=True)
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- benchmark: benchmarks/training -->\nold\n<!-- end -->\nafter\n")
    return path


def test_the_table_is_the_benchmarks_own(page):
    (page.parent / "results/benchmarks/training.json").write_text(json.dumps(CONTENT))
    assert readme.main([str(page)]) == 0
    assert page.read_text() == (
        "before\n<!-- benchmark: benchmarks/training -->\n"
        "| what | speed |\n| --- | ---: |\n| dense | 1.00 |\n| masked | 0.98 |\n\n"
        "`python benchmarks/training.py` (jax 0.10.2, cpu, 2 cores)\n"
        "<!-- end -->\nafter\n"
    )
    assert readme.main([str(page), "--check"]) == 0


def test_one_core_is_no_cores(tmp_path):
    one = CONTENT | {"environment": CONTENT["environment"] | {"cpus": 1}}
    (tmp_path / "one.json").write_text(json.dumps(one))
    assert "(jax 0.10.2, cpu, 1 core)" in readme.benchmark(tmp_path / "one.json")


@pytest.mark.parametrize("content", [None, "{", "[]", json.dumps(CONTENT | {"table": None})])
def test_a_missing_or_foreign_file_is_named(page, content, capsys):
    if content is not None:
        (page.parent / "results/benchmarks/training.json").write_text(content)
    before = page.read_text()
    assert readme.main([str(page)]) == 2
    assert "training.json: expected a benchmark's JSON" in capsys.readouterr().err
    assert page.read_text() == before
