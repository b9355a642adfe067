"""Where an increasing function of one number reaches a target: factors, caps and ranks."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

Point = tuple[jax.Array | float, jax.Array | float]
"""An argument and the function's value there."""


def search(
    increasing: Callable[[jax.Array], jax.Array],
    target: jax.Array,
    low: Point,
    high: Point,
    tolerance: jax.Array | float,
) -> jax.Array:
    """The largest x at which ``increasing(x) <= target``, near enough.

    Interpolation between two bounds, alternating with bisection, which is safe for any function.

    Args:
        increasing: from a float32 scalar to an int32 or float32 scalar.
        target: the value allowed, of the function's dtype.
        low: a bound at which the value is allowed.
        high: a bound, returned itself where the value is allowed there.
        tolerance: how far below the target is near enough.
    """
    dtype = jnp.result_type(target)

    def unfinished(state: tuple[jax.Array, ...]) -> jax.Array:
        low, below, high, above, step = state
        middle = 0.5 * (low + high)
        open_ = (low < middle) & (middle < high) & (step < 128)
        return (above > target) & (below < target - tolerance) & open_

    def narrow(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        low, below, high, above, step = state
        share = (target - 0.5 * tolerance - below) / jnp.maximum(above - below, 1e-30)
        x = low + (high - low) * jnp.where(step % 2 == 0, jnp.clip(share, 0.0, 1.0), 0.5)
        value = increasing(x)
        fits = value <= target
        return (
            jnp.where(fits, x, low),
            jnp.where(fits, value, below),
            jnp.where(fits, high, x),
            jnp.where(fits, above, value),
            step + 1,
        )

    start: tuple[jax.Array, ...] = (
        jnp.asarray(low[0], jnp.float32),
        jnp.asarray(low[1], dtype),
        jnp.asarray(high[0], jnp.float32),
        jnp.asarray(high[1], dtype),
        jnp.int32(0),
    )
    found: tuple[jax.Array, ...] = jax.lax.while_loop(unfinished, narrow, start)
    lower, _, upper, above, _ = found
    return jnp.where(above > target, lower, upper)
