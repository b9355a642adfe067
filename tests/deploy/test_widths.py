"""What is left of small functions, in literal widths, and that it holds for every batch size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax.deploy import compact, export

A = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)), jnp.float32)
B = jnp.asarray(np.random.default_rng(1).normal(size=(6, 2)), jnp.float32)
C = jnp.abs(jnp.asarray(np.random.default_rng(2).normal(size=6), jnp.float32))
DEAD = jnp.ones((4, 6), bool).at[:, jnp.array([1, 3])].set(False)


def inputs(n):
    return jnp.asarray(np.random.default_rng(n).normal(size=(n, 4)), jnp.float32)


def rotated(x):
    """Rotary positions: pairs of channels turn by an angle that an iota makes."""
    angle = jnp.arange(3.0) * x.shape[0]
    one, other = x[:, :3], x[:, 3:]
    first = one * jnp.cos(angle) - other * jnp.sin(angle)
    return jnp.concatenate([first, one * jnp.sin(angle) + other * jnp.cos(angle)], 1)


FUNCTIONS = {
    # What a dead channel adds is summed over the batch: without it the sum would be the example's.
    "deep set": (lambda v, x: jax.nn.relu(x @ v["a"] + v["c"]).sum(0) @ v["b"], 6),
    "deep set without bias": (lambda v, x: jax.nn.relu(x @ v["a"]).sum(0) @ v["b"], 4),
    "softmax over the batch": (lambda v, x: jax.nn.softmax(x @ v["a"], 0) @ v["b"], 6),
    "a factor of the batch": (
        lambda v, x: jax.nn.sigmoid(x @ v["a"]) * jnp.ones((len(x), 1)).sum() @ v["b"], 6,
    ),
    "constants by row": (
        lambda v, x: jax.nn.sigmoid(x @ v["a"] + jnp.arange(len(x))[:, None]) @ v["b"], 6,
    ),
    "sigmoid": (lambda v, x: jax.nn.sigmoid(x @ v["a"]) @ v["b"], 4),
    "mean over the batch": (lambda v, x: jax.nn.sigmoid(x @ v["a"]).mean(0) @ v["b"], 4),
    "places": (lambda v, x: jax.nn.relu(x @ v["a"]) * jnp.arange(6.0) @ v["b"], 3),
    "rotary positions": (lambda v, x: rotated(x @ v["a"]) @ v["b"], 6),
    "a repeated token": (
        lambda v, x: (x @ v["a"] + jnp.repeat(v["c"][None], len(x), 0)) @ v["b"], 4,
    ),
    # In a batch of one all that they are multiplied with is 0.
    "row numbers": (lambda v, x: x @ v["a"] * jnp.arange(len(x))[:, None] @ v["b"] + x[:, :2], 4),
    "earlier rows": (
        lambda v, x: np.tril(np.ones((len(x), len(x)), np.float32), -1) @ (x @ v["a"]) @ v["b"]
        + x[:, :2], 4,
    ),
    "all but one": (lambda v, x: x @ v["a"] * (len(x) - 1.0) @ v["b"] + x[:, :2], 4),
    "small numbers": (lambda v, x: jax.nn.sigmoid(x @ v["a"]) @ (v["b"] * 1e-8) * 1e8, 4),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("example", [1, 3])
def test_what_is_left_holds_for_every_batch(name, example):
    apply, width = FUNCTIONS[name]
    variables = {"a": A, "b": B, "c": C}
    small = compact(apply, variables, {"a": DEAD}, inputs(example))
    assert small.variables["a"].shape[1] == small.variables["b"].shape[0] == width
    masked = variables | {"a": A * DEAD}
    for n in (1, 2, 3, 8):
        expected = apply(masked, inputs(n))
        np.testing.assert_allclose(
            small.apply(small.variables, inputs(n)), expected, rtol=1e-4, atol=1e-5
        )


def test_weights_that_meet_only_weights_stay_weights():
    def apply(variables, x):
        return x @ (variables["left"] @ variables["right"])

    variables = {"left": A[:, :2], "right": B[:2].T @ jnp.ones((2, 5))}
    small = compact(apply, variables, {"left": None, "right": None}, inputs(3))
    assert [leaf.shape for leaf in jax.tree.leaves(small.variables)] == [(4, 2), (2, 5)]
    grads = jax.grad(lambda v: small.apply(v, inputs(3)).sum())(small.variables)
    assert all(jnp.abs(leaf).sum() > 0 for leaf in jax.tree.leaves(grads))


def test_a_rank_that_died_goes():
    def apply(variables, x):
        return x @ (variables["left"] @ variables["right"])

    variables = {"left": A[:, :2], "right": B[:2].T @ jnp.ones((2, 5))}
    dead = jnp.ones((4, 2), bool).at[:, 0].set(False)
    small = compact(apply, variables, {"left": dead}, inputs(3))
    assert [leaf.shape for leaf in jax.tree.leaves(small.variables)] == [(4, 1), (1, 5)]


def test_what_only_prints_is_passed_over(capfd):
    def apply(variables, x):
        jax.debug.print("mean {}", x.mean())
        return jax.nn.relu(x @ variables["a"]) @ variables["b"]

    small = compact(apply, {"a": A, "b": B}, {"a": DEAD}, inputs(3))
    assert small.variables["a"].shape == (4, 4)


def test_numbers_that_give_way_do_so_afterwards():
    def apply(variables, x):
        return jax.nn.relu(x @ variables["a"] * variables["s"]) @ variables["b"]

    half = {"a": A.astype(jnp.bfloat16), "b": B.astype(jnp.bfloat16), "s": 2.0}
    x = inputs(3).astype(jnp.bfloat16)
    small = compact(apply, half, {"a": DEAD, "b": None, "s": None}, x)
    assert small.apply(small.variables, x).dtype == apply(half, x).dtype == jnp.bfloat16
    firm = small.variables | {"s": jnp.float32(2.0)}
    assert small.apply(firm, x).dtype == jnp.float32


def test_exported_it_holds_for_every_batch(tmp_path):
    apply, _ = FUNCTIONS["deep set"]
    small = compact(apply, {"a": A, "b": B, "c": C}, {"a": DEAD}, inputs(3))
    (file, *_) = export(small.apply, small.variables, inputs(3), tmp_path / "net").files
    again = jax.export.deserialize(bytearray(file.read_bytes()))
    expected = apply({"a": A * DEAD, "b": B, "c": C}, inputs(5))
    np.testing.assert_allclose(again.call(inputs(5)), expected, rtol=1e-4, atol=1e-5)
