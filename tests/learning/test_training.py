"""The compiled epoch: what it computes, how often it compiles, what it leaves alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from evojax.learning import (
    Model,
    Network,
    NonFiniteLoss,
    Recipe,
    apply_masks,
    on_device,
    trainer,
)
from evojax.learning import steps as steps_module
from evojax.learning.images import augment, normalise

SHAPE = (8, 8, 1)
RECIPE = Recipe(batch_size=16, learning_rate=0.02)
KEY = jax.random.key(7)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def a_network(model, share=1.0, seed=0):
    """Fresh weights, of whose kernels the given share is alive."""
    params, batch_stats = model.init(jax.random.key(seed), SHAPE)
    random = np.random.default_rng(seed)
    masks = jax.tree.map(
        lambda leaf: random.random(leaf.shape) < share if leaf.ndim > 1 else None, params
    )
    return Network(params, batch_stats, masks)


@pytest.fixture(scope="module")
def images(dataset):
    return on_device(*dataset.train)


@pytest.fixture(scope="module")
def tiny_trainer(tiny):
    return trainer(tiny, RECIPE)


@pytest.fixture(scope="module")
def trained(tiny, tiny_trainer, images):
    return tiny_trainer.train(KEY, a_network(tiny), images, 20)


def test_it_learns(trained, tiny_trainer, images, dataset):
    network, history = trained
    assert history[-1].loss < 0.3 * history[0].loss
    assert history[-1].accuracy > 0.95
    assert tiny_trainer.evaluate(network, on_device(*dataset.test, images)) > 0.9


def test_nothing_compiles_again_for_other_masks_keys_weights_and_lengths(
    tiny, tiny_trainer, trained, images, compilations
):
    tiny_trainer.evaluate(trained[0], images)
    network = a_network(tiny, 0.5, seed=1)
    restored = jax.tree.map(np.asarray, a_network(tiny, 0.3, seed=2))
    with compilations() as count:
        child, _ = tiny_trainer.train(jax.random.key(1), network, images, 3)
        tiny_trainer.train(jax.random.key(2), child, images, 2)
        tiny_trainer.train(jax.random.key(3), restored, images, 1)
        tiny_trainer.evaluate(child, images)
    assert count() == 0


def test_an_epoch_transfers_nothing_but_its_number_and_its_result(tiny, tiny_trainer, images):
    """Every implicit transfer is an error; the loss that comes back is an explicit one."""
    network = jax.tree.map(jnp.asarray, a_network(tiny, 0.5))
    tiny_trainer.train(KEY, network, images, 1)
    with jax.transfer_guard("disallow"):
        tiny_trainer.train(KEY, network, images, 2)


@pytest.mark.parametrize(
    ("name", "optimizer", "augmentation"),
    [("dense", "sgd", {"shift": 1}), ("normalised", "adamw", {"crop": 1, "flip": True})],
)
def test_the_compiled_epoch_equals_a_plain_loop(name, optimizer, augmentation, request, images):
    recipe = Recipe(
        optimizer=optimizer, batch_size=20, learning_rate=0.02, weight_decay=0.1, warmup=0.25,
        label_smoothing=0.1, **augmentation,
    )  # fmt: skip
    model = request.getfixturevalue(name)
    network = a_network(model, 0.6)
    got, history = trainer(model, recipe).train(KEY, network, images, 2)

    is_matrix = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)  # noqa: E731
    total = 2 * (64 // 20)

    def rate(step):
        share = (step + 0.5) / total
        return 0.02 * jnp.minimum(share / 0.25, 0.5 * (1 + jnp.cos(jnp.pi * (share - 0.25) / 0.75)))

    def warm_rate(step):
        share = (step + 0.5) / total
        return jnp.where(share < 0.25, 0.02 * share / 0.25, rate(step))

    if optimizer == "adamw":
        tx = optax.adamw(warm_rate, weight_decay=0.1, mask=is_matrix)
    else:
        tx = optax.chain(
            optax.trace(0.9, nesterov=True),
            optax.add_decayed_weights(0.1, is_matrix),
            optax.scale_by_learning_rate(warm_rate),
        )
    params = apply_masks(network.params, network.masks)
    batch_stats, state = network.batch_stats, tx.init(params)

    @jax.jit
    def step(params, batch_stats, state, batch, labels):
        def loss_of(p):
            logits, stats = model.forward(p, batch_stats, batch, True)
            targets = 0.9 * jax.nn.one_hot(labels, 4) + 0.1 / 4
            return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(logits), -1)), stats

        (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, state = tx.update(grads, state, params)
        return apply_masks(optax.apply_updates(params, updates), network.masks), stats, state, loss

    for epoch in range(2):
        order_key, augment_key = jax.random.split(jax.random.fold_in(KEY, epoch))
        order = jax.random.permutation(order_key, 64)
        losses = []
        for index in range(3):
            rows = order[20 * index : 20 * (index + 1)]
            step_key = jax.random.fold_in(augment_key, index)
            batch = augment(step_key, images.images[rows], images, recipe)
            params, batch_stats, state, loss = step(
                params, batch_stats, state, batch, images.labels[rows]
            )
            losses.append(float(loss))
        assert history[epoch].loss == pytest.approx(np.mean(losses), rel=1e-5)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(close, got.params, params)
    jax.tree.map(close, got.batch_stats, batch_stats)
    equal(got.params, apply_masks(got.params, network.masks))  # Zero to the bit.


def test_the_key_decides(tiny, tiny_trainer, images):
    network = a_network(tiny)
    (a, first), (b, again), (c, _) = (
        tiny_trainer.train(jax.random.key(seed), network, images, 2) for seed in (3, 3, 4)
    )
    equal(a, b)
    assert [epoch[:2] for epoch in first] == [epoch[:2] for epoch in again]
    assert not np.array_equal(a.params["conv1"]["kernel"], c.params["conv1"]["kernel"])


def test_the_callers_network_and_images_stay(tiny, tiny_trainer, images):
    network = jax.tree.map(jnp.asarray, a_network(tiny, 0.5))
    before = jax.tree.map(np.array, (network, images))
    child, _ = tiny_trainer.train(KEY, network, images, 1)
    equal(before, (network, images))  # Reading a donated array would raise.
    tiny_trainer.train(KEY, child, images, 1)
    tiny_trainer.evaluate(child, images)


def test_weights_that_the_masks_prune_count_as_zero_from_the_start(tiny, tiny_trainer, images):
    network = a_network(tiny, 0.5)
    zeroed = network._replace(params=apply_masks(network.params, network.masks))
    equal(*(tiny_trainer.train(KEY, n, images, 1)[0] for n in (network, zeroed)))


def test_it_reports_each_epoch_once(tiny, tiny_trainer, images):
    seen = []
    _, history = tiny_trainer.train(
        KEY, a_network(tiny), images, 3, lambda number, epoch: seen.append((number, epoch))
    )
    assert seen == list(enumerate(history, 1))
    assert all(epoch.seconds > 0 for epoch in history)


def recorder() -> Model:
    """Its statistics add up the images it was trained on, and keep the last batch's sum."""

    def init(key, shape):
        del key
        empty = jnp.zeros(shape)
        return {"w": jnp.zeros(4)}, {"seen": empty, "last": empty}

    def forward(params, stats, images, train):
        if train:
            stats = {"seen": stats["seen"] + images.sum(0), "last": images.sum(0)}
        return jnp.broadcast_to(params["w"], (len(images), 4)), stats

    return Model(init, forward, lambda shape: ())


@pytest.mark.parametrize("count", [64, 57])
def test_an_epoch_shows_every_image_once(count):
    # The n-th image has the n-th pixel alight, so that sums of images count them.
    pixels = 255 * np.eye(64, dtype=np.uint8)[:count].reshape(-1, *SHAPE)
    images = on_device(pixels, np.zeros(count, np.int32))._replace(
        mean=jnp.zeros(1), deviation=jnp.ones(1)
    )
    model = recorder()
    network = Network(*model.init(KEY, SHAPE), {"w": None})
    train = trainer(model, RECIPE).train
    last = []
    for seed in range(3):
        stats = train(jax.random.key(seed), network, images, 1)[0].batch_stats
        seen = np.asarray(stats["seen"]).ravel()
        assert seen.max() == 1.0
        assert seen.sum() == count // 16 * 16  # What makes no whole batch waits for other epochs.
        last.append(np.asarray(stats["last"]))
    assert not np.array_equal(last[0], last[1])
    twice = train(KEY, network, images, 2)[0].batch_stats["last"]
    assert not np.array_equal(twice, train(KEY, network, images, 1)[0].batch_stats["last"])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_label_smoothing(smoothing):
    model = recorder()
    network = Network(
        {"w": jnp.array([2.0, 0.0, 1.0, 0.0])}, model.init(KEY, SHAPE)[1], {"w": None}
    )
    images = on_device(np.zeros((16, *SHAPE), np.uint8), np.zeros(16, np.int32))
    recipe = Recipe(batch_size=16, label_smoothing=smoothing)
    _, (epoch,) = trainer(model, recipe).train(KEY, network, images, 1)
    log_p = np.array([2, 0, 1, 0]) - np.log(np.exp([2, 0, 1, 0]).sum())
    targets = np.array([1, 0, 0, 0]) * (1 - smoothing) + smoothing / 4
    assert epoch.loss == pytest.approx(-(targets * log_p).sum(), rel=1e-6)
    assert epoch.accuracy == 1.0


@pytest.mark.parametrize("name", ["tiny", "normalised"])
def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters(name, request, images):
    model, seen = request.getfixturevalue(name), set()

    def forward(params, batch_stats, pixels, train):
        seen.update(leaf.dtype for leaf in (pixels, *jax.tree.leaves(params)))
        return model.forward(params, batch_stats, pixels, train)

    half = dataclasses.replace(RECIPE, compute_dtype="bfloat16")
    kit = trainer(model._replace(forward=forward), half)
    trained, history = kit.train(KEY, a_network(model, 0.8), images, 20)
    assert seen == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves(trained[:2])} == {jnp.dtype("float32")}
    assert history[-1].loss < 0.5 * history[0].loss
    assert kit.evaluate(trained, images) > 0.7
    equal(trained.params, apply_masks(trained.params, trained.masks))


def test_batch_statistics_are_learned_and_used_in_evaluation(normalised, images):
    network = a_network(normalised)
    kit = trainer(normalised, Recipe(batch_size=16, learning_rate=0.05))
    trained, _ = kit.train(KEY, network, images, 20)
    stats = jax.tree.map(np.asarray, trained.batch_stats)["norm"]
    assert not np.any(stats["mean"] == 0.0)
    assert not np.any(stats["var"] == 1.0)
    good = kit.evaluate(trained, images)
    equal(trained.batch_stats["norm"], stats)
    elsewhere = {"norm": {"mean": stats["mean"] + 100.0, "var": stats["var"]}}
    assert good > 0.6 > kit.evaluate(trained._replace(batch_stats=elsewhere), images)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 50])
def test_evaluation_is_exact_for_every_size(count):
    model = Model(
        init=lambda key, shape: ({}, {}),
        forward=lambda params, stats, images, train: (
            images.reshape(len(images), -1)[:, :4],
            stats,
        ),
        layers=lambda shape: (),
    )
    random = np.random.default_rng(count)
    pixels = random.integers(0, 256, (count, *SHAPE)).astype(np.uint8)
    labels = random.integers(0, 4, count)
    images = on_device(pixels, labels)
    right = np.argmax(normalise(pixels, images).reshape(count, -1)[:, :4], -1) == labels
    accuracy = trainer(model, RECIPE).evaluate(Network({}, {}, {}), images)
    assert accuracy == np.count_nonzero(right) / count


def test_a_loss_that_is_no_number_stops_the_training(tiny, images):
    network = a_network(tiny)
    kit = trainer(tiny, Recipe(optimizer="sgd", learning_rate=1e30, warmup=0.0, batch_size=16))
    with pytest.raises(NonFiniteLoss, match="epoch 1 of 3: lower the learning rate"):
        kit.train(KEY, network, images, 3)
    poisoned = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), network.params)
    with pytest.raises(NonFiniteLoss):
        trainer(tiny, RECIPE).train(KEY, network._replace(params=poisoned), images, 1)


def test_parameters_that_the_last_step_ruined_are_noticed(images):
    # One step only, so that the loss, which was computed before it, is finite.
    model = Model(
        init=lambda key, shape: ({"w": jnp.zeros(4)}, {}),
        forward=lambda params, stats, x, train: (100 * params["w"] + 0 * x[:, 0, 0], stats),
        layers=lambda shape: (),
    )
    recipe = Recipe(
        optimizer="sgd", learning_rate=3e38, warmup=0.0, schedule="constant", batch_size=64
    )
    labels = jnp.zeros(64, jnp.int32)
    seen = []
    with pytest.raises(NonFiniteLoss, match="a parameter"):
        trainer(model, recipe).train(
            KEY, Network(*model.init(KEY, SHAPE), {"w": None}), images._replace(labels=labels), 1,
            lambda number, epoch: seen.append(number),
        )  # fmt: skip
    assert seen == []


@pytest.mark.parametrize("count", [1, 5])
def test_fewer_images_than_a_batch_are_one_batch(count, dense, dataset):
    images = on_device(dataset.train.images[:count], dataset.train.labels[:count])
    kit = trainer(dense, Recipe(batch_size=16, learning_rate=0.01))
    network, history = kit.train(KEY, a_network(dense), images, 30)
    assert history[-1].loss < 0.5 * history[0].loss
    assert kit.evaluate(network, images) == 1.0


def test_masks_of_another_network_are_refused(tiny, tiny_trainer, dense, images):
    network = a_network(tiny)._replace(masks=a_network(dense).masks)
    with pytest.raises(ValueError, match="masks do not have the structure"):
        tiny_trainer.train(KEY, network, images, 1)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_types_are_never_mixed_silently(dense, images, optimizer):
    recipe = dataclasses.replace(
        RECIPE, optimizer=optimizer, l1=0.01, weight_decay=0.1, label_smoothing=0.1,
        sparse_rate=0.4, shift=1, flip=True, cutout=2,
    )  # fmt: skip
    pure, network = steps_module.steps(dense, recipe), a_network(dense, 0.5)
    moment = steps_module.Moment(KEY, jnp.int32(0), jnp.int32(2))
    with jax.numpy_dtype_promotion("strict"):
        state = jax.eval_shape(pure.begin, *network)
        after, loss, accuracy = jax.eval_shape(pure.epoch, state, network.masks, images, moment)
        assert after == state and loss.dtype == accuracy.dtype == jnp.float32
        rows = jax.eval_shape(pure.sample, KEY, images)
        assert jax.eval_shape(pure.loss, rows, network, images).dtype == jnp.float32
        assert jax.eval_shape(pure.right, network, images).dtype == jnp.int32
