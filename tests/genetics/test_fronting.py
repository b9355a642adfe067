"""Living channels to the front: a symmetry of every network, and LeNet's against NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

import evojax
from evojax.genetics.channels import living_channels
from evojax.learning import linen, nnx
from evojax.models import AlexNet, LeNet, ResNet
from tests.deploy.architectures import ARCHITECTURES, filled, numbers
from tests.genetics.test_mating import of_the_paper, stacked

KEY = jax.random.key(0)


class Modern(flax_nnx.Module):
    def __init__(self, rngs):
        self.conv = flax_nnx.Conv(1, 6, (3, 3), rngs=rngs)
        self.norm = flax_nnx.BatchNorm(6, rngs=rngs)
        self.dense = flax_nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.dense(flax_nnx.relu(self.norm(self.conv(x))).mean((1, 2)))


def shipped(model, size):
    shape = (size, size, 1)
    params, stats = jax.eval_shape(lambda key: model.init(key, shape), KEY)
    variables = filled({"params": params, "batch_stats": stats})
    return model.predict, variables, numbers((2, *shape))


NETWORKS = {
    "lenet": lambda: shipped(linen(LeNet(classes=3, widths=(4, 3, 5, 6))), 32),
    "alexnet": lambda: shipped(linen(AlexNet(classes=3, widths=(3, 4, 5, 4, 3, 6, 7))), 32),
    "resnet": lambda: shipped(linen(ResNet(blocks=2, classes=3, widths=(4, 6, 10))), 8),
    "nnx": lambda: shipped(nnx(Modern), 8),
} | {
    name: ARCHITECTURES[name]
    for name in (
        "grouped_convolution", "batch_norm_without_bias", "pools_and_flatten", "padded_shortcut",
        "concatenation", "concatenation_then_groups", "split_and_slice", "heads_by_reshape",
        "scanned_blocks", "sorted_channels", "nnx_network",
    )
}  # fmt: skip


def parameters(variables):
    inner = isinstance(variables, dict) and "params" in variables
    return variables["params"] if inner else variables


def with_parameters(variables, params):
    inner = isinstance(variables, dict) and "params" in variables
    return variables | {"params": params} if inner else params


def some_masks(seed, params, plan, density=0.5):
    """Random ones in which the first third of every layer's outputs is dead, and others are."""
    random = np.random.default_rng(seed)
    leaves, structure = evojax.genetics.trees.flatten(params)
    marks = {}
    for path, leaf in leaves.items():
        if plan.roles[path] is not None and leaf.ndim > 1:
            channels = np.arange(leaf.shape[-1])
            outputs = (channels >= len(channels) // 3) & (random.random(len(channels)) < 0.8)
            marks[path] = outputs & (random.random(leaf.shape) < density)
    for path, role in plan.roles.items():
        if isinstance(role, evojax.Follows):
            marks[path] = marks[role.of].any(tuple(range(marks[role.of].ndim - 1)))
    return jax.tree.unflatten(structure, [marks.get(path) for path in leaves])


def fronting_of(apply, variables, x):
    channels = evojax.channels(apply, variables, x)
    plan = evojax.genetics.layout(parameters(variables))
    return evojax.fronting(apply, variables, x, channels, plan), channels, plan


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_stays_the_same_with_its_living_channels_in_front(name):
    apply, variables, x = NETWORKS[name]()
    made, channels, plan = fronting_of(apply, variables, x)
    masks = some_masks(1, parameters(variables), plan)
    variables = with_parameters(variables, evojax.apply_masks(parameters(variables), masks))
    moved, marks = made.front(variables, masks)
    for one, other in zip(*(map(jax.tree.leaves, (variables, moved))), strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
    forward = jax.jit(apply)
    with jax.default_matmul_precision("highest"):
        jax.tree.map(
            lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5),
            forward(variables, x),
            forward(moved, x),
        )
    # Masks move alike: weights are zero where they were, and only there.
    again = evojax.apply_masks(parameters(moved), marks)
    jax.tree.map(np.testing.assert_array_equal, again, parameters(moved))
    before, after = (np.asarray(living_channels(m, plan, channels)) for m in (masks, marks))
    assert before.sum() == after.sum()
    for members in made.classes:
        assert np.all(np.diff(after[members].astype(int)) <= 0)
        assert before[members].sum() == after[members].sum()
    jax.tree.map(np.testing.assert_array_equal, made.front(moved, marks), (moved, marks))
    assert any(not np.array_equal(before[members], after[members]) for members in made.classes)


def in_place(name):
    made, channels, _ = fronting_of(*NETWORKS[name]())
    return channels.number - sum(map(len, made.classes))


def test_what_is_no_symmetry_stays_in_place():
    def apply(variables, x):
        hidden = jnp.cumsum(jnp.tanh(x @ variables["a"]), axis=1)[:, ::-1] * jnp.arange(5.0)
        return hidden @ variables["b"] + jnp.tanh(x @ variables["c"]) @ variables["d"]

    shapes = {"a": (4, 5), "b": (5, 2), "c": (4, 6), "d": (6, 2)}
    variables = {name: numbers(shape, i) for i, (name, shape) in enumerate(shapes.items())}
    made, _, _ = fronting_of(apply, variables, numbers((3, 4)))
    assert [len(members) for members in made.classes] == [6]
    weighed = lambda v, x: (jnp.tanh(x @ v["a"]) * jnp.arange(1.0, 6.0)) @ v["b"]  # noqa: E731
    with pytest.raises(ValueError, match="no channels of this network can trade places"):
        fronting_of(weighed, {name: variables[name] for name in "ab"}, numbers((3, 4)))


def test_classes_are_channels_that_lie_along_the_same_axes():
    made, _, _ = fronting_of(*NETWORKS["resnet"]())
    assert sorted(map(len, made.classes)) == [2, 4, 4, 4, 4, 6, 6, 10, 10]
    assert in_place("resnet") == 0
    made, _, _ = fronting_of(*NETWORKS["concatenation"]())
    assert sorted(map(len, made.classes)) == [3, 4, 5]
    made, _, _ = fronting_of(*NETWORKS["grouped_convolution"]())
    assert sorted(map(len, made.classes)) == [3, 4]  # Whole groups.


def test_it_vmaps_over_networks_and_compiles_once(compilations):
    apply, variables, x = NETWORKS["batch_norm_without_bias"]()
    made, _, plan = fronting_of(apply, variables, x)
    several = [some_masks(seed, parameters(variables), plan) for seed in range(3)]
    single = [made.front(variables, masks) for masks in several]
    with compilations() as count:
        made.front(variables, some_masks(7, parameters(variables), plan))
        assert count() == 0
    together = jax.vmap(made.front, (None, 0))(variables, stacked(*several))
    jax.tree.map(np.testing.assert_array_equal, together, stacked(*single))


LAYERS = ("conv1", "conv2", "conv3", "dense1", "dense2")


def living_by_hand(masks):
    """Which outputs of each layer but the last live: over and over, until nothing changes."""
    alive = {name: np.ones(masks[name]["kernel"].shape[-1], bool) for name in LAYERS}
    changed = True
    while changed:
        changed = False
        for below, name, above in zip((None, *LAYERS), LAYERS, LAYERS[1:], strict=False):
            for channel in range(len(alive[name])):
                into = masks[name]["kernel"][..., channel]
                entered = any(
                    into[..., i].any() and (below is None or alive[below][i])
                    for i in range(into.shape[-1])
                )
                out = masks[above]["kernel"][..., channel, :]
                left = any(out[..., o].any() and alive[above][o] for o in range(out.shape[-1]))
                if alive[name][channel] and not (entered and left):
                    alive[name][channel], changed = False, True
    return alive


def fronted_by_hand(params, masks):
    """LeNet's arrays, entry by entry."""
    alive = living_by_hand(masks)
    news = jax.tree.map(np.zeros_like, (params, masks))
    for tree, new in zip((params, masks), news, strict=True):
        inputs = range(tree["conv1"]["kernel"].shape[2])
        for name in LAYERS:
            outputs = range(tree[name]["kernel"].shape[-1])
            if name != "dense2":
                outputs = [c for c in outputs if alive[name][c]] + [
                    c for c in outputs if not alive[name][c]
                ]
            for o, old_o in enumerate(outputs):
                new[name]["bias"][o] = tree[name]["bias"][old_o]
                for i, old_i in enumerate(inputs):
                    new[name]["kernel"][..., i, o] = tree[name]["kernel"][..., old_i, old_o]
            inputs = outputs
    return news


def lenets(number):
    apply, variables, x = NETWORKS["lenet"]()
    made, _, plan = fronting_of(apply, variables, x)
    parents = []
    for seed in range(number):
        random = np.random.default_rng(seed)
        params = jax.tree.map(
            lambda leaf, random=random: random.normal(size=leaf.shape).astype(np.float32),
            variables["params"],
        )
        masks = some_masks(seed, params, plan, 0.8)
        parents.append((jax.device_get(evojax.apply_masks(params, masks)), masks))
    return made, parents


def test_lenets_mate_without_tags_as_numpy_has_it():
    made, parents = lenets(3)
    ours, theirs = [], []
    for params, masks in parents:
        moved, marks = made.front({"params": params, "batch_stats": {}}, masks)
        ours.append((moved["params"], marks))
        theirs.append(fronted_by_hand(params, masks))
    for one, other in zip(ours, theirs, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)
    mating = evojax.gene_tagged(2 / 3)
    encoding = evojax.cluster_driven(2.0)
    evolve = evojax.synthesis(encoding, evojax.budget(total=0.5), mating=mating)
    params, masks = stacked(*ours)
    dna = evolve.dna(params, masks)
    for name in LAYERS:
        weights, alive = (
            np.stack([parent[part][name]["kernel"] for parent in theirs]) for part in (0, 1)
        )
        clusters, synapses = of_the_paper(weights, alive, 2 / 3, 2.0, "kernel")
        found = np.broadcast_to(dna.clusters[name]["kernel"], clusters.shape)
        np.testing.assert_allclose(found, clusters, rtol=1e-5)
        np.testing.assert_allclose(dna.synapses[name]["kernel"], synapses, rtol=1e-5)


def test_one_parent_without_tags_is_asexual_to_the_bit():
    made, [(params, masks)] = lenets(1)
    moved, marks = made.front({"params": params, "batch_stats": {}}, masks)
    encoding, half = evojax.cluster_driven(), evojax.budget(total=0.5)
    asexual = evojax.synthesis(encoding, half).draw(KEY, moved["params"], marks)
    alone = stacked((moved["params"], marks))
    mated = evojax.synthesis(encoding, half, mating=evojax.gene_tagged(1.0)).draw(KEY, *alone)
    jax.tree.map(np.testing.assert_array_equal, mated.masks, asexual.masks)


def test_what_does_not_fit_is_named():
    apply, variables, x = NETWORKS["batch_norm_without_bias"]()
    made, channels, plan = fronting_of(apply, variables, x)
    masks = some_masks(0, variables["params"], plan)
    with pytest.raises(ValueError, match="Conv_1/kernel can be pruned"):
        made.front(variables, masks | {"Conv_1": {"kernel": None}})
    with pytest.raises(ValueError, match="another network: batch_stats/.*no axes there|None here"):
        made.front({"params": variables["params"], "batch_stats": {}}, masks)

    class Other(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(x.mean((1, 2)))

    other = Other().init(KEY, x)
    with pytest.raises(ValueError, match="the channels are of another network"):
        evojax.fronting(Other().apply, other, x, channels, plan)
