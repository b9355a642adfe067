"""What offspring inherit, of one parent or of several that mate."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from evojax.genetics.clusters import Group, Layout
from evojax.genetics.encoding import Encoding, Gene
from evojax.genetics.mating import Mating
from evojax.genetics.trees import PyTree, flatten


def one_parent(params: PyTree, mating: Mating | None) -> PyTree:
    """The parameters of one parent, as far as their shapes go.

    Raises:
        ValueError: if parents mate, but not every array has them on its first axis.
    """
    if mating is None:
        return params
    numbers = {path: jnp.shape(leaf)[:1] for path, leaf in flatten(params)[0].items()}
    if len(set(numbers.values())) > 1 or () in numbers.values() or (0,) in numbers.values():
        raise ValueError(
            "several parents mate: expected every array to have them on its first axis, at least "
            f"one and the same number everywhere; got {numbers}. Stack them with "
            "jax.tree.map(lambda *leaves: jnp.stack(leaves), *parents)."
        )
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf)[1:], jnp.result_type(leaf)), params
    )


def inherited(
    params: PyTree, masks: PyTree, plan: Layout, encoding: Encoding, mating: Mating | None
) -> tuple[list[Gene], dict[str, Any]]:
    """What offspring inherit: the groups' log-probabilities, and masks of all that may live."""
    leaves, _ = flatten(params)
    marks, _ = flatten(masks)
    genes = [
        _encode(encoding, mating, group, group.stacked(leaves), group.stacked(marks))
        for group in plan.groups
    ]
    if mating is not None:
        for path in plan.followers:
            marks[path] = mating.shared(marks[path])
        for group, gene in zip(plan.groups, genes, strict=True):
            alive = gene.synapses > -jnp.inf
            for level in gene.clusters:
                alive &= level > -jnp.inf
            marks |= {path: alive[index] for index, path in enumerate(group.paths)}
    return genes, marks


def _encode(
    encoding: Encoding,
    mating: Mating | None,
    group: Group,
    weights: jax.Array,
    masks: jax.Array,
) -> Gene:
    """Log-probabilities of a group's stacked members."""

    def gene(weights: jax.Array, mask: jax.Array) -> Gene:
        if mating is None:
            return encoding.probabilities(encoding.strengths(weights, mask, group.levels))
        parents = jax.vmap(lambda w, m: encoding.strengths(w, m, group.levels))(weights, mask)
        return encoding.probabilities(mating.strengths(parents))

    return jax.vmap(gene)(weights, masks)
