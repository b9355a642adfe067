"""evojax: ever smaller neural networks by evolutionary synthesis, in JAX."""

from evojax._version import __version__
from evojax.genetics import (
    Dna,
    Draw,
    Encoding,
    Environment,
    Follows,
    Mating,
    Synapses,
    Synthesis,
    budget,
    census,
    cluster_driven,
    constant,
    default_rule,
    following,
    gene_tagged,
    magnitude,
    random,
    synapse_driven,
    synthesis,
)
from evojax.learning import freeze_pruned

__all__ = [
    "__version__",
    "Dna",
    "Draw",
    "Encoding",
    "Environment",
    "Follows",
    "Mating",
    "Synapses",
    "Synthesis",
    "budget",
    "census",
    "cluster_driven",
    "constant",
    "default_rule",
    "following",
    "freeze_pruned",
    "gene_tagged",
    "magnitude",
    "random",
    "synapse_driven",
    "synthesis",
]
