"""Where an increasing function of one number reaches a target: factors, caps and ranks."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

STEPS = 128
"""Bisections between any two float32 take at most half as many."""


def search(
    increasing: Callable[[jax.Array], jax.Array],
    target: jax.Array,
    low: jax.Array | float,
    high: jax.Array | float,
    tolerance: jax.Array | float,
) -> jax.Array:
    """The largest x in [low, high] at which ``increasing(x) <= target``, near enough.

    Interpolation between two bounds, alternating with bisection, which is safe for any function.

    Args:
        increasing: from a float32 scalar to an int32 or float32 scalar of at least 0.
        target: the value allowed, of the function's dtype.
        low: where the value is about 0, and allowed whatever it is.
        high: where the value is looked at first.
        tolerance: how far below the target is near enough.
    """

    def unfinished(state: tuple[jax.Array, ...]) -> jax.Array:
        low, below, high, _, step = state
        middle = 0.5 * (low + high)
        between = (low < middle) & (middle < high)
        return (step == 0) | (below < target - tolerance) & between & (step < STEPS)

    def narrow(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        low, below, high, above, step = state
        aim = _float32(target) - 0.5 * _float32(tolerance) - _float32(below)
        share = aim / jnp.maximum(_float32(above - below), 1e-30)
        part = jnp.where(step % 2 == 1, jnp.clip(share, 0.0, 1.0), 0.5)
        # The minimum changes no value: it keeps a compiler from rounding the product and the sum at
        # once where the function is evaluated, and apart where x is kept.
        x = jnp.where(step == 0, high, low + jnp.minimum((high - low) * part, high - low))
        x = x.astype(low.dtype)  # Where JAX computes in 64 bits unless told otherwise.
        value = increasing(x).astype(target.dtype)
        fits = value <= target
        return (
            jnp.where(fits, x, low),
            jnp.where(fits, value, below),
            jnp.where(fits, high, x),
            jnp.where(fits, above, value),
            step + 1,
        )

    target = jnp.asarray(target)
    bounds = jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32)
    zero = jnp.zeros_like(target)
    start: tuple[jax.Array, ...] = (bounds[0], zero, bounds[1], zero, jnp.int32(0))
    found: tuple[jax.Array, ...] = jax.lax.while_loop(unfinished, narrow, start)
    return found[0]


def _float32(number: jax.Array | float) -> jax.Array:
    return jnp.asarray(number, jnp.float32)
