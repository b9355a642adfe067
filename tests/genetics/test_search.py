"""Where an increasing function reaches a target."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax.genetics.search import search


@pytest.mark.parametrize("target", [0.5, 3.0, 1e4, 1e20])
def test_a_smooth_function_is_inverted(target):
    found = search(jnp.exp, jnp.float32(target), -20.0, 80.0, 1e-6 * target)
    assert found == pytest.approx(np.log(target), abs=1e-5)


def test_where_the_upper_bound_is_allowed_it_is_the_answer():
    assert search(jnp.exp, jnp.float32(100.0), -20.0, 2.0, 0.0) == 2.0


def test_where_nothing_is_allowed_the_lower_bound_is_the_answer():
    assert search(lambda x: 5 + jnp.int32(x), jnp.int32(0), -4.0, 4.0, 0) == -4.0


@pytest.mark.parametrize("limit", [0, 1, 7, 499, 999, 1000, 2000])
def test_a_count_is_met_exactly(limit):
    values = jnp.array(np.random.default_rng(0).normal(size=1000), jnp.float32)

    def count_below(threshold):
        return jnp.sum(values < threshold, dtype=jnp.int32)

    threshold = jax.jit(lambda limit: search(count_below, limit, -10.0, 10.0, 0))(limit)
    assert np.sum(np.asarray(values) < np.asarray(threshold)) == min(limit, 1000)


def test_tied_values_stay_out_together():
    values = jnp.array([1.0] * 3 + [2.0] * 10 + [3.0], jnp.float32)
    threshold = search(lambda t: jnp.sum(values < t), jnp.int32(5), 0.0, 4.0, 0)
    assert np.sum(np.asarray(values) < np.asarray(threshold)) == 3


def test_the_answer_counts_alike_wherever_it_is_compared():
    # Ties make a search end between two neighbouring floats, where another rounding of the
    # threshold would count differently.
    @jax.jit
    @jax.vmap
    def excess(key):
        values = jnp.log(jax.random.uniform(key, (64,)))
        values = jnp.repeat(values, 9)

        def count_below(threshold):
            return jnp.sum(values < threshold, dtype=jnp.int32)

        return count_below(search(count_below, jnp.int32(200), -17.0, 0.0, 0)) - 200

    assert np.max(excess(jax.random.split(jax.random.key(0), 2048))) <= 0
