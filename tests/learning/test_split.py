"""Batches split over devices: what shares make together, and that they meet once a step."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax.learning import Network, NonFiniteLoss, Recipe, linen, population_mesh, trainer
from evojax.learning.images import normalise
from evojax.learning.population import population_steps, population_trainer, split_trainer
from evojax.learning.split import Split
from evojax.learning.steps import Moment, steps
from tests.learning import test_population as population

pytestmark = pytest.mark.usefixtures("full_compilation")

KEY = jax.random.key(7)
ONE_STEP = Recipe(
    optimizer="sgd", momentum=0.0, learning_rate=0.1, schedule="constant", warmup=0.0, batch_size=80
)


class Plain(nn.Module):
    """Has nothing that looks at a whole batch."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(4)(nn.relu(nn.Conv(4, (3, 3))(x)).reshape(x.shape[0], -1))


def plain():
    model = linen(Plain())
    params, _ = model.init(jax.random.key(0), population.SHAPE)
    masks = jax.tree.map(lambda leaf: jax.random.bernoulli(KEY, 0.7, leaf.shape), params)
    return model, Network(params, {}, masks)


def of_shares(function, parts):
    """A function of one device, on so many that share its arguments, on a first axis of each."""
    return jax.vmap(function, in_axes=None, axis_name="data", axis_size=parts)


def close(one, other, rtol=1e-5):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=1e-6), one, other)


def test_shares_are_those_of_a_batch_and_have_keys_of_their_own():
    split, batch = Split(4), jnp.arange(24).reshape(12, 2)
    shares = of_shares(split.share, 4)(batch)
    np.testing.assert_array_equal(shares.reshape(12, 2), batch)
    keys = jax.random.key_data(of_shares(split.key, 4)(KEY))
    assert len(np.unique(keys, axis=0)) == 4
    assert of_shares(split.total, 4)(jnp.int32(3)).tolist() == 4 * [12]
    whole = Split()
    assert whole.share(batch) is whole.total(batch) is whole.mean(batch) is batch
    assert whole.key(KEY) is KEY


def test_means_keep_structure_types_and_whole_numbers():
    def tree(index):
        low = index.astype(jnp.bfloat16)
        return {"a": jnp.full((2, 3), index, jnp.float32), "b": (low, jnp.int32(5), ()), "c": None}

    def joined(_):
        return Split(3).mean(tree(jax.lax.axis_index("data")))

    found = of_shares(joined, 3)(0)
    assert jax.tree.map(jnp.shape, found) == {"a": (3, 2, 3), "b": ((3,), (3,), ()), "c": None}
    assert found["b"][0].dtype == jnp.bfloat16 and found["b"][1].dtype == jnp.int32
    assert np.all(found["a"] == 1) and np.all(found["b"][0] == 1) and np.all(found["b"][1] == 5)


def test_a_step_follows_the_mean_gradient_of_the_shares():
    """By hand: each half of the batch is normalised by its own statistics."""
    model, network, data = population.MODEL, population.member(0), population.images()
    pure = steps(model, ONE_STEP, Split(2))
    state = pure.begin(*network)
    moment = Moment(KEY, jnp.int32(0), jnp.int32(1))
    after, loss, accuracy = of_shares(pure.epoch, 2)(state, network.masks, data, moment)

    def loss_of(params, rows):
        images = normalise(data.images[rows], data)
        logits, stats = model.forward(params, network.batch_stats, images, True)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), data.labels[rows][:, None], 1)
        return -chosen.mean(), (stats, jnp.mean(jnp.argmax(logits, 1) == data.labels[rows]))

    order_key, _ = jax.random.split(jax.random.fold_in(KEY, 0))
    halves = jax.random.permutation(order_key, 80).reshape(2, 40)
    found = [jax.value_and_grad(loss_of, has_aux=True)(state.params, rows) for rows in halves]
    (wanted_loss, (stats, right)), grads = jax.tree.map(lambda a, b: (a + b) / 2, *found)
    params = jax.tree.map(
        lambda leaf, grad, mask: leaf - 0.1 * grad * mask, state.params, grads, network.masks
    )
    wanted = (params, stats, wanted_loss, right)
    for device in range(2):
        shown = jax.tree.map(
            lambda leaf, device=device: leaf[device],
            (after.params, after.batch_stats, loss, accuracy),
        )
        close(shown, wanted)
    # The statistics are not those of the whole batch, or this would show nothing.
    whole, _, _ = steps(model, ONE_STEP).epoch(state, network.masks, data, moment)
    assert not np.allclose(whole.batch_stats["norm"]["var"], stats["norm"]["var"], rtol=1e-4)


@pytest.mark.parametrize("parts", [2, 4])
def test_without_a_look_at_the_batch_it_is_the_same_training(parts):
    (model, network), data = plain(), population.images()
    recipe = Recipe(batch_size=16)
    moment = Moment(KEY, jnp.int32(0), jnp.int32(1))
    whole, split = steps(model, recipe), steps(model, recipe, Split(parts))
    wanted = whole.epoch(whole.begin(*network), network.masks, data, moment)
    found = of_shares(split.epoch, parts)(split.begin(*network), network.masks, data, moment)
    close(jax.tree.map(lambda leaf: leaf[0], found), wanted, rtol=1e-4)
    rows = whole.sample(KEY, data)
    close(of_shares(split.loss, parts)(rows, network, data)[0], whole.loss(rows, network, data))
    assert of_shares(split.right, parts)(network, data).tolist() == parts * [
        whole.right(network, data)
    ]


@pytest.mark.parametrize("batch_size", [16, 15, 400])  # Of 75 images the last two leave some over.
def test_no_image_is_left_out_of_an_evaluation(batch_size):
    (model, network), data = plain(), population.images()
    data = data._replace(images=data.images[:75], labels=jnp.zeros(75, jnp.int32))
    sure = jax.tree.map(jnp.zeros_like, network)  # Of the first class.
    pure = steps(model, Recipe(batch_size=batch_size), Split(2))
    assert of_shares(pure.right, 2)(sure, data).tolist() == [75, 75]


def test_batches_that_do_not_split_evenly_are_refused():
    (model, network), data = plain(), population.images()
    pure = steps(model, Recipe(batch_size=15), Split(2))
    for function, *given in (
        (pure.epoch, pure.begin(*network), network.masks, data, Moment(KEY, 0, 1)),
        (pure.loss, jnp.arange(30).reshape(2, 15), network, data),
        (lambda data: pure.sample(KEY, data), data),
    ):
        with pytest.raises(ValueError, match="batches of 15 images cannot be split evenly over 2"):
            of_shares(function, 2)(*given)
    with pytest.raises(ValueError, match="over 4 devices: .* at least as many images"):
        Split(4).size(16, 3)


def test_fewer_images_than_a_batch_has_are_split_as_far_as_they_go():
    """An odd number: one of them is left out, another one in each epoch."""
    (model, network), data = plain(), population.images()
    few = data._replace(images=data.images[:75], labels=data.labels[:75])
    pure = steps(model, Recipe(batch_size=80), Split(2))
    assert pure.sample(KEY, few).shape == (1, 74)
    state, moment = pure.begin(*network), Moment(KEY, jnp.int32(0), jnp.int32(1))
    _, loss, _ = of_shares(pure.epoch, 2)(state, network.masks, few, moment)
    assert np.isfinite(loss).all()
    assert Split().size(80, 75) == 75


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_split_training_mixes_no_types_silently(dtype):
    pure = steps(population.MODEL, Recipe(batch_size=16, compute_dtype=dtype), Split(2))
    network, moment = population.member(0), Moment(KEY, jnp.int32(0), jnp.int32(1))
    # In bfloat16 it is Flax's normalisation that mixes them.
    with jax.numpy_dtype_promotion("strict" if dtype == "float32" else "standard"):
        state = jax.eval_shape(pure.begin, *network)
        after, loss, accuracy = jax.eval_shape(
            of_shares(pure.epoch, 2), state, network.masks, population.images(), moment
        )
    assert jax.tree.map(lambda leaf: (leaf.shape[1:], leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )
    assert loss.dtype == accuracy.dtype == jnp.float32


def test_every_share_is_augmented_by_itself(monkeypatch):
    (model, network), data = plain(), population.images()
    recipe = dataclasses.replace(ONE_STEP, shift=2)
    moment = Moment(KEY, jnp.int32(0), jnp.int32(1))

    def loss():
        pure = steps(model, recipe, Split(2))
        state = pure.begin(*network)
        return of_shares(pure.epoch, 2)(state, network.masks, data, moment)[1][0]

    of_their_own = loss()
    monkeypatch.setattr(Split, "key", lambda split, key: key)
    assert loss() != of_their_own


ON_TWO_CORES = """
from tests.learning import test_split
test_split.on_two_devices()
"""


def on_two_devices():
    """What needs two real devices; run by the test below."""
    assert jax.device_count() == 2
    (model, network), data, mesh = plain(), population.images(), population_mesh(1, 2)
    recipe = Recipe(batch_size=16)
    kits = trainer(model, recipe), split_trainer(model, recipe, mesh)
    ends = [kit.train(KEY, network, data, 2) for kit in kits]
    close(*[end.params for end, _ in ends], rtol=1e-3)
    for epoch, other in zip(*[history for _, history in ends], strict=True):
        close(epoch[:2], other[:2])
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(ends[1][0]))
    assert kits[0].evaluate(ends[0][0], data) == kits[1].evaluate(ends[0][0], data)
    close(*[kit.loss(KEY, data)(network) for kit in kits])

    broken = network._replace(params=jax.tree.map(lambda leaf: leaf * jnp.nan, network.params))
    with pytest.raises(NonFiniteLoss, match="in epoch 1 of 2"):
        kits[1].train(KEY, broken, data, 2)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(network))
    given = jax.tree.map(jnp.copy, network)
    split_trainer(model, recipe, mesh, donate=True).train(KEY, given, data, 1)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given.params))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(given.masks))

    # With running statistics as well, one exchange in a step.
    pure = population_steps(population.MODEL, population.RECIPE, mesh)
    keys, networks = population.population(1)
    state = pure.begin(*networks)
    compiled = jax.jit(pure.epoch).lower(
        state, networks.masks, keys, data, jnp.int32(0), jnp.int32(1)
    )
    program = compiled.compile().as_text()
    exchanges = ("all-reduce", "all-gather", "collective-permute", "all-to-all")
    # A step's, and after the last how many were right.
    assert [program.count(f" {name}(") for name in exchanges] == [2, 0, 0, 0]
    assert program.count("-start(") == 0
    one = population_trainer(population.MODEL, population.RECIPE, mesh).train
    single = split_trainer(population.MODEL, population.RECIPE, mesh).train
    stack, _ = one(keys, networks, data, 1)
    alone, _ = single(keys[0], jax.tree.map(lambda leaf: leaf[0], networks), data, 1)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b), stack, alone)


def test_two_devices_meet_once_a_step():
    done = subprocess.run(
        [sys.executable, "-c", ON_TWO_CORES],
        env=population.environment(2), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
