"""Convolutions in the form that is fastest on the device at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from evojax.deploy.checks import arrays, check_same, traced
from evojax.deploy.rules.rule import Eqn, dtype_of, shape_of
from evojax.deploy.timing import speedup, take_turns
from evojax.deploy.trace import Apply, bind, evaluate, trace

PyTree = Any

TILES = (1, 2, 4, 8)
"""How many neighbouring places of an output's row may be computed at once."""

MULTIPLES = (1, 4)
"""Multiples that the input's channels may be filled up to, with zeros."""

WORTH = 1.05
"""How many times as fast a form, or the network, must be measured to take the plain one's place."""


class Convolution(NamedTuple):
    """A convolution, but for the number of images.

    Attributes:
        image: shape of the input, (*space, C).
        kernel: shape, (*window, C, D).
        strides: by axis of space.
        padding: by axis of space, before and after.
        dtypes: of image, kernel and output.
    """

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dtypes: tuple[str, ...]


class Form(NamedTuple):
    """A way to compute a convolution; the plain one as it is.

    Attributes:
        tile: how many neighbouring places of a row are computed at once, as channels.
        multiple: to a multiple of which the input's channels are filled up with zeros.
    """

    tile: int = 1
    multiple: int = 1


PLAIN = Form()


class Choice(NamedTuple):
    """What was measured of a convolution.

    Attributes:
        convolution: of which the network has at least one.
        form: the one that is taken.
        speedup: of the fastest form against the plain one; 1 where there is no other.
    """

    convolution: Convolution
    form: Form
    speedup: float


class Autotuned(NamedTuple):
    """A network whose convolutions have the form that was fastest.

    Attributes:
        apply: ``(variables, x) -> outputs`` as before, of the same variables.
        choices: one for each distinct convolution that is neither grouped nor dilated and has its
            channels last.
        speedup: of the whole network, against what it was; 1 where the plain forms stay.
    """

    apply: Apply
    choices: tuple[Choice, ...]
    speedup: float


def autotune(
    apply: Apply, variables: PyTree, example_input: PyTree, *, turns: int = 7, seconds: float = 0.02
) -> Autotuned:
    """Measures equal forms of every convolution and takes the fastest.

    Few output channels leave XLA's convolutions on CPUs at a fraction of their speed: 1 -> 8
    channels run at a tenth of 1 -> 32. So t neighbours in a row of the output may be computed as
    one place with t times the channels: the kernel is widened by t - 1 strides and holds itself t
    times, each shifted by one stride, and steps by t strides. The arrays come out in the same
    order, at (k + t - 1) / k times the multiply-accumulates for a kernel of width k and stride 1.
    Odd numbers of input channels cost as much: 21 -> 23 channels run at a third of 24 -> 23. So
    they may be filled up with zeros to a multiple of four. Every pair of the two is timed once, and
    the fastest against the plain form in several turns.

    Outputs are the same but for rounding, which is checked; an infinite pixel, or one that is no
    number, spoils neighbours too. The new function is an ordinary JAX function of the same
    variables, for any number of inputs; what was measured holds for about as many as the example
    has, on this device, while nothing else runs. Convolutions that are grouped or dilated, or whose
    channels are not last, stay as they are. Derivatives that a function brings along
    (`jax.custom_jvp`, as ReLU's at 0) are lost: this is for inference. Call it under `jax.jit`, for
    it is traced anew at each call.

    Args:
        apply: ``(variables, x) -> outputs``, any function that JAX can trace, such as that of a
            `Compacted` network.
        variables: PyTree of arrays.
        example_input: what apply takes as x, as many at once as there will be.
        turns: how often the fastest form of each is timed against the plain one.
        seconds: how long one turn of one form is to last, about.

    Returns:
        The network in the forms that were fastest; as it was, if together they gain too little.

    Raises:
        ValueError: if the function rejects variables or input, or turns or seconds are not above 0.
        InconsistentError: if the outcome does not compute the same: a defect of evojax.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp
        >>> net, images = nn.Conv(8, (5, 5)), jnp.ones((32, 32, 32, 1))
        >>> variables = net.init(jax.random.key(0), images)
        >>> fast = autotune(net.apply, variables, images, turns=1)
        >>> jax.jit(fast.apply)(variables, images).shape
        (32, 32, 32, 8)
    """
    if turns < 1 or not seconds > 0:
        raise ValueError(f"turns and seconds must be above 0; got {turns} and {seconds}")
    variables, x = arrays(variables, example_input)
    program = traced(apply, variables, x)
    found = {key: eqn for eqn in program.jaxpr.eqns if (key := _convolution(eqn)) is not None}
    choices = tuple(_fastest(key, eqn, turns, seconds) for key, eqn in found.items())
    forms = {choice.convolution: choice.form for choice in choices if choice.form != PLAIN}
    if not forms:
        return Autotuned(apply, choices, 1.0)
    tuned = _with_forms(apply, forms)
    compiled = [jax.jit(lambda *both, f=f: f(*both)) for f in (apply, tuned)]
    before, after = (partial(function, variables) for function in compiled)
    check_same(before, after, x, "the autotuned network")
    plain, fast = take_turns([before, after], x, turns=turns, seconds=seconds)
    if (gain := speedup(plain, fast)) <= WORTH:
        plainly = tuple(choice._replace(form=PLAIN) for choice in choices)
        return Autotuned(apply, plainly, 1.0)
    return Autotuned(tuned, choices, gain)


def _convolution(eqn: Eqn) -> Convolution | None:
    """What there are several forms of."""
    if eqn.primitive.name != "conv_general_dilated":
        return None
    params, shapes = eqn.params, [shape_of(var) for var in eqn.invars]
    dtypes = [dtype_of(var) for var in (*eqn.invars, *eqn.outvars)]
    axes = len(shapes[0])
    places = tuple(range(1, axes - 1))
    images, window = (0, axes - 1, *places), (axes - 1, axes - 2, *range(axes - 2))
    ordinary = (
        axes > 2
        and params["dimension_numbers"] == lax.ConvDimensionNumbers(images, window, images)
        and params["feature_group_count"] == params["batch_group_count"] == 1
        and {*params["lhs_dilation"], *params["rhs_dilation"]} == {1}
        and all(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes)
    )
    if not ordinary:
        return None
    return Convolution(
        tuple(shapes[0][1:]),
        shapes[1],
        tuple(params["window_strides"]),
        tuple(map(tuple, params["padding"])),
        tuple(dtype.name for dtype in dtypes),
    )


def _fastest(convolution: Convolution, eqn: Eqn, turns: int, seconds: float) -> Choice:
    row, channels = shape_of(eqn.outvars[0])[-2], convolution.image[-1]
    forms = [
        Form(tile, multiple)
        for multiple in MULTIPLES
        for tile in TILES
        if tile <= max(row, 1) and (multiple == 1 or channels % multiple)
    ]
    if forms == [PLAIN]:
        return Choice(convolution, PLAIN, 1.0)
    key = jax.random.key(0)
    operands = [jax.random.normal(key, shape_of(var), dtype_of(var)) for var in eqn.invars]
    jitted = [jax.jit(lambda args, form=form: _formed(eqn, *args, form=form)) for form in forms]
    duel = partial(take_turns, x=operands, seconds=seconds, pause=0)
    _, *times = duel(jitted, turns=1)
    best = 1 + min(range(len(times)), key=times.__getitem__)
    gain = speedup(*duel([jitted[0], jitted[best]], turns=turns))
    return Choice(convolution, forms[best] if gain > WORTH else PLAIN, gain)


def _with_forms(apply: Apply, forms: Mapping[Convolution, Form]) -> Apply:
    def operate(eqn: Eqn, args: list[Any]) -> Sequence[Any]:
        key = _convolution(eqn)
        form = PLAIN if key is None else forms.get(key, PLAIN)
        return bind(eqn, args) if form == PLAIN else [_formed(eqn, *args, form=form)]

    def tuned(variables: PyTree, x: PyTree) -> PyTree:
        program = trace(apply, variables, x)
        leaves = [*jax.tree.leaves(variables), *jax.tree.leaves(x)]
        outs = evaluate(program.jaxpr, program.consts, leaves, operate)
        return jax.tree.unflatten(program.output, outs)

    return tuned


def _formed(eqn: Eqn, image: jax.Array, kernel: jax.Array, *, form: Form) -> jax.Array:
    """A convolution with channels last."""
    lacking = -image.shape[-1] % form.multiple
    image, kernel = (
        jnp.pad(array, [(0, lacking if n == axis else 0) for n in range(array.ndim)])
        for array, axis in ((image, image.ndim - 1), (kernel, kernel.ndim - 2))
    )
    return _tiled(eqn, image, kernel, form.tile)


def _tiled(eqn: Eqn, image: jax.Array, kernel: jax.Array, tile: int) -> jax.Array:
    """A convolution with channels last, `tile` places of an output's row at once."""
    if tile == 1:
        return bind(eqn, [image, kernel])[0]
    (*strides, stride), (*padding, (before, after)) = (
        eqn.params[name] for name in ("window_strides", "padding")
    )
    *_, width, channels = shape_of(eqn.outvars[0])
    window, count = kernel.shape[-3], -(-width // tile)
    wide = window + stride * (tile - 1)
    # Enough for `count` steps. Never less than it was: the columns that a stride leaves over are
    # too few for one more step, and ONNX has no negative padding.
    after = max(after, (count - 1) * stride * tile + wide - image.shape[-2] - before)

    def shifted(place: int) -> jax.Array:
        sides = (stride * place, wide - window - stride * place)
        return jnp.pad(kernel, [*[(0, 0)] * (kernel.ndim - 3), sides, (0, 0), (0, 0)])

    out = bind(
        eqn,
        [image, jnp.concatenate([shifted(place) for place in range(tile)], -1)],
        window_strides=(*strides, stride * tile),
        padding=(*padding, (before, after)),
    )[0]
    out = out.reshape(*out.shape[:-2], count * tile, channels)
    return lax.slice_in_dim(out, 0, width, axis=out.ndim - 2)
