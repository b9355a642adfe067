"""Which axes are tied together, in small literal tables."""

import jax.numpy as jnp
import pytest

from evojax.deploy.labels import Atoms, end_to_end
from evojax.deploy.rules.reshape import blocks
from evojax.deploy.topology import topology
from evojax.deploy.trace import trace


def channels(apply, shapes, x):
    """Atoms along every axis of every variable, numbered as they appear; 0 is kept whole."""
    found = topology(trace(apply, {name: jnp.ones(shape) for name, shape in shapes.items()}, x))
    numbers = {0: 0}
    table = {}
    for path, var in zip(found.program.paths, found.program.variables, strict=True):
        roots = [found.atoms.find(axis)[:, 0].tolist() for axis in found.axes[var]]
        table[path] = [[numbers.setdefault(root, len(numbers)) for root in row] for row in roots]
    return table


def test_what_is_joined_is_one_and_what_is_whole_stays_so():
    atoms = Atoms()
    one, other, third = atoms.fresh(3), atoms.fresh(3), atoms.fresh(3)
    atoms.join(one, other)
    assert atoms.find(other)[:, 0].tolist() == atoms.find(one)[:, 0].tolist() == [1, 2, 3]
    atoms.whole(other, "because")
    assert atoms.find(one)[:, 0].tolist() == [0, 0, 0] and atoms.reason(one) == "because"
    assert atoms.join(third, None) is None and atoms.find(third)[:, 0].tolist() == [0, 0, 0]
    assert end_to_end([(None, 2), (None, 1)]) is None


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ((4, 6), (4, 6), [([0], [0]), ([1], [1])]),
        ((6,), (1, 1, 6), [([], [0]), ([], [1]), ([0], [2])]),
        ((2, 12), (2, 3, 4), [([0], [0]), ([1], [1, 2])]),
        ((2, 1, 3, 4), (2, 12), [([0], [0]), ([1], []), ([2, 3], [1])]),
    ],
)
def test_blocks_of_a_reshape(old, new, expected):
    assert list(blocks(old, new)) == expected


def test_a_dense_layer_after_flattening_reads_each_channel_at_every_place():
    def apply(v, x):
        return (x @ v["a"]).reshape(2, -1) @ v["b"]

    table = channels(apply, {"a": (3, 2), "b": (4, 1)}, jnp.ones((2, 2, 3)))
    assert table == {"a": [[0, 0, 0], [1, 2]], "b": [[1, 2, 1, 2], [0]]}


def test_heads_that_a_reshape_splits_live_or_die_whole():
    def apply(v, x):
        heads = (x @ v["a"]).reshape(2, 2, 3)
        return jnp.tanh(heads).reshape(2, 6) @ v["b"]

    table = channels(apply, {"a": (1, 6), "b": (6, 1)}, jnp.ones((2, 1)))
    assert table == {"a": [[0], [1, 1, 1, 2, 2, 2]], "b": [[1, 1, 1, 2, 2, 2], [0]]}


def test_a_residual_sum_ties_and_a_concatenation_does_not():
    def apply(v, x):
        y = x @ v["a"] + x @ v["b"]
        return jnp.concatenate([y, x @ v["c"]], 1)[:, 1:] @ v["d"]

    shapes = {"a": (1, 2), "b": (1, 2), "c": (1, 2), "d": (3, 1)}
    table = channels(apply, shapes, jnp.ones((2, 1)))
    assert table == {
        "a": [[0], [1, 2]],
        "b": [[0], [1, 2]],
        "c": [[0], [3, 4]],
        "d": [[2, 3, 4], [0]],
    }
