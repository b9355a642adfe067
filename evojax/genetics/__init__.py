"""Genetic encoding and offspring synthesis: pure functions on PyTrees."""

from evojax.genetics.census import Census, LayerCensus, census, living
from evojax.genetics.channels import Channels
from evojax.genetics.clusters import (
    Follows,
    Layout,
    Rule,
    Synapses,
    check_masks,
    clustering,
    default_rule,
    following,
    layout,
    nested,
)
from evojax.genetics.encoding import (
    Dna,
    Encoding,
    cluster_driven,
    magnitude,
    random,
    synapse_driven,
)
from evojax.genetics.environment import Environment, budget, constant
from evojax.genetics.fronting import Fronting, fronting
from evojax.genetics.mating import Mating, gene_tagged
from evojax.genetics.synthesis import Draw, Synthesis, check_together, synthesis

__all__ = [
    "Census",
    "Channels",
    "Dna",
    "Draw",
    "Encoding",
    "Environment",
    "Follows",
    "Fronting",
    "LayerCensus",
    "Layout",
    "Mating",
    "Rule",
    "Synapses",
    "Synthesis",
    "budget",
    "census",
    "check_masks",
    "check_together",
    "cluster_driven",
    "clustering",
    "constant",
    "default_rule",
    "following",
    "fronting",
    "gene_tagged",
    "layout",
    "living",
    "magnitude",
    "nested",
    "random",
    "synapse_driven",
    "synthesis",
]
