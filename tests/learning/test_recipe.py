"""Ranges of a recipe, and its learning rate at literal points."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from evojax.learning import Recipe
from evojax.learning.masking import density
from evojax.learning.recipe import compute_dtype, learning_rate, optimizer


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer", "lion"),
        ("schedule", "step"),
        ("compute_dtype", "float16"),
        ("learning_rate", 0.0),
        ("learning_rate", -1e-3),
        ("learning_rate", float("inf")),
        ("learning_rate", float("nan")),
        ("warmup", 1.0),
        ("warmup", -0.1),
        ("weight_decay", -1.0),
        ("l1", -1e-3),
        ("l1", float("nan")),
        ("weight_decay", float("inf")),
        ("momentum", 1.0),
        ("label_smoothing", 1.0),
        ("label_smoothing", float("nan")),
        ("batch_size", 0),
        ("sparse_rate", -0.1),
        ("sparse_rate", 1.1),
        ("shift", -1),
        ("crop", -1),
        ("cutout", -1),
        ("shift", 1.5),
        ("batch_size", True),
        ("flip", "no"),
    ],
)
def test_values_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"{field} must be .*; got "):
        Recipe(**{field: value})


def test_images_are_moved_by_shift_or_by_crop_but_not_by_both():
    with pytest.raises(ValueError, match=r"crop must be 0 where shift is positive \(2\).*; got 4"):
        Recipe(shift=2, crop=4)
    assert Recipe(crop=4, flip=True, cutout=8).shift == Recipe(shift=2).crop == 0


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("cosine", 0.2, {0: 0, 0.1: 0.5, 0.2: 1, 0.6: 0.5, 0.8: 0.5 - 2**-1.5, 1: 0}),
        ("cosine", 0.0, {0: 1, 0.5: 0.5, 1: 0}),
        ("constant", 0.5, {0: 0, 0.25: 0.5, 0.5: 1, 0.9: 1}),
        ("constant", 0.0, {0: 1, 0.5: 1, 1: 1}),
    ],
)
def test_learning_rate_at_literal_points(schedule, warmup, expected):
    recipe = Recipe(learning_rate=0.01, schedule=schedule, warmup=warmup)
    got = {at: float(learning_rate(recipe, jnp.float32(at))) for at in expected}
    assert got == pytest.approx({at: 0.01 * share for at, share in expected.items()}, abs=1e-8)


def test_a_sparser_network_takes_longer_steps():
    recipe = Recipe(learning_rate=0.01, sparse_rate=0.5, schedule="constant", warmup=0.0)
    rates = {share: float(learning_rate(recipe, jnp.float32(0.5), share)) for share in (1, 1 / 16)}
    assert rates == pytest.approx({1: 0.01, 1 / 16: 0.04})


def test_density_is_the_living_share_of_what_can_be_pruned():
    masks = {"w": jnp.array([[True, False], [False, False]]), "b": None}
    assert float(density(masks)) == 0.25
    assert float(density({"w": None})) == 1.0


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_optimizer_is_optaxs_own_at_a_constant_rate(name):
    recipe = Recipe(
        optimizer=name, learning_rate=0.1, schedule="constant", warmup=0.0, weight_decay=0.01
    )
    is_matrix = {"w": True, "b": False}
    if name == "adamw":
        reference = optax.adamw(0.1, b1=0.9, weight_decay=0.01, mask=is_matrix)
    else:
        reference = optax.chain(
            optax.trace(0.9, nesterov=True),
            optax.add_decayed_weights(0.01, is_matrix),
            optax.scale(-0.1),
        )
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    ours, theirs = optimizer(recipe).init(params), reference.init(params)
    for seed in range(3):
        grads = jax.tree.map(
            lambda p, s=seed: jnp.sin(s + jnp.arange(p.size * 1.0)).reshape(p.shape), params
        )
        update, ours = optimizer(recipe).update(grads, ours, params, progress=jnp.float32(0.3))
        expected, theirs = reference.update(grads, theirs, params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), update, expected)


def test_l1_shrinks_every_weight_towards_zero_and_never_across():
    recipe = Recipe(optimizer="sgd", learning_rate=0.5, schedule="constant", warmup=0.0, l1=0.2)
    params = {"w": jnp.array([[1.0, -1.0, 0.05, -0.05, 0.0]]), "b": jnp.array([1.0])}
    grads = jax.tree.map(jnp.zeros_like, params)
    tx = optimizer(recipe)
    updates, _ = tx.update(grads, tx.init(params), params, progress=jnp.float32(0.3))
    moved = optax.apply_updates(params, updates)
    np.testing.assert_allclose(moved["w"], [[0.9, -0.9, 0.0, 0.0, 0.0]], atol=1e-7)
    np.testing.assert_array_equal(moved["b"], params["b"])


def test_l1_ends_at_the_lassos_solution():
    # Least squares with orthonormal inputs: the solution is the soft threshold of the targets.
    recipe = Recipe(
        optimizer="sgd", learning_rate=0.1, schedule="constant", warmup=0.0, momentum=0.0, l1=0.3
    )
    targets = jnp.array([[1.0, -0.7, 0.2, -0.1]])
    tx = optimizer(recipe)
    params = {"w": jnp.ones((1, 4))}
    state = tx.init(params)
    for _ in range(300):
        grads = {"w": params["w"] - targets}
        updates, state = tx.update(grads, state, params, progress=jnp.float32(0.3))
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["w"], [[0.7, -0.4, 0.0, 0.0]], atol=1e-5)


@pytest.mark.parametrize(("backend", "name"), [("cpu", "float32"), ("gpu", "bfloat16")])
def test_auto_computes_low_where_there_is_an_accelerator(monkeypatch, backend, name):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert compute_dtype(Recipe(compute_dtype="auto")) == jnp.dtype(name)
    assert compute_dtype(Recipe(compute_dtype="bfloat16")) == jnp.dtype("bfloat16")
