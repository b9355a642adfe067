"""Convolution and pooling that train fast on every backend, the CPU included.

XLA compiles the automatic gradients of a convolution or a max pool badly for the CPU, and worst
inside `lax.scan`, where our epochs live. Here they are stated as the operations it is fast in. On
an accelerator convolutions stay XLA's own.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

_NHWC = ("NHWC", "HWIO", "NHWC")
CHUNK = 16
"""Images at a time, of which a kernel's gradient is computed on the CPU."""
Pair = tuple[int, int]
Pads = tuple[Pair, Pair]


def conv(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[Pair],
    *,
    dimension_numbers: Any = None,  # noqa: ANN401 (as in lax)
    **options: Any,  # noqa: ANN401
) -> Array:
    """`lax.conv_general_dilated` of the same arguments, with gradients that are fast on the CPU.

    Meant for Flax: `nn.Conv(..., conv_general_dilated=layers.conv)`. What our networks use is made
    fast: images (N, H, W, C), kernels (h, w, C, D), strides and padding. With dilation, groups, a
    precision or another layout it is XLA's convolution and XLA's gradients.

    As a `jax.custom_vjp` it has no derivatives in forward mode: `jax.jvp`, `jax.jacfwd` and
    `jax.linearize` of it raise a TypeError (of its gradient they work, as in `jax.hessian`). A
    module of your own that needs them takes ``conv_general_dilated=lax.conv_general_dilated``.
    """
    options["dimension_numbers"] = dimension_numbers
    if not _is_ordinary(lhs, rhs, **options):
        return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)
    strides = (window_strides[0], window_strides[1])
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
    pads = ((padding[0][0], padding[0][1]), (padding[1][0], padding[1][1]))
    if lhs.shape[1:3] == rhs.shape[:2] and pads == ((0, 0), (0, 0)):
        # One window, as large as the image: a matrix product.
        return (lhs.reshape(lhs.shape[0], -1) @ rhs.reshape(-1, rhs.shape[3]))[:, None, None]
    if rhs.shape[:2] == strides == (1, 1) and pads == ((0, 0), (0, 0)):
        # Every pixel by itself: a matrix product, which with its gradients takes a third less.
        return lhs @ rhs.reshape(rhs.shape[2:])
    return _conv(lhs, rhs, strides, pads)


def max_pool(x: Array) -> Array:
    """Maxima of 3x3 windows at stride 2, (N, H, W, C) -> (N, ceil((H-1)/2), ceil((W-1)/2), C).

    Caffe's ceil mode: the last window may reach over the lower and right edges, where nothing is.
    Of equal maxima the first gets the gradient. A window with a NaN gives NaN.

    Raises:
        ValueError: if H or W is less than 2.
    """
    for axis in (1, 2):
        first, second, third = _windows(x, axis, -jnp.inf)
        x = _larger(_larger(first, second), third)
    return x


def max_pool_same(x: Array) -> Array:
    """Maxima of the 3x3 windows around every pixel, (N, H, W, C) -> (N, H, W, C).

    Beyond the edges nothing is. Of equal maxima the first gets the gradient. A window with a NaN
    gives NaN.
    """
    return _max_of_three(_max_of_three(x, 1), 2)


def average_pool(x: Array) -> Array:
    """Means of 3x3 windows at stride 2, with shapes, edges and errors as in `max_pool`.

    A window that reaches over the edge is divided by the number of real pixels in it.
    """
    for axis in (1, 2):
        first, second, third = _windows(x, axis, 0.0)
        pixels = [min(3, x.shape[axis] - 2 * i) for i in range(first.shape[axis])]
        weights = 1 / jnp.asarray(pixels, x.dtype)
        x = (first + second + third) * jnp.expand_dims(weights, [i for i in range(4) if i != axis])
    return x


def batch_norm(train: bool, dtype: Any, name: str) -> nn.BatchNorm:  # noqa: ANN401 (as in Flax)
    """Batch normalisation by channel, whose running statistics remember some ten batches."""
    return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, name=name
    )


def response_norm(x: Array) -> Array:
    """Local response normalisation across five neighbouring channels, as in GoogLeNet.

    y_c = x_c / (1 + 1e-4 / 5 * sum of x_d^2 over |d - c| <= 2)^0.75, channels last, computed in
    float32 at least. There are no channels beyond the first and the last.

    Source: Krizhevsky et al. 2012, section 3.3; Caffe's LRN layer, which divides alpha by the size.
    """
    exact = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    window, ones = (1,) * (x.ndim - 1), (1,) * x.ndim
    sides = ((0, 0),) * (x.ndim - 1)
    squares = lax.reduce_window(exact**2, 0.0, lax.add, (*window, 5), ones, (*sides, (2, 2)))
    root = lax.rsqrt(1 + 1e-4 / 5 * squares)
    return (exact * root * jnp.sqrt(root)).astype(x.dtype)  # A power takes five times as long.


def check_images(model: str, x: Array, size: int) -> None:
    """Checks that a model gets images (N, size, size, C).

    Raises:
        ValueError: if x is of another rank or its images are of another size.
    """
    if x.ndim != 4 or x.shape[1:3] != (size, size):
        raise ValueError(
            f"{model} expects images of shape (N, {size}, {size}, C), got {x.shape}: "
            f"load the data with size={size} and keep the batch and channel axes"
        )


def check_counts(model: str, name: str, numbers: Sequence[int], count: int) -> None:
    """Checks a model's numbers of channels, blocks or classes.

    Args:
        model: its name.
        name: of the attribute.
        numbers: the attribute's.
        count: how many there must be.

    Raises:
        ValueError: if there are more or fewer, or one of them is less than 1.
    """
    if len(numbers) != count or min(numbers, default=1) < 1:
        raise ValueError(
            f"{model}: {name} must be {count} number{'s' * (count != 1)} of at least 1, "
            f"got {', '.join(map(str, numbers)) or 'none'}"
        )


def _is_ordinary(lhs: Array, rhs: Array, **options: Any) -> bool:  # noqa: ANN401
    numbers = options.pop("dimension_numbers")
    if lhs.ndim != 4 or numbers is None or lhs.dtype != rhs.dtype:
        return False
    given, wanted = (
        lax.conv_dimension_numbers(lhs.shape, rhs.shape, numbers) for numbers in (numbers, _NHWC)
    )
    return given == wanted and all(option in (None, 1, (1, 1)) for option in options.values())


def _plain(x: Array, kernel: Array, strides: Pair, pads: Pads) -> Array:
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=_NHWC)


def _forward(
    x: Array, kernel: Array, strides: Pair, pads: Pads
) -> tuple[Array, tuple[Array, Array]]:
    return _plain(x, kernel, strides, pads), (x, kernel)


def _backward(
    strides: Pair, pads: Pads, saved: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    cpu = partial(_cpu_gradients, strides=strides, pads=pads)
    default = partial(_plain_gradients, strides=strides, pads=pads)
    return lax.platform_dependent(*saved, g, cpu=cpu, default=default)


_conv = jax.custom_vjp(_plain, nondiff_argnums=(2, 3))
_conv.defvjp(_forward, _backward)


def _plain_gradients(
    x: Array, kernel: Array, g: Array, strides: Pair, pads: Pads
) -> tuple[Array, Array]:
    d_x, d_kernel = jax.vjp(partial(_plain, strides=strides, pads=pads), x, kernel)[1](g)
    return d_x, d_kernel


def _cpu_gradients(
    x: Array, kernel: Array, g: Array, strides: Pair, pads: Pads
) -> tuple[Array, Array]:
    """Both gradients as convolutions in the one layout, NHWC and HWIO, that XLA's fast paths take.

    The barriers keep XLA from folding the transpositions into the convolution, which would leave it
    with a layout for which it has only plain loops (5x5, 32 -> 32, batch 128: 4,000 ms, not 21).
    """
    sizes = zip(x.shape[1:3], kernel.shape[:2], strides, pads, g.shape[1:3], strict=True)
    # Rows and columns at the end that no window reached, because the stride left them over.
    rest = [size + sum(pad) - (count - 1) * s - k for size, k, s, pad, count in sizes]
    inner = [(before, after - r) for (before, after), r in zip(pads, rest, strict=True)]
    outer = [
        (k - 1 - before, k - 1 - after + r)
        for k, (before, after), r in zip(kernel.shape[:2], pads, rest, strict=True)
    ]
    flipped = lax.optimization_barrier(kernel[::-1, ::-1].swapaxes(2, 3))
    d_x = lax.conv_general_dilated(
        g, flipped, (1, 1), outer, lhs_dilation=strides, dimension_numbers=_NHWC
    )
    # Then the matrix of taps is no larger than the gradient that comes in.
    few = math.prod(kernel.shape[:3]) <= kernel.shape[3]
    d_kernel = _of_taps(x, kernel, g, strides, pads) if few else _of_images(x, g, strides, inner)
    return d_x, d_kernel


def _of_images(x: Array, g: Array, strides: Pair, inner: Sequence[Pair]) -> Array:
    """A kernel's gradient as convolutions of the images by the outputs' gradient.

    A few images at a time, which stay in the cache: 1.5 to 2.5 times as fast as all at once.
    """

    def of(x: Array, g: Array) -> Array:
        images, window = lax.optimization_barrier(
            (x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3))
        )
        return lax.conv_general_dilated(
            images, window, (1, 1), inner, rhs_dilation=strides, dimension_numbers=_NHWC
        )

    whole, rest = divmod(x.shape[0], CHUNK)
    d_kernel = of(x[:rest], g[:rest])  # Of no images, zeros.
    if whole:
        chunks = [each[rest:].reshape(whole, CHUNK, *each.shape[1:]) for each in (x, g)]
        d_kernel, _ = lax.scan(lambda total, chunk: (total + of(*chunk), None), d_kernel, chunks)
    return d_kernel.transpose(1, 2, 0, 3)


def _of_taps(x: Array, kernel: Array, g: Array, strides: Pair, pads: Pads) -> Array:
    """A kernel's gradient as a product of two matrices: its taps by places, places by outputs.

    In first layers, of few channels, two to three times as fast as the convolution.
    """
    padded = lax.pad(
        x.transpose(3, 0, 1, 2),
        jnp.zeros((), x.dtype),
        [(0, 0, 0)] * 2 + [(*pad, 0) for pad in pads],
    )
    ends = [(count - 1) * stride + 1 for count, stride in zip(g.shape[1:3], strides, strict=True)]
    taps = [
        padded[:, :, i : i + ends[0] : strides[0], j : j + ends[1] : strides[1]]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    ]
    matrix = jnp.stack(taps).reshape(math.prod(kernel.shape[:3]), -1)
    return (matrix @ g.reshape(-1, kernel.shape[3])).reshape(kernel.shape)


def _beats(b: Array, a: Array) -> Array:
    # A comparison with NaN is false, so `a` stays where it is one; that of `b` is asked for.
    return (b > a) | (b != b)


def _larger(a: Array, b: Array) -> Array:
    # Not jnp.maximum: its gradient halves ties by a division; without, LeNet trains 12 % faster.
    return jnp.where(_beats(b, a), b, a)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_of_three(x: Array, axis: int) -> Array:
    """The largest of every entry and its two neighbours along `axis`."""
    before, here, after = _neighbours(x, axis, -jnp.inf)
    return _larger(_larger(before, here), after)


def _max_and_place(x: Array, axis: int) -> tuple[Array, Array]:
    """The largest, and whether it was before (0), here (1) or after (2)."""
    before, here, after = _neighbours(x, axis, -jnp.inf)
    pair = _larger(before, here)
    place = jnp.where(_beats(after, pair), 2, _beats(here, before)).astype(jnp.int8)
    return _larger(pair, after), place


def _to_the_largest(axis: int, place: Array, g: Array) -> tuple[Array]:
    """The gradient, gathered by whom it concerns.

    Left to JAX it would be scattered to them, which XLA does by padding and adding: that takes the
    CPU five times as long, and `lax.reduce_window` six times.
    """
    gradients, places = _neighbours(g, axis, 0), _neighbours(place, axis, 1)
    terms = [
        jnp.where(its_place == direction, gradient, 0)
        for gradient, its_place, direction in zip(gradients, places, (2, 1, 0), strict=True)
    ]
    return (sum(terms[1:], terms[0]),)


_max_of_three.defvjp(_max_and_place, _to_the_largest)


def _neighbours(x: Array, axis: int, fill: float) -> list[Array]:
    """Of every entry the one before along `axis`, itself and the one after."""
    size = x.shape[axis]
    padded = jnp.pad(x, [(int(i == axis),) * 2 for i in range(x.ndim)], constant_values=fill)
    return [lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(3)]


def _windows(x: Array, axis: int, fill: float) -> tuple[Array, Array, Array]:
    """The first, second and third elements of the windows of 3 at stride 2 along `axis`.

    By splitting the axis into pairs, not by strided slices, whose gradients XLA pads and adds.
    """
    size = x.shape[axis]
    if size < 2:
        raise ValueError(f"pooling needs images of at least 2x2 pixels, got shape {x.shape}")
    count, pairs = size // 2, (size + 1) // 2  # size // 2 = ceil((size - 1) / 2)

    def pad(x: Array, end: int) -> Array:
        return jnp.pad(x, [(0, end * (i == axis)) for i in range(4)], constant_values=fill)

    x = pad(x, 2 * pairs - size).reshape(*x.shape[:axis], pairs, 2, *x.shape[axis + 1 :])
    even, odd = (lax.index_in_dim(x, i, axis + 1, keepdims=False) for i in (0, 1))
    first, second = (lax.slice_in_dim(half, 0, count, axis=axis) for half in (even, odd))
    third = pad(lax.slice_in_dim(even, 1, pairs, axis=axis), count + 1 - pairs)
    return first, second, third
