"""A population trains as its members would by themselves, on however many devices."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax.learning import Network, NonFiniteLoss, Recipe, linen, on_device, trainer
from evojax.learning.population import fetched, population_mesh, population_trainer, split_trainer
from evojax.models import layers

pytestmark = pytest.mark.usefixtures("full_compilation")

RECIPE = Recipe(batch_size=16, shift=1, learning_rate=1e-2)
SHAPE = (8, 8, 1)
EPOCHS = 2


class Tiny(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(4, (3, 3), conv_general_dilated=layers.conv)(x)
        x = nn.relu(layers.batch_norm(train, None, "norm")(x))
        return nn.Dense(4)(layers.max_pool(x).reshape(x.shape[0], -1))


MODEL = linen(Tiny())


def images():
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 80)
    pixels = random.integers(0, 200, (80, *SHAPE)) + 16 * labels[:, None, None, None]
    return on_device(np.minimum(pixels, 255).astype(np.uint8), labels)


def member(number):
    params, batch_stats = MODEL.init(jax.random.key(number), SHAPE)
    key = jax.random.key(100 + number)
    masks = jax.tree.map(lambda leaf: jax.random.bernoulli(key, 0.7, leaf.shape), params)
    return Network(params, batch_stats, masks)


def population(members):
    keys = jnp.stack([jax.random.key(200 + number) for number in range(members)])
    return keys, jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(member, range(members)))


@cache  # Compiled once for all tests.
def kit_of(mesh=None):
    return trainer(MODEL, RECIPE) if mesh is None else population_trainer(MODEL, RECIPE, mesh)


def together(members, mesh=None):
    """What a population of so many becomes, on the host, and its losses and accuracies."""
    kit = kit_of(mesh or population_mesh(1))
    trained, history = kit.train(*population(members), images(), EPOCHS)
    # What goes on with them would else run on every device.
    assert all(leaf.devices() == {jax.local_devices()[0]} for leaf in jax.tree.leaves(trained))
    return (
        [fetched(leaf) for leaf in jax.tree.leaves(trained)],
        np.stack([epoch.losses for epoch in history]),
        kit.evaluate(trained, images()),
    )


def alone(members):
    """The same of its members, trained one after another."""
    kit = kit_of()
    keys, _ = population(members)
    runs = [kit.train(keys[n], member(n), images(), EPOCHS) for n in range(members)]
    return (
        [np.stack(each) for each in zip(*[jax.tree.leaves(net) for net, _ in runs], strict=True)],
        np.array([[epoch.loss for epoch in history] for _, history in runs], np.float32).T,
        np.array([kit.evaluate(net, images()) for net, _ in runs]),
    )


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_members_train_as_they_would_alone_to_the_bit():
    same(together(3), alone(3))


def test_all_at_once_computes_the_same():
    keys, networks = population(3)
    plain = Recipe(optimizer="sgd", batch_size=80, learning_rate=1e-2)  # One step an epoch.
    turns, at_once = (
        population_trainer(MODEL, plain, together=mode).train(keys, networks, images(), 1)
        for mode in ("map", "vmap")
    )
    for a, b in zip(jax.tree.leaves(turns[0]), jax.tree.leaves(at_once[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(turns[1][0].losses, at_once[1][0].losses, rtol=1e-5)


def test_a_member_that_breaks_down_harms_no_other():
    keys, networks = population(3)
    poisoned = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.inf), networks.params)
    kit = kit_of(population_mesh(1))
    trained, history = kit.train(keys, networks._replace(params=poisoned), images(), EPOCHS)
    assert [np.isnan(epoch.losses).tolist() for epoch in history] == [[False, True, False]] * 2
    expected, *_ = alone(3)
    for leaf, wanted in zip(jax.tree.leaves(trained), expected, strict=True):
        np.testing.assert_array_equal(leaf[::2], wanted[::2])
    broken = member(1)._replace(params=jax.tree.map(lambda leaf: leaf[1], poisoned))
    with pytest.raises(NonFiniteLoss):
        kit_of().train(keys[1], broken, images(), 1)


def test_what_is_given_stays_whole():
    keys, networks = population(3)
    before = jax.tree.map(np.asarray, networks)
    kit_of(population_mesh(1)).train(keys, networks, images(), 1)
    same(before, networks)


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0), (4096, 1), (64, 64)])
def test_devices_that_are_not_there_are_refused(sizes):
    with pytest.raises(ValueError, match=f"a mesh of {sizes[0]} x {sizes[1]} devices was asked"):
        population_mesh(*sizes)


def test_a_mesh_of_other_axes_is_refused():
    device = np.array(jax.devices()[:1])
    for mesh, axes in (
        (jax.sharding.Mesh(device, ("batch",)), "batch"),
        (jax.sharding.Mesh(device.reshape(1, 1), ("data", "population")), "data, population"),
    ):
        for made in (population_trainer, split_trainer):
            with pytest.raises(ValueError, match=f"has the axes {axes}: expected population and"):
                made(MODEL, RECIPE, mesh)


ON_DEVICES = """
import jax, numpy as np, test_population as t
from evojax.learning.population import population_mesh
wanted = t.alone(3)
for devices in (2, 8):  # Neither of which divides three members.
    t.same(t.together(3, population_mesh(devices)), wanted)
# Batches that are split are another training, on however many devices the members are.
t.same(t.together(3, population_mesh(2, 2)), t.together(3, population_mesh(1, 2)))
keys, networks = t.population(3)
mesh = population_mesh(2, 2)
kits = [t.population_trainer(t.MODEL, t.RECIPE, mesh, together=way) for way in ("map", "vmap")]
losses = [kit.loss(keys[0], t.images())(networks) for kit in kits]
assert losses[0].shape == (3,)
np.testing.assert_allclose(*losses, rtol=1e-5)
ends = [kit.train(keys, networks, t.images(), 1)[1][0].losses for kit in kits]
np.testing.assert_allclose(*ends, rtol=1e-4)
print("as on one device")
"""


def environment(devices):
    folder, root = Path(__file__).parent, Path(__file__).parents[2]
    return os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": f"{folder}{os.pathsep}{root}",
    }


def test_members_are_the_same_on_one_two_and_eight_devices():
    done = subprocess.run(
        [sys.executable, "-c", ON_DEVICES],
        env=environment(8), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "as on one device" in done.stdout, done.stderr


IN_PROCESSES = """
import sys, jax, numpy as np
address, number, file = sys.argv[1:]
jax.distributed.initialize(address, 2, int(number), initialization_timeout=60)
import test_population as t
from evojax.learning.population import population_mesh
assert jax.process_count() == 2 and jax.device_count() == 4
found, losses, accuracies = t.together(4, population_mesh(4))
np.savez(file, *found, losses=losses, accuracies=accuracies)
"""


def in_two_processes(folder):
    """What each of them has in the end, with two devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    files = [folder / f"{number}.npz" for number in range(2)]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", IN_PROCESSES, address, str(number), str(file)],
            env=environment(2), stderr=subprocess.PIPE, text=True,
        )
        for number, file in enumerate(files)
    ]  # fmt: skip
    errors = [run.communicate(timeout=300)[1] for run in runs]
    assert not any(run.returncode for run in runs), errors
    return [dict(np.load(file)) for file in files]


def test_two_processes_train_what_one_does(tmp_path):
    arrays, losses, accuracies = alone(4)
    for found in in_two_processes(tmp_path):
        same([found[f"arr_{number}"] for number in range(len(arrays))], arrays)
        same((found["losses"], found["accuracies"]), (losses, accuracies))
