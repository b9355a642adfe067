"""Pruned weights are 0.0 whatever moves them; masks that do not fit are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from evojax.learning import apply_masks, freeze_pruned

MASKS = {"w": np.array([[True, False], [False, True]]), "b": None}
OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": optax.adam(0.1),
    "adamw": optax.adamw(0.1, weight_decay=0.1),
}


@pytest.fixture
def params():
    return {"w": jnp.array([[1.0, 0.0], [0.0, -2.0]]), "b": jnp.array([3.0, 0.0])}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weights_stay_zero_through_many_steps(name, params):
    tx = optax.chain(OPTIMIZERS[name], freeze_pruned(MASKS))
    plain = OPTIMIZERS[name]

    def loss(p):
        return jnp.sum((p["w"] @ p["b"] - 1.0) ** 2) + jnp.sum(p["w"] ** 2 - p["w"])

    def steps(tx):
        def step(carry, _):
            p, state = carry
            updates, state = tx.update(jax.grad(loss)(p), state, p)
            return (optax.apply_updates(p, updates), state), None

        return jax.lax.scan(step, (params, tx.init(params)), None, 200)[0][0]

    masked, free = jax.jit(lambda: (steps(tx), steps(plain)))()
    assert np.asarray(masked["w"])[~MASKS["w"]].tolist() == [0.0, 0.0]
    assert np.all(np.asarray(free["w"])[~MASKS["w"]] != 0.0)  # Without masks they would move.
    assert np.all(np.asarray(masked["w"])[MASKS["w"]] != np.asarray(params["w"])[MASKS["w"]])
    assert np.all(np.asarray(masked["b"]) != np.asarray(params["b"]))  # A None mask leaves alone.


def test_weight_decay_alone_moves_no_pruned_weight():
    tx = optax.chain(optax.adamw(0.1, weight_decay=0.5), freeze_pruned({"w": jnp.array([False])}))
    params = {"w": jnp.array([2.0])}  # A pruned weight is 0; decay would move one that is not.
    updates, _ = tx.update({"w": jnp.array([1.0])}, tx.init(params), params)
    assert updates["w"].tolist() == [0.0]


def test_updates_that_are_not_numbers_are_masked_too():
    updates, _ = freeze_pruned(MASKS).update(
        {"w": jnp.full((2, 2), jnp.nan), "b": jnp.zeros(2)}, optax.EmptyState()
    )
    assert np.isnan(updates["w"]).tolist() == MASKS["w"].tolist()


def test_it_is_stateless_and_takes_extra_arguments():
    tx = optax.chain(optax.sgd(1.0), freeze_pruned(MASKS))
    params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    updates, _ = tx.update(params, tx.init(params), params, value=1.0)
    assert updates["w"].tolist() == [[-1.0, 0.0], [0.0, -1.0]]
    assert jax.tree.leaves(freeze_pruned(MASKS).init(params)) == []


def test_apply_masks_gives_literal_zeros(params):
    dense = {"w": jnp.array([[1.0, 2.0], [3.0, 4.0]], jnp.bfloat16), "b": params["b"]}
    masked = apply_masks(dense, MASKS)
    assert masked["w"].tolist() == [[1.0, 0.0], [0.0, 4.0]]
    assert masked["w"].dtype == jnp.bfloat16
    assert masked["b"] is dense["b"]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"w": MASKS["w"]}, r"missing \['b'\], unknown \[\]"),
        (MASKS | {"c": None}, r"missing \[\], unknown \['c'\]"),
        ({"w": {"x": MASKS["w"]}, "b": None}, r"missing \['w'\], unknown \['w/x'\]"),
        (MASKS | {"w": np.ones(2, bool)}, r"mask of w must be bool of shape \(2, 2\); got bool"),
        (MASKS | {"w": np.ones((1, 2, 2), bool)}, r"mask of w must be bool of shape \(2, 2\)"),
        (MASKS | {"w": np.ones((2, 2))}, r"mask of w must be bool .* got float"),
    ],
)
def test_masks_that_do_not_fit_are_refused(params, masks, message):
    with pytest.raises(ValueError, match=message):
        apply_masks(params, masks)
    with pytest.raises(ValueError, match=message):
        freeze_pruned(masks).update(params, optax.EmptyState())
