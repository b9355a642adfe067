"""Which parameters carry synapses."""

import jax
import jax.numpy as jnp
import pytest

import evojax
from evojax.genetics import layout
from evojax.genetics.trees import flatten


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


def test_some_modules_may_have_clusters_of_their_own():
    params = {
        "out": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)},
        "outer": {"kernel": jnp.ones((4, 3))},
        "embedding": jnp.ones((3, 3)),
    }
    rule = evojax.clustering(["out", "embedding"], "kernel")
    plan = layout(params, rule, "filter")
    assert plan.roles == evojax.default_rule(_shapes(params)) | {
        "out/kernel": evojax.Synapses("kernel")
    }
    assert {group.paths: group.levels for group in plan.groups} == {
        ("out/kernel",): ((),),
        ("outer/kernel",): ((0,),),
    }


def test_no_output_dies_as_a_whole_where_its_synapses_are_its_clusters():
    params = {"hidden": jnp.ones((8, 16)), "out": jnp.ones((16, 10))}
    ways = {"filter": evojax.default_rule, "kernel": evojax.clustering(["out"], "kernel")}
    living = {}
    for name, rule in ways.items():
        evolve = evojax.synthesis(
            evojax.cluster_driven(cluster="filter"), evojax.budget(0.5, 1.0), rule
        )
        keys = jax.random.split(jax.random.key(0), 20)
        masks = jax.vmap(evolve.offspring, (0, None, None))(keys, params, evolve.ancestor(params))
        living[name] = masks["out"].any(1).sum(1)
    assert living["filter"].mean() < 7
    assert living["kernel"].min() == 10


def _shapes(params):
    leaves, _ = flatten(params)
    return {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in leaves.items()}


def test_more_synapses_than_can_be_counted_are_refused():
    """They would be counted as a negative number, and every draw be cut to nothing."""
    large = {"one": jax.ShapeDtypeStruct((1 << 15, 1 << 15), jnp.float32)}
    large["scale"] = jax.ShapeDtypeStruct((1 << 31,), jnp.float32)  # Has no synapses.
    assert layout(large)
    large["two"] = large["one"]
    with pytest.raises(ValueError, match=r"has 2,147,483,648 synapses: expected at most"):
        layout(large)
