"""Names of parameters, whatever holds them."""

import jax.numpy as jnp
import pytest
from flax import nnx

from evojax.genetics.trees import flatten, path_hash


def test_names_join_keys_and_positions():
    tree = {"block": [{"kernel": 1}, {"kernel": 2, "bias": None}], "head": (3,)}
    names = list(flatten(tree)[0])
    assert names == ["block/0/kernel", "block/1/bias", "block/1/kernel", "head/0"]
    assert flatten(tree)[0]["block/1/bias"] is None


def test_an_nnx_state_has_the_names_of_a_dict():
    state = nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Param)
    assert set(flatten({"dense": state})[0]) == {"dense/kernel", "dense/bias"}


def test_a_bare_array_has_no_name():
    assert list(flatten(jnp.ones(3))[0]) == [""]


def test_two_parameters_of_one_name_are_an_error():
    with pytest.raises(ValueError, match="more than one parameter has the path a/b: .* Rename"):
        flatten({"a/b": 1, "a": {"b": 2, "c": 3}})


def test_hashes_are_those_of_every_process_and_version():
    assert path_hash("conv1/kernel") == 0x3720B56B
    assert path_hash("") == 0
