"""Everything that decides a lineage, as one frozen dataclass."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Literal

from evojax import genetics
from evojax.learning import Recipe
from evojax.learning.recipe import require, require_types

MOST_DRAWS = 1_000_000
"""More would take days, whatever the network: a draw and its loss are some milliseconds."""

OF_OFFSPRING = (
    "max_drop", "encoding", "selection_pressure", "truncation", "environment", "clusters",
    "synapses", "min_clusters", "sweep", "heredity", "litter", "parents", "mates", "tagging", "chi",
)  # fmt: skip
"""Settings on which the ancestor does not depend."""

Kind = Literal["channel", "filter", "kernel", "synapse"]


@dataclass(frozen=True)
class Settings:
    """How a lineage evolves. The defaults are the papers' method, read literally.

    Attributes:
        seed: of all randomness.
        generations: number of the last generation; 1 is the ancestor.
        max_drop: stop after the generation whose test accuracy lies more than so many percentage
            points below the ancestor's (the papers: 3 or 4); of a detector, whose precision or
            recall does, both averaged over batches as the papers have them.
        epochs: epochs of each generation, the ancestor first; the last number holds for the rest.
        encoding: how weights become probabilities.
        selection_pressure: beta of Eq. 4 and 5, in the two driven encodings; 1 is the paper.
        truncation: of Eq. 4, as a share of the layer's largest strength; cluster_driven alone.
        cluster: what lives or dies together: one kind of clusters, or several that nest, the
            outermost first; cluster_driven, and random where channels are among them. The others
            draw synapses.
        output_cluster: what lives or dies together in the layers that give the outputs, if not the
            same. With filters for clusters a class dies as a whole there; with kernel none does.
        environment: budget solves for the expected share, constant multiplies by it.
        currency: what the budget is counted in. Other than synapses it needs channels for
            clusters, and counts the dense network that is left without the dead ones.
        clusters: surviving share of clusters, in (0, 1]; in another currency than synapses the
            surviving share of the cost.
        synapses: surviving share of synapses within them, in (0, 1].
        sizes: architectural efficiencies that the offspring must reach, generation by generation,
            in place of `clusters` times `synapses` of the parent; after the last one that holds
            again. Networks of equal size can so be compared. In another currency than synapses
            they are the ancestor's cost over the offspring's.
        min_clusters: clusters that a layer keeps whatever is drawn; a sweep may remove more.
        sample_biases: sample biases like synapses.
        sweep: remove synapses through which no signal can reach the output.
        heredity: the offspring's weights before training: its parent's; of several parents, for
            each synapse the mean of those that have it, or that of the fittest that has it; new
            ones; or the ones the ancestor started from, which gene tags find.
        litter: how many architectures are drawn, one after another and at most a million, for each
            network that is trained: the one whose loss on training images is the lowest before any
            training. Needs inherited weights; magnitude draws none, for its ranking leaves nothing
            to chance.
        population: how many networks of a generation live on, to be parents of the next; the
            ancestor is one, and stands for all of its generation.
        offspring: how many networks a generation trains; the fittest on held-out training images
            live on, or all where there are as many as the population.
        parents: of every offspring; all of them must share its clusters, or as many as `chi` says.
        mates: which of the population are an offspring's parents: the fittest, or those that are
            drawn for it.
        tagging: align parents by gene tags, that is by what stems from the same place in the
            ancestor; else place by place once their living channels are moved to the front.
        chi: share of the parents, in (0, 1], that must have a cluster for it to be passed on.
        holdout: share of the training images held out; by default 0.1 where the fittest are chosen,
            be it to live on, to mate or to leave their weights, else 0.
        recipe: how each network is trained.
    """

    seed: int = 0
    generations: int = 13
    max_drop: float = 3.0
    epochs: tuple[int, ...] = (10, 3)
    encoding: Literal["cluster_driven", "synapse_driven", "magnitude", "random"] = "cluster_driven"
    selection_pressure: float = 1.0
    truncation: float = 0.05
    cluster: Kind | tuple[Kind, ...] = "kernel"
    output_cluster: Kind | None = None
    environment: Literal["budget", "constant"] = "budget"
    currency: Literal["synapses", "macs", "parameters"] = "synapses"
    clusters: float = 0.8
    synapses: float = 0.8
    sizes: tuple[float, ...] = ()
    min_clusters: int = 1
    sample_biases: bool = False
    sweep: bool = False
    heredity: Literal["inherit", "mean", "fittest", "newborn", "rewind"] = "inherit"
    litter: int = 1
    population: int = 1
    offspring: int = 1
    parents: int = 1
    mates: Literal["fittest", "random"] = "fittest"
    tagging: bool = True
    chi: float = 1.0
    holdout: float | None = None
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        """Checks the ranges, the encoding's and the environment's included.

        Raises:
            ValueError: naming the field, its value and what is allowed.
        """
        require_types(self)
        require(isinstance(self.recipe, Recipe), "recipe", self.recipe, "a Recipe")
        for name in ("epochs", "sizes"):
            value = getattr(self, name)
            right = isinstance(value, tuple | list) and all(
                isinstance(n, int | float) for n in value
            )
            require(right, name, value, "a tuple of numbers, as Python has them")
        for name in (
            "generations", "litter", "population", "offspring", "parents", "min_clusters",
        ):  # fmt: skip
            value = getattr(self, name)
            require(value >= 1, name, value, "a whole number of at least 1")
        require(
            self.litter <= MOST_DRAWS,
            "litter", self.litter, f"at most {MOST_DRAWS:,}, drawn one after another",
        )  # fmt: skip
        require(0 <= self.seed < 1 << 32, "seed", self.seed, "a whole number in [0, 2**32)")
        require(
            0 < self.max_drop <= 100, "max_drop", self.max_drop, "in (0, 100] (percentage points)"
        )
        require(
            len(self.epochs) > 0 and all(_whole(n) and 1 <= n < 1 << 31 for n in self.epochs),
            "epochs", self.epochs, "one or more whole numbers of at least 1, below 2**31",
        )  # fmt: skip
        require(
            all(1 < small < large for small, large in zip(self.sizes, self.sizes[1:], strict=False))
            and all(1 < size < float("inf") for size in self.sizes)
            and (not self.sizes or self.environment == "budget"),
            "sizes", self.sizes, "rising numbers above 1, in a budget environment",
        )  # fmt: skip
        self._check_population()
        require(
            self.litter == 1 or self.heredity not in ("newborn", "rewind"),
            "litter", self.litter, "1 where weights are not inherited: new ones tell nothing yet",
        )  # fmt: skip
        require(
            self.currency in ("synapses", "macs", "parameters")
            and (self.currency == "synapses" or self.environment == "budget"),
            "currency", self.currency, "synapses, or macs or parameters in a budget environment",
        )  # fmt: skip
        single = ("filter", "kernel", "synapse")
        alike = self.encoding == "cluster_driven" and self.cluster in single
        require(
            self.output_cluster is None or (alike and self.output_cluster in single),
            "output_cluster", self.output_cluster,
            "filter, kernel or synapse, where cluster_driven draws clusters of one of these kinds",
        )  # fmt: skip
        genetics.check_together(self._encoding(), self._environment(), self._mating())

    def _check_population(self) -> None:
        require(
            self.offspring >= self.population,
            "offspring", self.offspring, f"at least the population, {self.population}",
        )  # fmt: skip
        require(
            self.parents <= self.population,
            "parents", self.parents, f"at most the population, {self.population}",
        )  # fmt: skip
        require(self.mates in ("fittest", "random"), "mates", self.mates, "fittest or random")
        require(0 < self.chi <= 1, "chi", self.chi, "in (0, 1]")
        require(0 <= self.held_out < 1, "holdout", self.holdout, "in [0, 1)")
        require(
            self.held_out > 0 or not self.chooses,
            "holdout",
            self.holdout,
            "positive where the fittest are to live on, to mate or to leave their weights: they "
            "are chosen on held-out images",
        )
        single = ("inherit",) if self.parents == 1 else ()
        require(
            self.heredity in (*single, "mean", "fittest", "newborn", "rewind"),
            "heredity",
            self.heredity,
            "inherit, mean, fittest, newborn or rewind, and not inherit where parents > 1",
        )
        require(
            self.tagging or self.heredity != "rewind",
            "heredity", self.heredity, "not rewind without tagging: places are not the ancestor's",
        )  # fmt: skip

    @property
    def chooses(self) -> bool:
        """Whether anything depends on which networks are the fittest."""
        return (
            self.offspring > self.population
            or (self.parents < self.population and not self.mates_differ)
            or (self.heredity == "fittest" and self.parents > 1)
        )

    @property
    def mates_differ(self) -> bool:
        """Whether parents are drawn for each offspring; else all have the same."""
        return self.mates == "random" and self.parents < self.population

    @property
    def held_out(self) -> float:
        """The share of the training images that is held out."""
        if self.holdout is None:
            return 0.1 if self.chooses else 0.0
        return self.holdout

    def epochs_of(self, generation: int) -> int:
        """How many epochs a generation trains for."""
        return epochs_of(self.epochs, generation)

    def epochs_after(self, generation: int) -> int:
        """How many epochs all generations after one train for, with one offspring each."""
        listed = self.epochs[generation : self.generations]
        rest = self.generations - max(generation, len(self.epochs))
        return sum(listed) + max(rest, 0) * self.epochs[-1]

    def size_of(self, generation: int) -> float | None:
        """The architectural efficiency that a generation must reach, if the settings name one."""
        return size_of(self.sizes, generation)

    @property
    def by_channel(self) -> bool:
        """Whether channels are among the clusters."""
        return "channel" in self._encoding().cluster

    def rule(
        self, norms: Mapping[str, str] = MappingProxyType({}), outputs: Collection[str] = ()
    ) -> genetics.Rule:
        """The rule that gives parameters their roles.

        Args:
            norms: scales and offsets of normalisation, each with the kernel with whose channels it
                dies (`Model.norms`). They do not count as synapses.
            outputs: names of the layers that give the outputs.
        """
        rule: genetics.Rule = partial(genetics.default_rule, sample_biases=self.sample_biases)
        if self.output_cluster is not None:
            rule = genetics.clustering(outputs, self.output_cluster, rule)
        return genetics.following(norms, rule)

    def synthesis(
        self, rule: genetics.Rule | None = None, channels: genetics.Channels | None = None
    ) -> genetics.Synthesis:
        """The synthesis that these settings describe.

        Args:
            rule: gives parameters their roles; by default that of a network without normalisation.
            channels: of the network, if `by_channel`.
        """
        encoding, environment = self._encoding(), self._environment()
        rule = rule or self.rule()
        return genetics.synthesis(encoding, environment, rule, self._mating(), channels)

    def _mating(self) -> genetics.Mating | None:
        return genetics.gene_tagged(self.chi) if self.parents > 1 else None

    def _encoding(self) -> genetics.Encoding:
        # Made whatever the encoding is, for it checks what the record then holds.
        driven = genetics.cluster_driven(self.selection_pressure, self.truncation, self.cluster)
        structured = "channel" in driven.cluster
        require(
            not structured or self.encoding not in ("synapse_driven", "magnitude"),
            "cluster",
            self.cluster,
            f"without channel where the encoding is {self.encoding}, which draws synapses",
        )
        match self.encoding:
            case "cluster_driven":
                return driven
            case "synapse_driven":
                return genetics.synapse_driven(self.selection_pressure)
            case "magnitude":
                return genetics.magnitude()
            case "random":
                return genetics.random(self.cluster if structured else "synapse")
        raise ValueError(
            "encoding must be cluster_driven, synapse_driven, magnitude or random; "
            f"got {self.encoding!r}"
        )

    def _environment(self) -> genetics.Environment:
        match self.environment:
            case "budget" if self.currency != "synapses":
                cost = {self.currency: self.clusters}
                return genetics.budget(
                    synapses=self.synapses, **cost, min_clusters=self.min_clusters
                )
            case "budget":
                return genetics.budget(self.clusters, self.synapses, min_clusters=self.min_clusters)
            case "constant":
                return genetics.constant(
                    self.clusters, self.synapses, min_clusters=self.min_clusters
                )
        raise ValueError(f"environment must be budget or constant; got {self.environment!r}")


def _whole(value: object) -> bool:
    """Whether it is a number as JSON holds it, and a whole one."""
    return isinstance(value, int) and not isinstance(value, bool)


def epochs_of(epochs: tuple[int, ...], generation: int) -> int:
    """The entry of `Settings.epochs` for a generation."""
    return epochs[min(generation, len(epochs)) - 1]


def size_of(sizes: tuple[float, ...], generation: int) -> float | None:
    """The entry of `Settings.sizes` for a generation; the ancestor has none."""
    index = generation - 2
    return sizes[index] if 0 <= index < len(sizes) else None
