"""Input that makes no sense is refused in words."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax.deploy import InconsistentError, checks, compact
from tests.deploy.architectures import filled, numbers


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), name="first")(x))
        x = nn.relu(nn.Conv(5, (3, 3), name="second")(x))
        return nn.Dense(2, name="last")(x.mean((1, 2)))


X = numbers((2, 4, 4, 1))
VARIABLES = filled(jax.eval_shape(Net().init, jax.random.key(0), X))


def alive():
    return jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), VARIABLES["params"])


APPLY = Net().apply


def refused(message, apply=APPLY, variables=VARIABLES, masks=None, x=X, **options):
    with pytest.raises(ValueError, match=message):
        compact(apply, variables, alive() if masks is None else masks, x, **options)


@pytest.mark.parametrize("round_to", [0, -2, 1.5, True, "8"])
def test_round_to_below_1(round_to):
    refused(f"round_to must be a whole number of at least 1; got {round_to!r}", round_to=round_to)


def test_variables_of_another_network():
    variables = {"params": {"first": VARIABLES["params"]["first"]}}
    refused(
        r"apply rejects the variables, which are of another network: (.|\n)*second",
        variables=variables,
        masks={},
    )


def test_an_input_that_the_function_rejects():
    refused(
        r"apply rejects the example input(.|\n)*the example input \(3, 3\)",
        apply=lambda v, x: x @ v["w"],
        variables={"w": jnp.ones((2, 2))},
        masks={},
        x=jnp.ones((3, 3)),
    )


def test_an_empty_input():
    refused(r"the example input is empty: \(0, 4, 4, 1\)", x=X[:0])


def test_a_function_that_gives_nothing():
    refused("apply returns no array", apply=lambda v, x: None)


def test_masks_with_an_unknown_path():
    masks = alive() | {"third": {"kernel": np.ones((2, 3), bool)}}
    refused(r"another network: params/third/kernel of shape \(2, 3\) is none of", masks=masks)


def test_masks_of_another_shape():
    masks = alive()
    masks["second"]["kernel"] = np.ones((3, 3, 4, 6), bool)
    expected = re.escape("expected bool of shape (3, 3, 4, 5) for params/second/kernel; got bool")
    refused(expected + r" of shape \(3, 3, 4, 6\)", masks={"params": masks})


def test_masks_that_are_not_bool():
    masks = alive()
    masks["first"]["bias"] = np.ones(4, np.float32)
    refused("params/first/bias; got float32", masks=masks)


@pytest.mark.parametrize("mask", ["first", object(), np.array(["x"])])
def test_masks_that_are_no_arrays(mask):
    refused(
        r"expected bool of shape \(4,\) for params/first/bias; got", masks={"first": {"bias": mask}}
    )


@pytest.mark.parametrize("leaf", ["text", object(), jax.ShapeDtypeStruct((2, 4, 4, 1), "float32")])
def test_what_is_no_array(leaf):
    message = "expected arrays of numbers in the "
    refused(message + "variables", variables={"params": leaf}, masks={})
    refused(message + "example input", x=leaf)


def test_every_path_dead_names_the_layer_that_cut_it():
    masks = alive()
    masks["second"]["kernel"][:] = False
    refused("every path from input to output is dead.*cut at: params/second/kernel$", masks=masks)


def test_an_input_that_is_not_used():
    refused("does not use its input", apply=lambda v, x: v["params"]["last"]["bias"])


@pytest.fixture(scope="module")
def small():
    masks = alive()
    masks["first"]["kernel"][..., 1:] = masks["first"]["bias"][1:] = False
    return compact(Net().apply, VARIABLES, masks, X)


def test_the_old_variables_do_not_fit_the_compacted_function(small):
    with pytest.raises(
        ValueError, match=r"first/kernel: expected \(3, 3, 1, 1\), got \(3, 3, 1, 4"
    ):
        small.apply(VARIABLES, X)
    with pytest.raises(ValueError, match="their structure differs"):
        small.apply({"params": small.variables}, X)


def test_images_of_another_size_need_a_compaction_of_their_own(small):
    with pytest.raises(
        ValueError, match=r"but for the first axis: expected \[\(2, 4, 4, 1\)\], got"
    ):
        small.apply(small.variables, jnp.ones((2, 8, 8, 1)))


def test_another_computation_for_another_shape():
    def apply(v, x):
        return jnp.tanh(x @ v["w"]) if len(x) > 2 else x @ v["w"]

    small = compact(apply, {"w": jnp.ones((3, 2))}, {"w": None}, jnp.ones((1, 3)))
    assert small.apply(small.variables, jnp.ones((2, 3))).shape == (2, 2)
    with pytest.raises(ValueError, match="computes something else than for the example"):
        small.apply(small.variables, jnp.ones((5, 3)))


def test_a_wrong_network_is_never_returned():
    with pytest.raises(InconsistentError, match="a defect of evojax"):
        checks.check_same(lambda x: [x], lambda x: [x * 1.01], jnp.ones(3))
    checks.check_same(lambda x: [x, x > 0], lambda x: [x * (1 + 1e-6), x > 0], jnp.ones(3))


def test_rounding_is_that_of_the_coarsest_type_within():
    def apply(x):
        return jax.lax.map(lambda row: jnp.sin(row.astype(jnp.bfloat16)).astype(jnp.float32), x)

    x = numbers((3, 4))
    checks.check_same(apply, lambda x: apply(x) * (1 + 2**-7), x)
    with pytest.raises(InconsistentError):
        checks.check_same(jnp.sin, lambda x: jnp.sin(x) * (1 + 2**-7), x)
    with pytest.raises(InconsistentError):
        checks.check_same(apply, lambda x: apply(x) * 1.2, x)
