"""The masked network made physically smaller: every channel that no output misses is gone."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from evojax.deploy.checks import arrays, check_round_to, check_same, cut_off, matched, traced
from evojax.deploy.function import function
from evojax.deploy.interpreter import sliced
from evojax.deploy.removal import removal, views
from evojax.deploy.report import Report, describe
from evojax.deploy.trace import Apply

PyTree = Any


class Compacted(NamedTuple):
    """A physically smaller network.

    Attributes:
        apply: ``(variables, x) -> outputs`` as before, over the smaller variables.
        variables: in the structure that they had.
        masks: in the structure that they had.
        report: what was removed, and what was kept though it might have died.
    """

    apply: Apply
    variables: PyTree
    masks: PyTree
    report: Report


def compact(
    apply: Apply, variables: PyTree, masks: PyTree, example_input: PyTree, round_to: int = 1
) -> Compacted:
    """Removes every channel that cannot influence the output.

    Channels are found by tracing the function; nothing is declared. One goes if all that it adds
    to any sum is certainly 0, for instance because no synapse enters it and its bias is 0, or if
    nothing reads it; then its entries go from every variable. What a channel adds that is another
    constant is added as one, except in a convolution with padding, for which it stays. A weight
    that is exactly 0 counts as pruned, whatever the masks say. What is not understood is kept whole
    and named in the report. The output is that of the masked network, within rounding, which is
    checked on the example, on random inputs, and on some of another length of the first axis.

    The new function is an ordinary JAX function: jit, grad, vmap and `jax.export` work on it. It
    takes inputs that differ from the example in their first axis. Derivatives are those of the
    primitive operations: a layer's own (`jax.custom_vjp`, `jax.custom_jvp`) are not asked, so a
    straight-through estimator has none, and that of `jax.nn.relu` at exactly 0 is not 0. A network
    trained further may well wake what was 0 here, in the masked network but not in the compacted
    one.

    Args:
        apply: ``(variables, x) -> outputs``, PyTrees of arrays: `flax.linen.Module.apply`, a
            function that merges an NNX state, or any function that JAX can trace. Scans are
            written out where they are short, and kept whole where they are not.
        variables: PyTree of arrays.
        masks: PyTree of bool arrays in the shapes of the variables, ``None`` where nothing is
            pruned; like the variables or like ``variables["params"]``. Paths may be missing.
        example_input: what apply takes as x; only its first axis may differ in later calls.
        round_to: keep widths at multiples of this where anything is removed, with channels that
            could go, up to all of them.

    Returns:
        The smaller network.

    Raises:
        ValueError: if the function rejects variables or input, if masks are of another network, if
            every path is dead, or if round_to is below 1.
        InconsistentError: if the outcome does not compute the same: a defect of evojax.

    Example:
        >>> import jax.numpy as jnp
        >>> def apply(variables, x):
        ...     return jnp.maximum(x @ variables["hidden"], 0) @ variables["out"]
        >>> variables = {"hidden": jnp.ones((3, 8)), "out": jnp.ones((8, 2))}
        >>> masks = {"hidden": jnp.arange(8) < 5 * jnp.ones((3, 1), int), "out": None}
        >>> small = compact(apply, variables, masks, jnp.ones((1, 3)))
        >>> print(small.report)
        hidden  3x8 -> 3x5
        out     8x2 -> 5x2
        40 entries of variables, 31 of them alive -> 25
    """
    check_round_to(round_to)
    fitted, places = matched(variables, masks)
    variables, x = arrays(variables, example_input)
    program = traced(apply, variables, x)
    leaves, structure = jax.tree.flatten(variables)
    leaves = _masked(leaves, fitted)
    seen = views(apply, variables, x, program)
    found = seen[0].liveness(leaves)
    if not found.vary:
        raise ValueError(cut_off(program, found.passes))
    whole, removed, added, unread = removal(seen, found, leaves, round_to)
    kept = [whole.kept(var) for var in program.variables]
    small = [sliced(leaf, keep) for leaf, keep in zip(leaves, kept, strict=True)]
    smaller = function(apply, variables, x, removed, added, unread)
    compacted = jax.tree.unflatten(structure, small)
    for view in seen:
        check_same(
            lambda x: apply(jax.tree.unflatten(structure, leaves), x),
            jax.jit(lambda x: smaller(compacted, x)),
            view.x,
        )
    marks, masks_structure = jax.tree.flatten(masks, is_leaf=lambda leaf: leaf is None)
    cut_masks = [
        mask if mask is None or place is None else sliced(mask, kept[place])
        for mask, place in zip(marks, places, strict=True)
    ]
    return Compacted(
        smaller,
        compacted,
        jax.tree.unflatten(masks_structure, cut_masks),
        describe(whole, fitted, added),
    )


@jax.jit  # One program, not one for each shape.
def _masked(leaves: list[jax.Array], masks: list[jax.Array | None]) -> list[jax.Array]:
    return [
        leaf if mask is None else jnp.where(mask, leaf, jnp.zeros_like(leaf))
        for leaf, mask in zip(leaves, masks, strict=True)
    ]
