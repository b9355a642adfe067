"""The published points, against what the papers say of them in words."""

from __future__ import annotations

import pytest

from evojax.report.paper import PUBLISHED, published

# "Table, last row": generation, architectural efficiency, measures, cluster efficiency E.
LAST = {
    "mnist_lenet": (13, 125.09, (0.9775,), 9.71),
    "stl10_lenet": (10, 56.27, (0.5658,), 5.96),
    "cifar_alexnet": (6, 14.39, (0.8459,), 2.82),
    "cifar_resnet56": (7, 4.02, (0.8979,), 2.25),
    "kitti_detectnet": (11, 9.97, (0.7884, 0.6373), 8.16),
}


@pytest.mark.parametrize("name", LAST)
def test_the_last_published_generation(name: str) -> None:
    paper = PUBLISHED[name]
    point = paper.points[-1]
    measures = tuple(
        value for value in (point.accuracy, point.precision, point.recall) if value is not None
    )
    last = (point.generation, point.architectural_efficiency, measures, paper.clusters.mean)
    assert last == LAST[name]
    assert "arXiv" in paper.source and "Table" in paper.source


@pytest.mark.parametrize("name", PUBLISHED)
def test_generations_and_efficiencies_rise(name: str) -> None:
    points = PUBLISHED[name].points
    assert points[0].generation == 1 and points[0].architectural_efficiency == 1.0
    rising = [(point.generation, point.architectural_efficiency) for point in points]
    assert rising == sorted(set(rising))


@pytest.mark.parametrize("name", ["mnist_lenet", "stl10_lenet", "cifar_alexnet"])
def test_the_overall_cluster_efficiency_is_the_mean_of_the_layers(name: str) -> None:
    clusters = PUBLISHED[name].clusters
    mean = sum(clusters.layers) / len(clusters.layers)
    assert abs(mean - clusters.mean) < 0.011  # the papers cut off the third decimal


def test_where_nothing_is_published() -> None:
    assert published("digits_lenet") is None
    assert published("mnist_lenet") is PUBLISHED["mnist_lenet"]
