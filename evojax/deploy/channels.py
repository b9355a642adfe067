"""A network's channels, found by tracing it, as genetics takes them for clusters."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal, Var

from evojax.deploy.checks import traced
from evojax.deploy.cost import weighed
from evojax.deploy.labels import WHOLE
from evojax.deploy.rules.rule import Eqn, dtype_of, shape_of
from evojax.deploy.topology import Topology, topology
from evojax.deploy.trace import Apply, Program, bind
from evojax.genetics import Rule, default_rule, layout
from evojax.genetics.channels import Axis, Channels
from evojax.genetics.clusters import Synapses

PyTree = Any

REPEATS = 15


def channels(
    apply: Apply,
    variables: PyTree,
    x: PyTree,
    *,
    rule: Rule = default_rule,
    latency: bool = False,
) -> Channels:
    """Finds what lives or dies together across the layers of a network.

    Nothing is declared: the function is traced, as by `evojax.compact`, and its channels are those
    that compaction can cut out. Axes that are not understood have no channels.

    An entry of a parameter is priced at one in ``parameters``, at the multiply-accumulates that it
    takes part in for this input in ``macs``, and in ``latency`` at its share of the time that the
    operation takes in which its parameter is multiplied, in seconds, measured by itself on the
    device at hand: a model, which knows nothing of fusion and takes time to be proportional to what
    a layer is left with. Products of two signals, as in attention, have no price.

    Args:
        apply: ``(variables, x) -> outputs``, any function that JAX can trace.
        variables: PyTree of arrays, or of their shapes; parameters are ``variables["params"]`` if
            there are any, else all of them.
        x: an input, of which only shapes matter: give it a batch of the size to be fast at.
        rule: which parameters carry synapses, as for `evojax.synthesis`.
        latency: measure as well.

    Raises:
        ValueError: if the function rejects the variables or the input, nothing carries synapses, or
            no channel of the network can be cut out.

    Example:
        >>> import jax.numpy as jnp
        >>> def apply(variables, x):
        ...     return jnp.maximum(x @ variables["hidden"], 0) @ variables["out"]
        >>> variables = {"hidden": jnp.ones((3, 8)), "out": jnp.ones((8, 2))}
        >>> found = channels(apply, variables, jnp.ones((1, 3)))
        >>> found.number, list(found.families), found.prices["macs"]
        (8, ['hidden'], {'hidden': 1.0, 'out': 1.0})
    """
    program = traced(apply, variables, x)
    params, names = _parameters(program, variables)
    plan = layout(params, rule)
    carrying = [path for path, role in plan.roles.items() if isinstance(role, Synapses)]
    found = topology(program)
    numbers = {path: number for number, path in enumerate(program.paths)}
    every = {full: _axes(found, program.variables[number]) for full, number in numbers.items()}
    axes = {path: every.pop(full) for path, full in names.items()}
    families = _families(axes, carrying)
    if not families:
        raise ValueError(
            "no channel of this network can be cut out: every axis of every parameter that carries "
            "synapses ends in the output, or in an operation that is not understood"
        )
    order = np.concatenate(list(families.values()))
    ids = np.full(len(found.atoms), -1, np.int32)
    ids[order] = np.arange(len(order))
    ends = np.cumsum([len(members) for members in families.values()])
    axes, others = (
        {path: tuple(_numbered(axis, ids) for axis in each) for path, each in tree.items()}
        for tree in (axes, every)
    )
    return Channels(
        axes=axes,
        families={
            name: np.arange(end - len(members), end, dtype=np.int32)
            for (name, members), end in zip(families.items(), ends, strict=True)
        },
        prices=_prices(found, names, latency),
        others=others,
    )


def _parameters(program: Program, variables: PyTree) -> tuple[PyTree, dict[str, str]]:
    """The parameters, and by their paths those among the variables."""
    if isinstance(variables, Mapping) and "params" in variables:
        inside = [path for path in program.paths if path.startswith("params/")]
        return variables["params"], {path.removeprefix("params/"): path for path in inside}
    return variables, {path: path for path in program.paths}


def _axes(found: Topology, var: Var) -> tuple[Axis, ...]:
    """Representatives of the atoms along each axis; no factors where it is kept whole."""
    return tuple(
        np.empty((length, 0), int) if axis is None else found.atoms.find(axis)
        for length, axis in zip(shape_of(var), found.axes[var], strict=True)
    )


def _families(axes: Mapping[str, tuple[Axis, ...]], carrying: list[str]) -> dict[str, np.ndarray]:
    """Representatives of the atoms that synapses write to, those together that share an axis."""
    families: dict[str, np.ndarray] = {}
    for path in carrying:
        axis = axes[path][-1]
        members = np.unique(axis[axis != WHOLE])
        if not len(members):
            continue
        shared = [name for name, others in families.items() if np.isin(members, others).any()]
        merged = np.unique(np.concatenate([members, *(families[name] for name in shared)]))
        families[shared[0] if shared else path] = merged
        for name in shared[1:]:
            del families[name]
    return families


def _numbered(axis: Axis, ids: np.ndarray) -> Axis:
    """Channels by number, without the factors that hold none."""
    numbered = ids[axis]
    return numbered[:, np.any(numbered >= 0, axis=0)]


def _prices(
    found: Topology, names: Mapping[str, str], latency: bool
) -> dict[str, dict[str, float]]:
    program = found.program
    paths = {full: path for path, full in names.items()}
    sizes = {
        full: math.prod(shape_of(var))
        for full, var in zip(program.paths, program.variables, strict=True)
    }
    prices = {"parameters": dict.fromkeys(names, 1.0), "macs": dict.fromkeys(names, 0.0)}
    if latency:
        prices["latency"] = dict.fromkeys(names, 0.0)
    for eqn, product in weighed(program):
        if product.path in paths:
            path = paths[product.path]
            prices["macs"][path] += product.macs / sizes[product.path]
            if latency:
                prices["latency"][path] += _seconds(eqn) / sizes[product.path]
    return {name: {p: price for p, price in each.items() if price} for name, each in prices.items()}


def _seconds(eqn: Eqn) -> float:
    """The median time of one operation by itself, compiled and warmed up."""
    generator = np.random.default_rng(0)
    operands = [
        atom.val
        if isinstance(atom, Literal)
        else jnp.asarray(generator.standard_normal(shape_of(atom)), dtype_of(atom))
        for atom in eqn.invars
    ]
    run = jax.jit(lambda *args: bind(eqn, args))
    jax.block_until_ready(run(*operands))
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(run(*operands))
        times.append(time.perf_counter() - start)
    return statistics.median(times)
