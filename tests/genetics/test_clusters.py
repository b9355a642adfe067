"""Which parameters carry synapses."""

import jax.numpy as jnp

import evojax
from evojax.genetics import layout


def test_embeddings_are_no_synapses_whatever_they_are_embeddings_of():
    params = {
        "tokens": {"embedding": jnp.ones((5, 4))},
        "encoder": {"pos_embedding": jnp.ones((1, 9, 4))},
        "embedding": {"kernel": jnp.ones((3, 3, 1, 4))},
    }
    assert layout(params).roles == {
        "tokens/embedding": None,
        "encoder/pos_embedding": None,
        "embedding/kernel": evojax.Synapses(),
    }
