"""report.html: one file that explains a run, with its pictures, to somebody who was not there."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from evojax.evolution.record import Lineage, Record, learnt_nothing
from evojax.report import tables, text
from evojax.report.lineage import flat, measures, smallest_within
from evojax.report.paper import Published
from evojax.report.style import Picture

DROP = 0.03  # the papers report networks down to about this far below the ancestor

TERMS = (
    ("Synapse", "One weight of the network; biases are counted too."),
    ("Cluster", "Synapses that live or die together: by default one kernel, the weights between "
     "one input channel and one output channel."),
    ("Generation", "A network trained, measured and taken as the parent of the next; the first is "
     "the ancestor."),
    ("Architectural efficiency (A-E)", "The ancestor's synapses divided by this network's."),
    ("Cluster efficiency (C-E)", "The ancestor's clusters divided by this network's: for one "
     "layer, or as the unweighted mean E over the layers, the classifier left out. “pooled” "
     "divides the totals instead."),
    ("Accuracy", "Share of the test images that the network classifies correctly."),
    ("Precision, recall", "Share of the detections that are right; share of the objects that are "
     "detected."),
    ("MACs", "Multiply-accumulate operations for one image, those with pruned weights left out: "
     "what a device that skips them would have to do."),
    ("Stored sparse", "Bytes of the living weights and of where they are; in memory the network "
     "is still an array with zeros."),
)  # fmt: skip

CAPTIONS = {
    "accuracy": "How much accuracy each size costs: up and to the right is better. Each dot is a "
    "generation.",
    "survival": "Which layers gave up their synapses, and how fast (logarithmic scale).",
    "scenes": "Test images as the detector sees them, smaller and smaller networks from top to "
    "bottom.",
    "kernels": "What is left of the layer that sees the image: one row a generation, one column a "
    "kernel, colours relative to the generation's largest weight.",
}


class Drawn(NamedTuple):
    """One picture for a light and for a dark page."""

    light: Picture
    dark: Picture


class Fact(NamedTuple):
    """A number worth a large print."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class _Figure:
    light: str
    dark: str
    alt: str
    caption: str


def headline(lineage: Lineage) -> str:
    """The result in one line.

    It speaks of the smallest network at most 3 points below its ancestor: "125-fold fewer
    synapses, 99.1 % of test images right (ancestor 99.5 %)".
    """
    ancestor, best = lineage["generations"][0], smallest_within(lineage, DROP)
    if learnt_nothing(ancestor):
        return f"The ancestor: {_score(lineage, ancestor)}; there is nothing to keep"
    if best["generation"] == ancestor["generation"]:
        fallen = f"every offspring is more than {100 * DROP:.0f} points worse"
        begun = "no offspring yet" if len(lineage["generations"]) == 1 else fallen
        return f"The ancestor: {_score(lineage, ancestor)}; {begun}"
    smaller = text.fold(best["architectural_efficiency"])
    before = _score(lineage, ancestor).removesuffix(" of test images right")
    return f"{smaller} fewer synapses, {_score(lineage, best)} (ancestor {before})"


def render(
    lineage: Lineage,
    paper: Published | None = None,
    figures: Sequence[Drawn] = (),
    left_out: Sequence[str] = (),
) -> str:
    """The page as HTML: no scripts, no requests, every value escaped.

    Args:
        lineage: What to report.
        paper: The published lineage to compare with.
        figures: Pictures, in the order of the page.
        left_out: For every picture that could not be drawn, a sentence that says why.
    """
    return _template().render(
        lineage=lineage,
        css=Markup(files("evojax.report").joinpath("page.css").read_text(encoding="utf-8")),
        headline=headline(lineage),
        lead=_lead(lineage),
        facts=_facts(lineage),
        figures=[_figure(drawn) for drawn in figures],
        left_out=left_out,
        comparison=tables.comparison(lineage, paper) if paper else None,
        source=paper.source if paper else "",
        generations=tables.generations(lineage),
        layers=tables.layers(lineage, paper),
        terms=[term for term in TERMS if _concerns(lineage, term[0])],
        config=list(flat(lineage["config"])),
        environment=list(flat(lineage["environment"])),
        dataset=list(flat({**lineage["dataset"], "examples": {}})),  # Shown as pictures.
    )


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    source = files("evojax.report").joinpath("page.html").read_text(encoding="utf-8")
    return environment.from_string(source)


def _score(lineage: Lineage, record: Record) -> str:
    names = measures(lineage)
    if names == ("accuracy",):
        return f"{text.percent(record['accuracy'], 1)} % of test images right"
    return ", ".join(f"{name} {text.percent(record[name], 1)} %" for name in names)


def _lead(lineage: Lineage) -> str:
    """What the headline leaves out: where it stands in the run, and what came after."""
    records, best = lineage["generations"], smallest_within(lineage, DROP)
    if len(records) == 1:
        return f"So far only the ancestor is trained ({lineage['status']})."
    words = (
        f"Generation {best['generation']} of {len(records)}: the smallest network at most "
        f"{100 * DROP:.0f} points below its ancestor, {text.count(records[0]['synapses'])} "
        f"synapses become {text.count(best['synapses'])}."
    )
    last = records[-1]
    if last is not best:
        words += (
            f" The last generation is {text.fold(last['architectural_efficiency'])} smaller, with "
            f"{_score(lineage, last)}."
        )
    return words


def _facts(lineage: Lineage) -> list[Fact]:
    """Ancestor and best network side by side, as far as the run measured it."""
    ancestor, best = lineage["generations"][0], smallest_within(lineage, DROP)
    trained = [record.get("train_seconds") for record in lineage["generations"]]
    facts = [
        Fact("Synapses", text.count(best["synapses"]), f"of {text.count(ancestor['synapses'])}"),
        Fact("Clusters", text.count(best["clusters"]), f"of {text.count(ancestor['clusters'])}"),
    ]
    if best.get("macs") is not None and ancestor.get("macs") is not None:
        before = text.operations(ancestor["macs"])
        facts.append(Fact("MACs, zeros skipped", text.operations(best["macs"]), f"of {before}"))
    if best.get("bytes_sparse") is not None and ancestor.get("bytes_dense") is not None:
        before = f"of {text.size(ancestor['bytes_dense'])}"
        facts.append(Fact("Weights, stored sparse", text.size(best["bytes_sparse"]), before))
    if None not in trained:
        note = f"{len(trained)} generation{'s' * (len(trained) > 1)}"
        facts.append(Fact("Training", text.duration(sum(trained)), note))
    return facts


def _figure(drawn: Drawn) -> _Figure:
    caption = CAPTIONS.get(drawn.light.name, "")
    return _Figure(_inline(drawn.light), _inline(drawn.dark), drawn.light.alt, caption)


def _inline(picture: Picture) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.png).decode("ascii")


def _concerns(lineage: Lineage, term: str) -> bool:
    """A term about measures that this run does not have explains nothing."""
    detection = measures(lineage) != ("accuracy",)
    return {"Accuracy": not detection, "Precision, recall": detection}.get(term, True)
