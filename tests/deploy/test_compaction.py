"""Compacted networks compute what the masked ones do, and nothing is left that could go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Literal

from evojax.deploy import compact
from evojax.deploy.topology import rule_of, topology
from evojax.deploy.trace import bind, trace
from evojax.genetics.trees import flatten
from tests.deploy.architectures import ARCHITECTURES


def some_masks(variables, seed):
    """Channels dead at either end, and some single weights; running statistics are never pruned."""
    random = np.random.default_rng(seed)
    leaves, structure = flatten(variables)
    masks = []
    for path, leaf in leaves.items():
        mask = random.random(leaf.shape) < 0.9
        for axis in range(max(leaf.ndim - 2, 0), leaf.ndim):
            dead = random.random(leaf.shape[axis]) < 0.3
            mask &= ~np.expand_dims(dead, [i for i in range(leaf.ndim) if i != axis])
        if path.endswith("bias") and random.random() < 0.7:
            mask[:] = False
        pruned = "batch_stats" not in path and not path.endswith(("mean", "var"))
        masks.append(jnp.asarray(mask) if pruned else None)
    return jax.tree.unflatten(structure, masks)


def masked(variables, masks):
    leaves, structure = flatten(variables)
    marks = flatten(masks)[0].values()
    pairs = zip(leaves.values(), marks, strict=True)
    return jax.tree.unflatten(
        structure,
        [leaf if mask is None else jnp.asarray(np.where(mask, leaf, 0)) for leaf, mask in pairs],
    )


def compacted(name, seed):
    """A network compacted under the first masks from this seed that leave a living path."""
    apply, variables, x = ARCHITECTURES[name]()
    for attempt in range(100):
        masks = some_masks(variables, 1000 * seed + attempt)
        try:
            return apply, masked(variables, masks), x, compact(apply, variables, masks, x)
        except ValueError as error:
            if "every path" not in str(error):
                raise
    raise AssertionError(name)


def others_like(x, count=8):
    random = np.random.default_rng(7)
    if jnp.issubdtype(x.dtype, jnp.integer):
        return jnp.asarray(random.integers(0, 10, (count, *x.shape[1:])))
    return jnp.asarray(random.standard_normal((count, *x.shape[1:])), x.dtype)


def unmistakable(variables, x):
    """Weights and inputs with which no ReLU is silent, no two paths cancel and not all saturate."""
    if jnp.issubdtype(x.dtype, jnp.floating):
        few, many = np.split(np.abs(x), [len(x) // 2])
        x = jnp.asarray(np.concatenate([0.3 * few, 30 * many]))
    return jax.tree.map(lambda leaf: jnp.asarray(np.abs(leaf)), variables), x


def removals_missed(apply, variables, x):
    """Which channels change the output when they are left out of every sum.

    By an interpreter of its own, which leaves out by multiplying with 0. The weights are those
    given, or others with which what lives cannot stay unnoticed.
    """
    program = trace(apply, variables, x)
    channels = topology(program)
    roots = channels.atoms.find(np.arange(len(channels.atoms)))
    classes = np.setdiff1d(roots[1 : channels.prunable + 1], [0])

    def without(gone, variables, x):
        values = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
        leaves = [*jax.tree.leaves(variables), x]
        values.update(zip(program.jaxpr.invars, leaves, strict=True))

        def value(atom):
            return atom.val if isinstance(atom, Literal) else values[atom]

        for eqn, sinks in zip(program.jaxpr.eqns, channels.sinks, strict=True):
            args = [value(atom) for atom in eqn.invars]
            for operand, axis, _ in sinks:
                labels = channels.of(eqn.invars[operand])[axis]
                if labels is not None and rule_of(eqn).sums:
                    left = ~jnp.any(roots[labels] == gone, 1)
                    shape = [1] * args[operand].ndim
                    shape[axis] = -1
                    args[operand] = args[operand] * left.reshape(shape).astype("float32")
            values.update(zip(eqn.outvars, bind(eqn, args), strict=True))
        return jnp.concatenate([jnp.ravel(value(out)) for out in program.jaxpr.outvars])

    nothing_and_each = jnp.asarray([-1, *classes], jnp.int32)

    @jax.jit
    def outputs(variables, x):
        return jax.lax.map(lambda gone: without(gone, variables, x), nothing_and_each)

    changed = np.zeros(len(classes), bool)
    for arguments in ((variables, x), unmistakable(variables, x)):
        before, *after = np.asarray(outputs(*arguments))
        changed |= np.array([np.max(np.abs(output - before)) > 1e-6 for output in after], bool)
    return changed


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_output_is_that_of_the_masked_network(name, seed=0):
    apply, variables, x, small = compacted(name, seed)
    others = others_like(x)
    expected = jax.tree.leaves(jax.jit(apply)(variables, others))
    found = jax.tree.leaves(jax.jit(small.apply)(small.variables, others))
    for one, other in zip(expected, found, strict=True):
        scale = float(np.max(np.abs(one)))
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5 * scale)
    needed = removals_missed(small.apply, small.variables, others)
    assert np.all(needed), f"{np.sum(~needed)} channels could go as well"
