"""What the papers published, as data: the points a run is compared with.

Sources:
    [1] Shafiee and Wong, "Evolutionary Synthesis of Deep Neural Networks via Synaptic
        Cluster-driven Genetic Encoding", 2016, arXiv 1609.01360.
    [2] Shafiee, Barshan and Wong, "Evolution in Groups: A Deeper Look at Synaptic Cluster Driven
        Evolution of Deep Neural Networks", 2017, arXiv 1704.02081.

Where both papers print a table, [1] is taken: it has the rows that [2] leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

FIRST = "Shafiee and Wong 2016 (arXiv 1609.01360)"
SECOND = "Shafiee, Barshan and Wong 2017 (arXiv 1704.02081)"


@dataclass(frozen=True)
class Point:
    """One published generation; the measures are fractions of the test set (0.9947 is 99.47 %)."""

    generation: int
    architectural_efficiency: float
    accuracy: float | None = None
    precision: float | None = None
    recall: float | None = None


@dataclass(frozen=True)
class Clusters:
    """Published cluster efficiencies of one generation, classifier left out.

    `layers` is empty where a paper gives only `mean`, its overall efficiency E.
    """

    generation: int
    layers: tuple[float, ...]
    mean: float
    source: str


@dataclass(frozen=True)
class Published:
    """A published lineage: network, data set, its points and the table they stand in."""

    network: str
    dataset: str
    points: tuple[Point, ...]
    source: str
    clusters: Clusters


def _accuracies(*rows: tuple[int, float, float]) -> tuple[Point, ...]:
    return tuple(Point(generation, ratio, accuracy=value) for generation, ratio, value in rows)


PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "mnist_lenet": Published(
            "LeNet-5",
            "MNIST",
            _accuracies(
                (1, 1.00, 0.9947),
                (5, 5.20, 0.9941),
                (7, 12.09, 0.9928),
                (9, 32.23, 0.9884),
                (11, 62.74, 0.9849),
                (13, 125.09, 0.9775),
            ),
            f"{FIRST}, Table 1",
            Clusters(13, (3.6, 12.96, 8.83, 13.47), 9.71, f"{FIRST}, Table 2"),
        ),
        "stl10_lenet": Published(
            "LeNet-5",
            "STL-10",
            _accuracies(
                (1, 1.00, 0.5774),
                (3, 2.37, 0.5933),
                (5, 5.81, 0.6039),
                (7, 14.99, 0.6051),
                (9, 38.22, 0.5744),
                (10, 56.27, 0.5658),
            ),
            f"{FIRST}, Table 1",
            Clusters(10, (3.31, 8.46, 5.49, 6.56), 5.96, f"{FIRST}, Table 2"),
        ),
        "cifar_alexnet": Published(
            "AlexNet",
            "CIFAR-10",
            _accuracies(
                (1, 1.00, 0.8669),
                (2, 1.64, 0.8814),
                (3, 2.82, 0.8766),
                (4, 5.06, 0.8688),
                (5, 8.39, 0.8588),
                (6, 14.39, 0.8459),
            ),
            f"{FIRST}, Table 1",
            Clusters(6, (2.01, 3.10, 3.50, 3.40, 3.29, 2.97, 1.51), 2.82, f"{FIRST}, Table 3"),
        ),
        "cifar_resnet56": Published(
            "ResNet-56",
            "CIFAR-10",
            _accuracies(
                (1, 1.00, 0.9300),
                (3, 1.66, 0.9195),
                (5, 3.04, 0.9027),
                (6, 3.69, 0.8976),
                (7, 4.02, 0.8979),
            ),
            f"{SECOND}, Table II",
            # Printed beside generation 6, with the accuracy that Table II gives generation 7.
            Clusters(6, (), 2.25, f"{SECOND}, Table V"),
        ),
        "kitti_detectnet": Published(
            "DetectNet",
            "KITTI",
            (
                Point(1, 1.00, precision=0.7803, recall=0.6203),
                Point(7, 2.48, precision=0.8193, recall=0.6931),
                Point(10, 5.24, precision=0.8136, recall=0.6757),
                Point(11, 9.97, precision=0.7884, recall=0.6373),
            ),
            f"{SECOND}, Table III",
            Clusters(11, (), 8.16, f"{SECOND}, Table VI"),
        ),
    }
)


def published(experiment: str) -> Published | None:
    """What the papers published for `experiment` (a key of `PUBLISHED`), None where nothing."""
    return PUBLISHED.get(experiment)
