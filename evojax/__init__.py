"""evojax: neural networks made really smaller and faster by evolutionary synthesis, in JAX."""

from evojax.genetics import (
    Dna,
    Draw,
    Encoding,
    Environment,
    Follows,
    Synapses,
    Synthesis,
    budget,
    census,
    cluster_driven,
    constant,
    default_rule,
    magnitude,
    random,
    synapse_driven,
    synthesis,
)

__version__ = "0.1.0"

__all__ = [
    "Dna",
    "Draw",
    "Encoding",
    "Environment",
    "Follows",
    "Synapses",
    "Synthesis",
    "budget",
    "census",
    "cluster_driven",
    "constant",
    "default_rule",
    "magnitude",
    "random",
    "synapse_driven",
    "synthesis",
]
