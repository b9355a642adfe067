"""The page: what it says, that it is self-contained and accessible, that it escapes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from evojax.report import page
from evojax.report.paper import PUBLISHED
from evojax.report.style import Picture

Make = Callable[..., dict[str, Any]]
EVIL = "<script>alert('\"&')</script>"


class Parsed(HTMLParser):
    """Elements with their attributes, the text, and whether all that was opened was closed."""

    VOID = frozenset({"meta", "img", "source", "br", "wbr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def _pictures() -> list[page.Drawn]:
    return [
        page.Drawn(Picture(name, b"light", f"alt of {name}"), Picture(name, b"dark", ""))
        for name in ("accuracy", "survival", "kernels")
    ]


def test_the_headline_speaks_of_the_smallest_network_near_the_ancestor(make: Make) -> None:
    lineage = make(3)
    for record, (ratio, accuracy) in zip(
        lineage["generations"], ((1, 0.9947), (125.09, 0.9911), (300, 0.9)), strict=True
    ):
        record |= {"architectural_efficiency": float(ratio), "accuracy": accuracy}
    assert page.headline(lineage) == (
        "125-fold fewer synapses, 99.1 % of test images right (ancestor 99.5 %)"
    )
    text = Parsed(page.render(lineage)).text
    assert "Generation 2 of 3: the smallest network at most 3 points below its ancestor" in text
    assert "The last generation is 300-fold smaller, with 90.0 % of test images right." in text


def test_headlines_of_other_runs(make: Make) -> None:
    assert page.headline(make(1)) == "The ancestor: 99.5 % of test images right; no offspring yet"
    fallen = make(2)
    fallen["generations"][1]["accuracy"] = 0.5
    assert page.headline(fallen).endswith("every offspring is more than 3 points worse")
    vain = make(2, ancestor=0.0)
    assert page.headline(vain).endswith("0.0 % of test images right; there is nothing to keep")
    detection = make(2, detection=True, ancestor=0.7803)
    assert page.headline(detection) == (
        "1.4-fold fewer synapses, precision 78.0 %, recall 62.0 % "
        "(ancestor precision 78.0 %, recall 62.0 %)"
    )


def test_the_page_says_how_it_was_made(lineage: dict[str, Any]) -> None:
    text = Parsed(page.render(lineage, PUBLISHED["mnist_lenet"])).text
    for words in (
        "python experiments/mnist_lenet.py --out runs/synthetic",
        "environment.clusters 0.8",
        "jax 0.10.2",
        "train 60000",
        "image_shape [32, 32, 1]",
        "seed 0",
        "Status of the run: finished: 13 generations",
        "Shafiee and Wong 2016 (arXiv 1609.01360), Table 1",
        "Architectural efficiency (A-E)",
    ):
        assert words in text


def test_boxes_are_for_pictures(make: Make) -> None:
    detector = make(2, detection=True)
    detector["dataset"] |= {"cars": {"test": 8}, "examples": {"000049": [[1.5, 2.5, 9.0, 9.0]]}}
    text = Parsed(page.render(detector)).text
    assert "cars.test 8" in text and "000049" not in text


def test_the_tables_numbers_are_on_the_page(lineage: dict[str, Any]) -> None:
    parsed = Parsed(page.render(lineage, PUBLISHED["mnist_lenet"]))
    assert len([a for a in parsed.all("th") if a.get("scope") == "row"]) > 13 + 6 + 6
    last = lineage["generations"][-1]
    for words in (f"{last['synapses']:,}", f"{last['architectural_efficiency']:.2f}×", "12.96×"):
        assert words in parsed.text


def test_pictures_are_inlined_for_light_and_dark_with_words(lineage: dict[str, Any]) -> None:
    parsed = Parsed(page.render(lineage, figures=_pictures()))
    assert [image["alt"] for image in parsed.all("img")] == [
        "alt of accuracy", "alt of survival", "alt of kernels"
    ]  # fmt: skip
    light = base64.b64encode(b"light").decode()
    dark = base64.b64encode(b"dark").decode()
    assert all(i["src"] == f"data:image/png;base64,{light}" for i in parsed.all("img"))
    assert all(dark in (s["srcset"] or "") for s in parsed.all("source"))
    assert all("prefers-color-scheme: dark" in (s["media"] or "") for s in parsed.all("source"))


def test_the_page_asks_for_nothing_from_outside(lineage: dict[str, Any]) -> None:
    html = page.render(lineage, PUBLISHED["mnist_lenet"], _pictures())
    parsed = Parsed(html)
    assert not parsed.all("script") and not parsed.all("link") and not parsed.all("iframe")
    assert "http:" not in html and "https:" not in html and "url(" not in html
    assert "@import" not in html


def test_wide_tables_fit_a_printed_page(lineage: dict[str, Any]) -> None:
    printed = page.render(lineage).split("@media print")[1].split("</style>")[0]
    # Paper cannot be scrolled: nothing may be wider than it because it must not be broken.
    assert ".scroll th, .scroll td" in printed and "white-space: normal" in printed
    assert "table { font-size: 7.5pt; }" in printed and "max-width: none" in printed


def test_the_page_is_accessible(lineage: dict[str, Any]) -> None:
    parsed = Parsed(page.render(lineage, PUBLISHED["mnist_lenet"], _pictures()))
    assert parsed.all("html")[0]["lang"] == "en"
    assert len(parsed.all("h1")) == 1
    assert all("alt" in image for image in parsed.all("img"))
    assert all(a.get("scope") in ("col", "row") for a in parsed.all("th"))
    assert len(parsed.all("caption")) == len(parsed.all("table"))
    ids = [attributes["id"] for _, attributes in parsed.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = [a["aria-labelledby"] for _, a in parsed.found if "aria-labelledby" in a]
    assert set(labels) <= set(ids)


@pytest.mark.parametrize("field", ["experiment", "command", "status"])
def test_text_is_escaped(make: Make, field: str) -> None:
    html = page.render(make(2, **{field: EVIL}))
    assert "<script" not in html
    assert EVIL in Parsed(html).text


def test_nested_values_names_and_reasons_are_escaped(make: Make) -> None:
    lineage = make(2, {EVIL: 100, "out": 10}, {EVIL: 10, "out": 10}, config={EVIL: {EVIL: EVIL}})
    lineage["environment"][EVIL] = EVIL
    lineage["dataset"]["name"] = EVIL
    pictures = [page.Drawn(Picture("accuracy", b"", EVIL), Picture("accuracy", b"", EVIL))]
    html = page.render(lineage, PUBLISHED["mnist_lenet"], pictures, [EVIL])
    assert "<script" not in html
    parsed = Parsed(html)
    assert parsed.all("img")[0]["alt"] == EVIL
    assert parsed.text.count(EVIL) >= 8


def test_without_a_paper_nothing_is_said_of_one(make: Make) -> None:
    text = Parsed(page.render(make(3), figures=_pictures())).text
    assert "None" not in text and "Beside the paper" not in text


def test_what_is_left_out_is_said(lineage: dict[str, Any]) -> None:
    text = Parsed(page.render(lineage, left_out=["The kernels are not shown: why."])).text
    assert "The kernels are not shown: why." in text


def test_only_the_measures_of_the_run_are_explained(make: Make) -> None:
    assert "Precision, recall" not in Parsed(page.render(make(1))).text
    text = Parsed(page.render(make(2, detection=True))).text
    assert "Precision, recall" in text and "classifies correctly" not in text


def test_what_was_not_measured_has_no_place(lineage: dict[str, Any]) -> None:
    for record in lineage["generations"]:
        for field in ("macs", "bytes_dense", "bytes_sparse", "train_seconds"):
            record[field] = None
    facts = [fact.name for fact in page._facts(lineage)]
    assert facts == ["Synapses", "Clusters"]
