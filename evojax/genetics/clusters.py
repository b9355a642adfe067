"""Which parameters carry synapses, and which synapses live or die together.

The papers' synaptic cluster is "any subset of synapses such as a kernel or a set of kernels"
(Shafiee & Wong 2016, section 2). Here a cluster is one of these kinds, the outermost first:

* ``"channel"``: all that enters or leaves one channel, in whatever layers lie along it;
* ``"filter"``: all that enters one output channel of a layer (Chung et al. 2018, section 3.1);
* ``"kernel"``: the k x k slice of an (input, output) channel pair (Shafiee & Wong 2016, section 3);
* ``"synapse"``: every synapse by itself.

Kinds nest: where an encoding has several, a synapse lives only if all the clusters do that it lies
in. A channel crosses layers (`evojax.genetics.channels`); the other kinds span axes of one
parameter. Parameters are laid out as Flax lays them out: ``(*space, input, output)``.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from evojax.genetics.trees import PyTree, flatten

BIASES = ("bias", "b")
CLUSTERS = ("channel", "filter", "kernel", "synapse")
"""Kinds of clusters, the outermost first."""

MOST = 2**31 - 1
"""Synapses of a network, counted in int32."""

Clusters = str | Sequence[str]
"""One kind, or several that nest, the outermost first."""


class Synapses(NamedTuple):
    """Role of a parameter whose entries are synapses, its output channels on the last axis.

    Attributes:
        cluster: cluster kind, or kinds, of this parameter alone; ``None`` takes the encoding's.
    """

    cluster: Clusters | None = None


class Follows(NamedTuple):
    """Role of a per-channel parameter (a bias, a scale) that dies with its channel.

    Attributes:
        of: path of the parameter with the role `Synapses` whose last axis holds the channels. If
            that one is never pruned (role ``None``), this one is not either.
        sampled: whether its entries are synapses of their own as well, sampled one by one.
        counted: whether its entries count as synapses. Biases do (the papers' totals fit only so);
            normalisation's scales and offsets do not.
    """

    of: str
    sampled: bool = False
    counted: bool = True


Role = Synapses | Follows | None
Shapes = Mapping[str, jax.ShapeDtypeStruct]
Rule = Callable[[Shapes], Mapping[str, Role]]


def default_rule(shapes: Shapes, *, sample_biases: bool = False) -> dict[str, Role]:
    """Gives every parameter its role, by its shape and its neighbours.

    A floating-point parameter of two or more axes carries synapses, unless it is an embedding: its
    name ends in ``embedding``, as ``pos_embedding`` does.
    A vector named ``bias`` or ``b`` beside exactly one such parameter follows it if their
    numbers of output channels agree. Everything else (normalisation, embeddings) is never pruned.

    Args:
        shapes: shape and dtype of every parameter, by path.
        sample_biases: sample biases like synapses; they die with their channel in either case.

    Returns:
        The role of every path. Override it by composition, for instance
        ``lambda shapes: default_rule(shapes) | {"stem/kernel": None}``.
    """
    kernels = {
        path
        for path, leaf in shapes.items()
        if len(leaf.shape) >= 2
        and 0 not in leaf.shape
        and jnp.issubdtype(leaf.dtype, jnp.floating)
        and path.rpartition("/")[2] not in BIASES
        and not path.endswith("embedding")
    }
    roles: dict[str, Role] = {path: Synapses() if path in kernels else None for path in shapes}
    for path, leaf in shapes.items():
        parent, _, name = path.rpartition("/")
        beside = [kernel for kernel in kernels if kernel.rpartition("/")[0] == parent]
        if (
            name in BIASES
            and len(leaf.shape) == 1
            and len(beside) == 1
            and shapes[beside[0]].shape[-1] == leaf.shape[0]
        ):
            roles[path] = Follows(beside[0], sampled=sample_biases)
    return roles


def following(norms: Mapping[str, str], rule: Rule = default_rule) -> Rule:
    """A rule by which scales and offsets of normalisation die with the channel they normalise.

    They do not count as synapses. Without this rule a channel without synapses goes on giving out
    its normalisation's offset.

    Args:
        norms: path of the kernel that a parameter follows, by the parameter's own path, as
            `evojax.learning.Model.norms` finds them. Paths that the network lacks are passed over.
        rule: gives all other parameters their roles.

    Example:
        >>> rule = following({"norm/scale": "conv/kernel", "norm/bias": "conv/kernel"})
    """

    def follow(shapes: Shapes) -> dict[str, Role]:
        ours: dict[str, Role] = {
            path: Follows(kernel, counted=False) for path, kernel in norms.items() if path in shapes
        }
        return {**rule(shapes), **ours}

    return follow


def clustering(modules: Collection[str], cluster: Clusters, rule: Rule = default_rule) -> Rule:
    """A rule by which what carries synapses in some modules has clusters of its own kind.

    Args:
        modules: their paths, or those of parameters; all that lies below is meant.
        cluster: cluster kind, or kinds, as many as the encoding's.
        rule: gives the roles otherwise.

    Example:
        No class dies as a whole, though everywhere else all that enters an output channel does:

        >>> import evojax
        >>> rule = clustering(["dense2"], "kernel")
        >>> evolve = evojax.synthesis(
        ...     evojax.cluster_driven(cluster="filter"), evojax.budget(total=0.5), rule
        ... )
    """

    def cluster_apart(shapes: Shapes) -> dict[str, Role]:
        roles = dict(rule(shapes))
        for path, role in roles.items():
            within = any(f"{path}/".startswith(f"{module}/") for module in modules)
            if within and isinstance(role, Synapses):
                roles[path] = Synapses(cluster)
        return roles

    return cluster_apart


def nested(cluster: Clusters) -> tuple[str, ...]:
    """The kinds of clusters, the outermost first.

    Raises:
        ValueError: if there is none, one is unknown, or they are not in the order of `CLUSTERS`.
    """
    kinds = (cluster,) if isinstance(cluster, str) else tuple(cluster)
    if not kinds or tuple(kind for kind in CLUSTERS if kind in kinds) != kinds:
        raise ValueError(
            f"cluster must be one of {', '.join(CLUSTERS)}, or several of them in this order; got "
            f"{cluster!r}"
        )
    return kinds


def cluster_axes(kind: str, ndim: int) -> tuple[int, ...]:
    """The axes that one cluster of a kind (not a channel) spans in a parameter of `ndim` axes."""
    return tuple(range({"filter": ndim - 1, "kernel": ndim - 2, "synapse": 0}[kind]))


class Group(NamedTuple):
    """Parameters of one shape and cluster kind, which are stacked and vmapped together.

    Attributes:
        shape: of each.
        levels: the axes that a cluster spans, for each kind that nests, the outermost first.
        paths: of the parameters.
    """

    shape: tuple[int, ...]
    levels: tuple[tuple[int, ...], ...]
    paths: tuple[str, ...]

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes that a cluster of the innermost kind spans."""
        return self.levels[-1] if self.levels else ()

    def stacked(self, leaves: Mapping[str, jax.Array]) -> jax.Array:
        """The members, of arrays by path, on a new first axis; one alone is not copied."""
        members = [leaves[path] for path in self.paths]
        return jnp.stack(members) if len(members) > 1 else jnp.asarray(members[0])[None]


class Layout(NamedTuple):
    """How a network's parameters divide into groups: static, known when a program is traced."""

    groups: tuple[Group, ...]
    followers: Mapping[str, Follows]
    roles: Mapping[str, Role]


def layout(params: PyTree, rule: Rule = default_rule, cluster: Clusters = "kernel") -> Layout:
    """Divides a network's parameters into groups.

    Args:
        params: PyTree of arrays (or of their shapes).
        rule: gives every parameter its role.
        cluster: cluster kind, or kinds, of the parameters for which the rule names none.

    Raises:
        ValueError: if a role does not fit its parameter, if nothing carries synapses, or if there
            are 2^31 of them or more.
    """
    leaves, _ = flatten(params)
    shapes = {
        path: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf))
        for path, leaf in leaves.items()
        if leaf is not None
    }
    given = rule(shapes)
    _require_roles(given, shapes)
    roles = {path: _settled(given.get(path), given, shapes) for path in leaves}
    members: dict[tuple[Any, ...], list[str]] = {}
    followers = {path: role for path, role in roles.items() if isinstance(role, Follows)}
    for path, role in roles.items():
        if isinstance(role, Synapses):
            _require_floating(path, shapes[path])
            levels = _levels(role.cluster or cluster, len(shapes[path].shape))
            _require_as_many(path, role, cluster)
        elif isinstance(role, Follows):
            _require_channels(path, role, shapes, roles)
            levels = _levels(cluster, 0)
        if isinstance(role, Synapses) or (isinstance(role, Follows) and role.sampled):
            key = (type(role), shapes[path].shape, shapes[path].dtype, levels)
            members.setdefault(key, []).append(path)
    if not any(isinstance(role, Synapses) for role in roles.values()):
        raise ValueError(
            "no parameter carries synapses: expected at least one floating-point parameter of two "
            f"or more axes; got {', '.join(roles) or 'an empty network'}. Pass a rule that "
            "gives a parameter the role Synapses()."
        )
    counted = [path for path, role in roles.items() if role is not None]
    if (size := sum(math.prod(shapes[path].shape) for path in counted)) > MOST:
        raise ValueError(
            f"the network has {size:,} synapses: expected at most {MOST:,}, for they are counted "
            "in 32 bits. Pass a rule that gives some parameters the role None."
        )
    groups = tuple(
        Group(shape, levels, tuple(paths)) for (_, shape, _, levels), paths in members.items()
    )
    return Layout(groups, followers, roles)


def _require_as_many(path: str, role: Synapses, cluster: Clusters) -> None:
    if role.cluster and len(nested(role.cluster)) != len(nested(cluster)):
        raise ValueError(
            f"{path} has the cluster {role.cluster!r}, the encoding {cluster!r}: expected as many "
            "kinds, for each kind has a factor of its own in the environment"
        )


def _levels(cluster: Clusters, ndim: int) -> tuple[tuple[int, ...], ...]:
    return tuple(cluster_axes(kind, ndim) for kind in nested(cluster) if kind != "channel")


def _require_roles(roles: Mapping[str, Role], shapes: Shapes) -> None:
    for path, role in roles.items():
        if path not in shapes:
            near = difflib.get_close_matches(path, shapes, n=3) or sorted(shapes)
            raise ValueError(
                f"the rule gives a role to {path!r}, which is no parameter; did you mean "
                f"{' or '.join(near)}?"
            )
        if not isinstance(role, Synapses | Follows | None):
            raise ValueError(
                f"the role of {path} must be Synapses(), Follows() or None; got {role!r}"
            )


def _settled(role: Role, roles: Mapping[str, Role], shapes: Shapes) -> Role:
    """The role itself, or ``None`` where it follows a parameter that is never pruned."""
    if isinstance(role, Follows) and role.of in shapes and roles.get(role.of) is None:
        return None
    return role


def _require_floating(path: str, leaf: jax.ShapeDtypeStruct) -> None:
    if not jnp.issubdtype(leaf.dtype, jnp.floating) or not leaf.shape or 0 in leaf.shape:
        raise ValueError(
            f"{path} cannot carry synapses: expected a floating-point array with entries, got "
            f"{leaf.dtype} of shape {leaf.shape}. Give it the role None."
        )


def _require_channels(path: str, role: Follows, shapes: Shapes, roles: Mapping[str, Role]) -> None:
    if role.sampled and not role.counted:
        raise ValueError(
            f"{path} is sampled and so a synapse, which counts: expected counted=True, or "
            "sampled=False"
        )
    if not isinstance(roles.get(role.of), Synapses):
        raise ValueError(f"{path} follows {role.of!r}, which is no parameter that carries synapses")
    channels = shapes[role.of].shape[-1]
    if shapes[path].shape != (channels,):
        raise ValueError(
            f"{path} follows {role.of} and must have the shape ({channels},) of its output "
            f"channels; got {shapes[path].shape}"
        )


def check_masks(params: PyTree, masks: PyTree, plan: Layout) -> None:
    """Checks that masks fit the parameters, leaf by leaf.

    Raises:
        ValueError: if structure, shape or dtype differ; the message names the leaf.
    """
    leaves, _ = flatten(params)
    marks, _ = flatten(masks)
    if leaves.keys() != marks.keys():
        missing = sorted(leaves.keys() - marks.keys())
        surplus = sorted(marks.keys() - leaves.keys())
        raise ValueError(
            f"masks do not have the parameters' structure: missing {missing}, unknown {surplus}. "
            "Make them with synthesis.ancestor(params)."
        )
    for path, leaf in leaves.items():
        mask = marks[path]
        if plan.roles.get(path) is None:
            if mask is not None:
                raise ValueError(f"{path} is never pruned: expected the mask None, got an array")
        elif mask is None:
            raise ValueError(f"{path} can be pruned: expected a bool mask, got None")
        elif jnp.shape(mask) != jnp.shape(leaf) or jnp.result_type(mask) != jnp.bool_:
            raise ValueError(
                f"the mask of {path} must be bool of shape {jnp.shape(leaf)}; got "
                f"{jnp.result_type(mask)} of shape {jnp.shape(mask)}"
            )
