"""Convolution and pooling that train fast on every backend, the CPU included.

XLA compiles the automatic gradients of a convolution or a max pool badly for the CPU, and worst inside
`lax.scan`, where our epochs live. Here the same functions are stated so that their gradients are ordinary
convolutions, matrix products and element-wise maxima. On an accelerator convolutions stay XLA's own.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

_NHWC = ("NHWC", "HWIO", "NHWC")
Pair = tuple[int, int]
Pads = tuple[Pair, Pair]


def conv(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """Return `lax.conv_general_dilated` of the same arguments, with gradients that are fast on the CPU.

    Meant for Flax: `nn.Conv(..., conv_general_dilated=layers.conv)`. The fast way covers what our networks
    use: images (N, H, W, C), kernel (h, w, C, D), strides and padding. Everything else, and every other
    backend, gets XLA's own convolution.

    Raises:
        TypeError: if `lhs` and `rhs` are not of one dtype.
    """
    plain = dict(
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )
    dilated = any(d != 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
    grouped = feature_group_count != 1 or batch_group_count != 1
    special = precision is not None or preferred_element_type is not None
    if lhs.ndim != 4 or dilated or grouped or special or not _is_nhwc(lhs, rhs, dimension_numbers):
        return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **plain)
    if lhs.dtype != rhs.dtype:
        raise TypeError(
            f"images are {lhs.dtype} but the kernel is {rhs.dtype}: cast one to the other"
        )
    strides = (window_strides[0], window_strides[1])
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
    pads = ((padding[0][0], padding[0][1]), (padding[1][0], padding[1][1]))
    if lhs.shape[1:3] == rhs.shape[:2] and not any(map(any, pads)):
        return _covering(lhs, rhs)
    return _conv(lhs, rhs, strides, pads)


def max_pool(x: Array) -> Array:
    """Return the maxima of 3x3 windows at stride 2, (N, H, W, C) -> (N, ceil((H-1)/2), ceil((W-1)/2), C).

    Caffe's ceil mode: the last window may reach over the lower and right edges, where there is nothing.
    Of equal maxima the gradient goes to some, and always sums to the incoming one.
    """
    low = -jnp.inf
    for axis in (1, 2):
        a, b, c = _thirds(x, axis, low)
        x = jnp.maximum(jnp.maximum(a, b), c)
    return x


def average_pool(x: Array) -> Array:
    """Return the means of 3x3 windows at stride 2, shapes as in `max_pool`.

    A window that reaches over the edge is divided by the number of real pixels in it.
    """
    for axis in (1, 2):
        a, b, c = _thirds(x, axis, 0.0)
        size = x.shape[axis]
        counts = [min(3, size - start) for start in range(0, 2 * a.shape[axis], 2)]
        shape = [-1 if i == axis else 1 for i in range(4)]
        x = (a + b + c) * (1 / jnp.asarray(counts, x.dtype)).reshape(shape)
    return x


def _is_nhwc(lhs: Array, rhs: Array, numbers: Any) -> bool:
    wanted = lax.conv_dimension_numbers(lhs.shape, rhs.shape, _NHWC)
    return (
        numbers is not None and lax.conv_dimension_numbers(lhs.shape, rhs.shape, numbers) == wanted
    )


def _lax_conv(x: Array, kernel: Array, strides: Pair, pads: Pads) -> Array:
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=_NHWC)


def _covering(x: Array, kernel: Array) -> Array:
    """A window as large as the image is a matrix product: (N, H, W, C), (H, W, C, D) -> (N, 1, 1, D)."""
    product = x.reshape(x.shape[0], -1) @ kernel.reshape(-1, kernel.shape[3])
    return product[:, None, None, :]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x: Array, kernel: Array, strides: Pair, pads: Pads) -> Array:
    return _lax_conv(x, kernel, strides, pads)


def _forward(
    x: Array, kernel: Array, strides: Pair, pads: Pads
) -> tuple[Array, tuple[Array, Array]]:
    return _lax_conv(x, kernel, strides, pads), (x, kernel)


def _backward(
    strides: Pair, pads: Pads, saved: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    return lax.platform_dependent(
        *saved,
        g,
        cpu=partial(_cpu_gradients, strides=strides, pads=pads),
        default=partial(_lax_gradients, strides=strides, pads=pads),
    )


_conv.defvjp(_forward, _backward)


def _lax_gradients(
    x: Array, kernel: Array, g: Array, strides: Pair, pads: Pads
) -> tuple[Array, Array]:
    return jax.vjp(partial(_lax_conv, strides=strides, pads=pads), x, kernel)[1](g)


def _cpu_gradients(
    x: Array, kernel: Array, g: Array, strides: Pair, pads: Pads
) -> tuple[Array, Array]:
    """Both gradients as convolutions in the one layout, NHWC and HWIO, that XLA's fast CPU paths take.

    The barriers keep XLA from folding the transpositions into the convolution, which would leave it
    with a layout for which it only has plain loops (5x5, 32 -> 32, batch 128: 4,000 ms for 21 ms).
    """
    sizes = zip(x.shape[1:3], kernel.shape[:2], strides, pads, g.shape[1:3], strict=True)
    # Rows and columns at the end that no window reached, because the stride left them over.
    rest = [n + sum(pad) - (windows - 1) * s - k for n, k, s, pad, windows in sizes]
    inner = [(before, after - r) for (before, after), r in zip(pads, rest, strict=True)]
    images, windows = lax.optimization_barrier((x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3)))
    d_kernel = lax.conv_general_dilated(
        images, windows, (1, 1), inner, rhs_dilation=strides, dimension_numbers=_NHWC
    )
    outer = [
        (k - 1 - before, k - 1 - after + r)
        for k, (before, after), r in zip(kernel.shape[:2], pads, rest, strict=True)
    ]
    flipped = lax.optimization_barrier(kernel[::-1, ::-1].swapaxes(2, 3))
    d_x = lax.conv_general_dilated(
        g, flipped, (1, 1), outer, lhs_dilation=strides, dimension_numbers=_NHWC
    )
    return d_x, d_kernel.transpose(1, 2, 0, 3)


def _thirds(x: Array, axis: int, fill: float) -> tuple[Array, Array, Array]:
    """The first, second and third element of every window of 3 at stride 2 along `axis`."""
    size = x.shape[axis]
    windows = max(-(-(size - 1) // 2), 1)
    missing = 2 * windows + 1 - size
    x = jnp.pad(x, [(0, missing if i == axis else 0) for i in range(4)], constant_values=fill)
    first, second, third = (
        lax.slice_in_dim(x, start, start + 2 * windows - 1, 2, axis) for start in range(3)
    )
    return first, second, third
