"""What a model's program tells of its layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal, Var

from evojax.deploy.checks import traced
from evojax.deploy.cost import weighed
from evojax.deploy.rules.rule import dtype_of, shape_of
from evojax.deploy.trace import Program
from evojax.genetics.census import layer_names
from evojax.genetics.clusters import Synapses, default_rule

PyTree = Any
Shape = tuple[int, ...]
Init = Callable[[jax.Array, Shape], tuple[PyTree, PyTree]]
Forward = Callable[[PyTree, PyTree, jax.Array, bool], tuple[jax.Array, PyTree]]

PARAMS, STATS = "params/", "batch_stats/"
"""What the paths of parameters and of running statistics start with in a program."""

NOTHING: frozenset[str] = frozenset()


class Layer(NamedTuple):
    """A parameter that a matrix product or a convolution reads.

    Attributes:
        name: path of its module; its own path where the module has several such parameters, or
            where it carries no synapses.
        positions: how often each of its synapses is multiplied per image, as `evojax.cost` counts:
            its multiply-accumulates divided by its synapses. That is the output's height times
            width, of a transposed convolution with strides the input's, summed over its calls;
            a fraction where a call reads but a part of the parameter.
    """

    name: str
    positions: float


def evaluation(init: Init, forward: Forward, image_shape: Shape) -> Program:
    """The forward pass of a model for one image, as it predicts.

    Args:
        init: as in `Model`.
        forward: as in `Model`.
        image_shape: (H, W, C).

    Raises:
        ValueError: if the model does not take such images.
    """
    params, stats = jax.eval_shape(lambda key: init(key, image_shape), jax.random.key(0))
    return traced(
        lambda variables, x: forward(variables["params"], variables["batch_stats"], x, False)[0],
        {"params": params, "batch_stats": stats},
        jax.ShapeDtypeStruct((1, *image_shape), jnp.float32),
    )


def layers_of(program: Program) -> tuple[Layer, ...]:
    """The layers of a model, in the order in which its program first multiplies by them.

    A parameter is found whatever it is called, also where something is computed of it first (a
    slice, a normalised kernel), as long as it alone of those that carry synapses goes into what is
    multiplied. What loops hide (scans of more than 128 steps, while) is not found.

    Args:
        program: of the model (`evaluation`).
    """
    shapes = {
        path.removeprefix(PARAMS): jax.ShapeDtypeStruct(shape_of(var), dtype_of(var))
        for path, var in zip(program.paths, program.variables, strict=True)
        if path.startswith(PARAMS)
    }
    roles = default_rule(shapes)
    names = layer_names([path for path, role in roles.items() if isinstance(role, Synapses)])
    found: dict[str, int] = {}
    for path, macs in _multiplied(program, names):
        found[path] = found.get(path, 0) + macs
    return tuple(
        Layer(names.get(path, path), _ratio(macs, math.prod(shapes[path].shape)))
        for path, macs in found.items()
    )


def _multiplied(program: Program, carrying: Collection[str]) -> Iterator[tuple[str, int]]:
    """The parameter of each product, and its multiply-accumulates.

    Args:
        program: the forward pass.
        carrying: paths of the parameters that carry synapses, before which others give way.
    """
    made_of = _made_of(program)
    for eqn, product in weighed(program):
        sources = NOTHING.union(
            *(made_of.get(atom, NOTHING) for atom in eqn.invars if not isinstance(atom, Literal))
        )
        match list(sources.intersection(carrying) or sources):
            case [path]:
                yield path, product.macs


def _made_of(program: Program) -> dict[Var, frozenset[str]]:
    """Of which parameters each value is made, for values that do not depend on the input."""
    made_of = dict.fromkeys(program.jaxpr.constvars, NOTHING)
    for path, var in zip(program.paths, program.variables, strict=True):
        name = path.removeprefix(PARAMS)
        made_of[var] = NOTHING if name == path else frozenset({name})
    for eqn in program.jaxpr.eqns:
        operands = [atom for atom in eqn.invars if not isinstance(atom, Literal)]
        if all(atom in made_of for atom in operands):
            sources = NOTHING.union(*(made_of[atom] for atom in operands))
            made_of |= dict.fromkeys(eqn.outvars, sources)
    return made_of


def _ratio(one: int, other: int) -> float:
    """Their quotient, an int where it is whole."""
    return one // other if one % other == 0 else one / other
