"""Convolutions compute the same in every form, and the one that was fastest is taken."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from evojax.deploy import InconsistentError, autotune, autotuning, cost, export
from evojax.deploy.autotuning import PLAIN, Form


@pytest.fixture
def fastest(monkeypatch):
    """Sets which form is measured to be how fast, others being slower, and the whole network."""

    def set_to(form, gain=3.0, network=1.5):
        seen = []

        def take_turns(forwards, x, *, turns, **_):
            if not isinstance(x, list):  # The whole network, before and after.
                return [[network] * turns, [1.0] * turns]
            found = [form_of(forward, x) for forward in forwards]
            seen.append((found, turns))
            return [[{PLAIN: gain, form: 1.0}.get(each, 2 * gain)] * turns for each in found]

        monkeypatch.setattr(autotuning, "take_turns", take_turns)
        return seen

    return set_to


def form_of(forward, arrays):
    """By the convolution's shapes; it has fewer than four channels to begin with, and four then."""
    (eqn,) = jax.make_jaxpr(forward)(arrays).jaxpr.eqns
    (conv,) = convolutions(eqn.params["jaxpr"].jaxpr)
    *_, before, after = conv.invars[1].aval.shape
    return Form(after // 4, 4 if before > arrays[0].shape[-1] else 1)


def network(variables, x, *, layout="NHWC", **options):
    numbers = (layout, layout[1:-1] + "IO", layout)
    y = lax.conv_general_dilated(x, variables["kernel"], dimension_numbers=numbers, **options)
    return jnp.tanh(y + variables["bias"])


def made(image=(13, 13, 3), window=(5, 5), channels=4):
    key = jax.random.key(0)
    variables = {
        "kernel": jax.random.normal(key, (*window, image[-1], channels)),
        "bias": jnp.arange(1.0 * channels),
    }
    return variables, jax.random.normal(jax.random.key(1), (2, *image))


def convolutions(jaxpr):
    return [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "conv_general_dilated"]


@pytest.mark.parametrize("form", [Form(2), Form(4), Form(8), Form(1, 4), Form(8, 4)])
@pytest.mark.parametrize(
    ("image", "window", "layout", "options"),
    [
        ((13, 13, 3), (5, 5), "NHWC", {"window_strides": (1, 1), "padding": "VALID"}),
        ((13, 25, 1), (3, 4), "NHWC", {"window_strides": (2, 3), "padding": "SAME"}),
        ((9, 17, 2), (3, 1), "NHWC", {"window_strides": (1, 2), "padding": ((2, 0), (0, 3))}),
        ((23, 2), (4,), "NWC", {"window_strides": (2,), "padding": ((1, 0),)}),
        ((4, 5, 8, 2), (2, 2, 3), "NDHWC", {"window_strides": (1,) * 3, "padding": "SAME"}),
    ],
)
def test_every_form_computes_the_same(fastest, form, image, window, layout, options):
    fastest(form)
    apply = partial(network, layout=layout, **options)
    variables, x = made(image, window)
    tuned = autotune(apply, variables, x)
    (choice,) = tuned.choices
    assert choice.form == form
    (conv,) = convolutions(jax.make_jaxpr(tuned.apply)(variables, x).jaxpr)
    assert conv.params["window_strides"][-1] == form.tile * options["window_strides"][-1]
    before = 4 if form.multiple == 4 else image[-1]
    assert conv.invars[1].aval.shape[-2:] == (before, 4 * form.tile)
    batch = jnp.concatenate([x, x[:1]])  # Other batches have the same forms.
    expected = apply(variables, batch)
    np.testing.assert_allclose(jax.jit(tuned.apply)(variables, batch), expected, 1e-5, 1e-5)


def test_what_was_measured_is_told_and_taken(fastest):
    seen = fastest(Form(4, 4))
    variables, x = made()
    apply = partial(network, window_strides=(1, 1), padding="SAME")
    tuned = autotune(apply, variables, x, turns=5)
    every = [Form(tile, multiple) for multiple in (1, 4) for tile in (1, 2, 4, 8)]
    assert seen == [(every, 1), ([PLAIN, Form(4, 4)], 5)]
    assert tuned.speedup == 1.5
    (choice,) = tuned.choices
    assert choice[1:] == (Form(4, 4), 3.0)
    assert choice.convolution.image == (13, 13, 3)
    assert choice.convolution.padding == ((2, 2), (2, 2))


@pytest.mark.parametrize(
    ("gain", "whole"),
    [
        (1.04, 2.0),  # Not worth it.
        (3.0, 1.04),  # The network as a whole is hardly faster.
    ],
)
def test_what_is_no_faster_stays_as_it_was(fastest, gain, whole):
    fastest(Form(2), gain, whole)
    apply = partial(network, window_strides=(1, 1), padding="SAME")
    tuned = autotune(apply, *made())
    assert tuned.apply is apply
    assert tuned.speedup == 1.0
    assert [choice[1:] for choice in tuned.choices] == [(PLAIN, gain)]


@pytest.mark.parametrize(
    "apply",
    [
        lambda v, x: network(v, x, window_strides=(1, 1), padding="SAME", rhs_dilation=(1, 2)),
        lambda v, x: network(
            v, x, window_strides=(1, 1), padding=((2, 2),) * 2, lhs_dilation=(2, 1)
        ),
        lambda v, x: network(
            v, x.repeat(2, -1), window_strides=(1, 1), padding="SAME", feature_group_count=2
        ),
        lambda v, x: lax.conv_general_dilated(
            x.transpose(0, 3, 1, 2), v["kernel"].transpose(3, 2, 0, 1), (1, 1), "SAME"
        ),
        lambda v, x: x @ v["kernel"][0, 0],
    ],
)
def test_what_has_no_other_form_stays(fastest, apply):
    fastest(Form(4))
    tuned = autotune(apply, *made())
    assert tuned.apply is apply
    assert not tuned.choices


@pytest.mark.parametrize(
    ("image", "forms"),
    [
        ((7, 7, 4), [PLAIN, Form(2)]),  # Rows of three.
        ((7, 7, 5), [PLAIN, Form(2), Form(1, 4), Form(2, 4)]),
        ((5, 5, 5), [PLAIN, Form(1, 4)]),
        ((5, 5, 4), []),  # Nothing but the plain form: there is nothing to measure.
        ((4, 4, 4), []),  # Nor where the window is larger than the image.
    ],
)
def test_what_cannot_help_is_not_tried(fastest, image, forms):
    seen = fastest(Form(2))
    apply = partial(network, window_strides=(1, 1), padding="VALID")
    (choice,) = autotune(apply, *made(image=image)).choices
    assert [tried for tried, _ in seen[:1]] == ([forms] if forms else [])
    assert forms or choice[1:] == (PLAIN, 1.0)


def test_the_outcome_is_an_ordinary_function(fastest, tmp_path):
    fastest(Form(4, 4))
    apply = partial(network, window_strides=(1, 1), padding="VALID")
    variables, x = made()
    fast = autotune(apply, variables, x).apply
    gradients = [jax.grad(lambda v, f=f: f(v, x).sum())(variables) for f in (apply, fast)]
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), *gradients)
    several = jax.vmap(fast, (None, 0))(variables, jnp.stack([x, 2 * x]))
    np.testing.assert_allclose(several[1], apply(variables, 2 * x), 1e-5, 1e-5)
    done = export(fast, variables, x, tmp_path / "net.stablehlo")
    assert done.batch is None
    assert cost(fast, variables, x).macs > cost(apply, variables, x).macs


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 0), (2, 3))])
def test_no_form_cuts_its_input_by_negative_padding(fastest, padding):
    """Which the plain form does not have, and ONNX cannot express."""
    fastest(Form(4))
    apply = partial(network, window_strides=(2, 2), padding=padding)
    variables, x = made(image=(13, 32, 3), window=(1, 1))
    fast = autotune(apply, variables, x).apply
    (conv,) = convolutions(jax.make_jaxpr(fast)(variables, x).jaxpr)
    assert min(conv.params["padding"][-1]) >= 0


def test_a_form_that_computes_something_else_is_refused(fastest, monkeypatch):
    """For an image of zeros, with variables of which random ones would make no numbers."""
    fastest(Form(4))
    tiled = autotuning._tiled
    monkeypatch.setattr(autotuning, "_tiled", lambda *args: args[-1] * tiled(*args))

    def apply(variables, x):
        y = network(variables, x, window_strides=(1, 1), padding="SAME")
        return y / jnp.sqrt(variables["variances"].min())

    variables, x = made()
    variables |= {"bias": jnp.zeros(4), "variances": jnp.ones(64)}
    with pytest.raises(InconsistentError):
        autotune(apply, variables, 0 * x)


def test_measured_for_real():
    variables, x = made()
    apply = partial(network, window_strides=(1, 1), padding="VALID")
    tuned = autotune(apply, variables, x, turns=1, seconds=1e-4)
    assert tuned.speedup >= 1
    np.testing.assert_allclose(tuned.apply(variables, x), apply(variables, x), 1e-5, 1e-5)


@pytest.mark.parametrize("wrong", [{"turns": 0}, {"seconds": 0.0}, {"seconds": float("nan")}])
def test_bad_input(wrong):
    with pytest.raises(ValueError, match="turns and seconds must be above 0"):
        autotune(partial(network, window_strides=(1, 1), padding="SAME"), *made(), **wrong)
    with pytest.raises(ValueError, match="apply rejects"):
        autotune(partial(network, window_strides=(1, 1), padding="SAME"), made()[0], jnp.ones(3))
