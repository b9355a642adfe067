"""DetectNet against the prototxt's sizes and against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evojax
from evojax.learning import linen
from evojax.models import DetectNet, described, narrow, rebuilt
from evojax.models.detectnet import BRANCHES, INCEPTIONS, STEM, WIDTHS

THIN = tuple(tuple(max(2, width // 32) for width in block) for block in WIDTHS)
BLOCKS = {  # weights, GMAC at 384x1248
    "conv1": (9_408, 1.127), "conv2_reduce": (4_096, 0.123), "conv2": (110_592, 3.312),
    "inception_3a": (163_328, 1.223), "inception_3b": (388_096, 2.906),
    "inception_4a": (375_552, 0.703), "inception_4b": (448_512, 0.840),
    "inception_4c": (509_440, 0.954), "inception_4d": (604_672, 1.132),
    "inception_4e": (867_328, 1.624), "inception_5a": (1_042_432, 1.951),
    "inception_5b": (1_442_816, 2.701), "coverage": (1_024, 0.002), "box": (4_096, 0.008),
}  # fmt: skip


def shapes_of(model):
    params, stats = jax.eval_shape(lambda key: model.init(key, (32, 48, 3)), jax.random.key(0))
    return {"params": params, "batch_stats": stats}


def sizes(tree):
    return {
        "/".join(str(step.key) for step in path): leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


@pytest.mark.parametrize(
    ("normalisation", "biases", "scales"), [("batch", 5, 14_560), ("response", 7_285, 0)]
)
def test_parameters_and_costs_are_those_of_the_prototxt(normalisation, biases, scales):
    model = linen(DetectNet(normalisation))
    variables = shapes_of(model)
    counted = sizes(variables["params"])
    weights = {path: size for path, size in counted.items() if path.endswith("kernel")}
    of_norms = {path: size for path, size in counted.items() if "_norm/" in path}
    assert (len(weights), sum(weights.values())) == (59, 5_971_392)
    assert sum(of_norms.values()) == scales == sum(sizes(variables["batch_stats"]).values())
    assert sum(counted.values()) == 5_971_392 + biases + scales

    image = jax.ShapeDtypeStruct((1, 384, 1248, 3), jnp.float32)
    macs = evojax.cost(model.predict, variables, image).macs_by_path
    assert round(sum(macs.values()) / 1e9, 1) == 18.6
    for block, expected in BLOCKS.items():
        inside = [path for path in weights if path.startswith(f"{block}/")]
        found = sum(weights[path] for path in inside), sum(macs[f"params/{p}"] for p in inside)
        assert (found[0], round(found[1] / 1e9, 3)) == expected, block


def test_every_layer_is_found_in_order_with_its_norm():
    model, shape = linen(DetectNet(widths=THIN)), (64, 96, 3)
    names = [
        *STEM, *(f"{block}/{branch}" for block in INCEPTIONS for branch in BRANCHES),
        "coverage", "box",
    ]  # fmt: skip
    layers = model.layers(shape)
    assert [layer.name for layer in layers] == names
    finer = {"conv1": 64, "conv2_reduce": 16, "conv2": 16, "inception_3a": 4, "inception_3b": 4}
    for name, positions in layers:
        assert positions == 4 * 6 * finer.get(name.split("/")[0], 1), name
    norms = model.norms(shape)
    assert set(norms.values()) == {f"{name}/kernel" for name in names[:-2]}
    assert norms["inception_4a/5x5_reduce_norm/scale"] == "inception_4a/5x5_reduce/kernel"
    assert len(norms) == 2 * 57


def drawn(shapes, seed=0):
    """Numbers with which no layer is silent: Xavier's weights, positive scales and variances."""
    random = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            return random.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return random.uniform(0.5, 1.5, leaf.shape) if name in ("scale", "var") else (
            random.uniform(-0.2, 0.3, leaf.shape)
        )  # fmt: skip

    return jax.tree_util.tree_map_with_path(lambda p, x: jnp.float32(draw(p, x)), shapes)


def expected(reference, variables, x):
    """The forward pass in float64, in one loop over the layers as the prototxt lists them."""
    params, stats = variables["params"], variables["batch_stats"]

    def layer(x, name, *inside, stride=1):
        params_here, stats_here = params, stats
        for step in inside:
            params_here, stats_here = params_here[step], stats_here.get(step, {})
        kernel = np.float64(params_here[name]["kernel"])
        bias = np.float64(params_here[name].get("bias", 0))
        x = reference.convolve(x, kernel, bias, pad=len(kernel) // 2, stride=stride)
        if f"{name}_norm" in params_here:
            norm = params_here[f"{name}_norm"] | stats_here[f"{name}_norm"]
            x = reference.normalise(x, **norm)
        return np.maximum(x, 0)

    def response(x):
        if stats:
            return x
        squares = np.pad(x**2, ((0, 0),) * 3 + ((2, 2),))
        sums = np.stack([squares[..., c : c + 5].sum(-1) for c in range(x.shape[-1])], -1)
        return x / (1 + 1e-4 / 5 * sums) ** 0.75

    def around(x):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        return windows.max((-2, -1))

    def pool(x):
        return reference.pool(x, np.max)

    x = response(pool(layer(x, "conv1", stride=2)))
    x = pool(response(layer(layer(x, "conv2_reduce"), "conv2")))
    for block in INCEPTIONS:
        x = pool(x) if block == "inception_4a" else x
        three, five = layer(x, "3x3_reduce", block), layer(x, "5x5_reduce", block)
        branches = (
            layer(x, "1x1", block), layer(three, "3x3", block), layer(five, "5x5", block),
            layer(around(x), "pool_proj", block),
        )  # fmt: skip
        x = np.concatenate(branches, 3)
    heads = [
        np.tensordot(x, np.float64(params[name]["kernel"][0, 0]), 1) + params[name]["bias"]
        for name in ("coverage", "box")
    ]
    return np.concatenate([1 / (1 + np.exp(-heads[0])), 16 * heads[1]], 3)


@pytest.mark.parametrize("normalisation", ["batch", "response"])
def test_forward_agrees_with_numpy(reference, normalisation):
    model = linen(DetectNet(normalisation, widths=THIN))
    variables = drawn(shapes_of(model))
    # As large as the original's pixels, or response normalisation would do nothing.
    size = 30 if normalisation == "response" else 1
    x = size * np.random.default_rng(3).normal(size=(2, 32, 48, 3)).astype(np.float32)
    found = jax.jit(model.predict)(variables, jnp.asarray(x))
    assert found.shape == (2, 2, 3, 5) and found.dtype == jnp.float32
    answer = expected(reference, variables, x)
    assert np.std(answer[..., 0]) > 0.01 and np.std(answer[..., 1:]) > 1
    scale = np.abs(answer).max((0, 1, 2))
    np.testing.assert_allclose(found / scale, answer / scale, atol=1e-4)


def test_narrower_it_is_described_and_built_again():
    module, x = DetectNet("response", widths=THIN), jnp.ones((1, 16, 16, 3))
    less = tuple(tuple(width - width // 3 for width in block) for block in THIN)
    smaller = module.clone(widths=less)
    variables = drawn(shapes_of(linen(smaller)))["params"]
    compacted = evojax.deploy.Compacted(
        jax.jit(smaller.apply), {"params": variables}, {}, evojax.deploy.Report((), 0, ())
    )
    assert narrow(module, compacted, x)[0] == smaller == rebuilt(described(smaller))


@pytest.mark.parametrize("shape", [(1, 33, 48, 3), (1, 32, 40, 3), (32, 48, 3), (1, 0, 16, 3)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="with H and W multiples of 16, got"):
        jax.eval_shape(DetectNet().init, jax.random.key(0), jnp.zeros(shape))


def test_another_normalisation_is_refused():
    with pytest.raises(ValueError, match="must be one of batch, response; got 'group'"):
        jax.eval_shape(DetectNet("group").init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))


@pytest.mark.parametrize(
    ("widths", "says"),
    [
        (WIDTHS[:-1], "must be 10 tuples, of its stem and of each inception block; got 9"),
        (((64, 64), *WIDTHS[1:]), "widths of stem must be 3 numbers of at least 1, got 64, 64"),
        ((*WIDTHS[:-1], (9, 9, 0, 9, 9, 9)), "of inception_5b must be 6 numbers .* got 9, 9, 0"),
    ],
)
def test_other_widths_are_refused(widths, says):
    with pytest.raises(ValueError, match=says):
        jax.eval_shape(DetectNet(widths=widths).init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
