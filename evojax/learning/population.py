"""Training a population as one program, on one device or on a mesh of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from evojax.genetics.trees import stacked, taken
from evojax.learning.images import Images
from evojax.learning.network import Model, Network
from evojax.learning.recipe import Recipe
from evojax.learning.split import DATA, Split
from evojax.learning.steps import Moment, State, steps
from evojax.learning.training import Epoch, PopulationEpoch, Trainer, broke_down, in_epochs

PyTree = Any
Way = Literal["map", "vmap"]
AXES = ("population", DATA)
MEMBERS = PartitionSpec("population")
SAME = PartitionSpec()


class PopulationTrainer(NamedTuple):
    """A population's training and evaluation, compiled once for all generations.

    Networks are one `Network` whose arrays have the members on a first axis more.

    Attributes:
        train: ``(keys, networks, images, epochs, on_epoch) -> (networks, epochs)``; keys are (N,),
            a member's own. A member that breaks down harms no other one. All members come back to
            the default device; where there are several processes, each gives the same arguments
            and gets all members.
        evaluate: ``(networks, images) -> accuracies``, fractions (N,).
        loss: ``(key, images) -> (networks) -> losses``, float32 (N,), as `Trainer.loss`.
    """

    train: Callable[..., tuple[Network, list[PopulationEpoch]]]
    evaluate: Callable[[Network, Images], np.ndarray]
    loss: Callable[[jax.Array, Images], Callable[[Network], np.ndarray]]


class PopulationSteps(NamedTuple):
    """A population's training as pure functions, as `Steps` of one network.

    Attributes:
        begin: ``(params, batch_stats, masks) -> states``.
        epoch: ``(states, masks, keys, images, done, epochs) -> (states, losses, accuracies)``.
        right: ``(networks, images) -> int32 (N,)``.
        sample: as `Steps.sample`.
        loss: ``(networks, rows, images) -> float32 (N,)``.
    """

    begin: Callable[..., PyTree]
    epoch: Callable[..., PyTree]
    right: Callable[..., PyTree]
    sample: Callable[[jax.Array, Images], jax.Array]
    loss: Callable[..., PyTree]


def population_mesh(population: int, data: int = 1) -> Mesh:
    """Devices of all processes as a mesh: members side by side, each member's batches split.

    Args:
        population: how many devices the members are spread over.
        data: how many devices each batch is split over.

    Raises:
        ValueError: if there are not as many devices.
    """
    there = jax.device_count()
    if population < 1 or data < 1 or population * data > there:
        raise ValueError(
            f"a mesh of {population} x {data} devices was asked for, of which there are {there}: "
            "expected at least 1 in each direction, and no more than there are"
        )
    devices = np.asarray(jax.devices()[: population * data]).reshape(population, data)
    return Mesh(devices, AXES)


def split_of(mesh: Mesh) -> Split:
    """How batches are split over a mesh of devices.

    Raises:
        ValueError: if it has other axes than that of `population_mesh`.
    """
    if mesh.axis_names != AXES:
        raise ValueError(
            f"a mesh of devices has the axes {', '.join(map(str, mesh.axis_names))}: expected "
            "population and data, as population_mesh makes it"
        )
    return Split(mesh.shape[DATA])


def population_trainer(
    model: Model,
    recipe: Recipe,
    mesh: Mesh | None = None,
    together: Way = "map",
    donate: bool = False,
) -> PopulationTrainer:
    """Compiles, on first use, a population's epoch and its evaluation.

    Args:
        model: the model.
        recipe: how every member is trained.
        mesh: of devices (`population_mesh`); by default the default device alone. Members are
            spread over its axis ``population``; where it does not divide their number, copies of
            the first fill the last places, and are dropped. Over its axis ``data`` each batch is
            split (`evojax.learning.split`).
        together: how the members of one device train: ``"map"`` in turns, within one program, to
            the bits of `trainer`, on however many devices (batches that are split aside); or
            ``"vmap"``, every operation for all of them at once.
        donate: whether training takes the memory of the networks that it is given (`trainer`).

    Raises:
        ValueError: if the mesh has other axes. From training and loss, if the batches of the recipe
            do not split evenly, or there are fewer images than devices that they are split over.
    """
    mesh = population_mesh(1) if mesh is None else mesh
    pure = population_steps(model, recipe, mesh, together)
    placed, spread = partial(_placed_tree, mesh), partial(_spread, mesh)

    begin = jax.jit(pure.begin, donate_argnums=(0, 1) if donate else ())
    epoch = jax.jit(pure.epoch, donate_argnums=0)
    right, sample, loss_of = jax.jit(pure.right), jax.jit(pure.sample), jax.jit(pure.loss)

    def started(networks: Network) -> tuple[State, PyTree]:
        there = spread(networks)
        state = begin(*there)
        for leaf in jax.tree.leaves(networks[:2]) if donate else ():
            leaf.delete()  # On several devices only copies of them were donated.
        return state, there.masks

    def train(
        keys: jax.Array,
        networks: Network,
        images: Images,
        epochs: int,
        on_epoch: Callable[[int, PopulationEpoch], None] = lambda number, epoch: None,
    ) -> tuple[Network, list[PopulationEpoch]]:
        members = len(keys)
        keys, images = spread(keys), placed(images, SAME)
        state, masks = started(networks)

        def one_epoch(state: State, number: int) -> tuple[State, PopulationEpoch]:
            done, of = placed((np.int32(number), np.int32(epochs)), SAME)
            state, *shown = epoch(state, masks, keys, images, done, of)
            losses, accuracies = (np.array(fetched(each)[:members]) for each in shown)
            return state, PopulationEpoch(losses, accuracies, 0.0)

        state, history = in_epochs(one_epoch, state, epochs, on_epoch)
        trained = state.params, state.batch_stats
        if mesh.size > 1:
            # Left where they are, what comes next would run on every device, and round otherwise.
            trained = jax.tree.map(lambda leaf: jnp.asarray(fetched(leaf)[:members]), trained)
        return Network(*trained, networks.masks), history

    def evaluate(networks: Network, images: Images) -> np.ndarray:
        counts = fetched(right(spread(networks), placed(images, SAME)))
        return counts[: _members(networks)] / images.labels.shape[0]

    def loss(key: jax.Array, images: Images) -> Callable[[Network], np.ndarray]:
        shared = placed((sample(key, images), images), SAME)
        return lambda networks: fetched(loss_of(spread(networks), *shared))[: _members(networks)]

    return PopulationTrainer(train, evaluate, loss)


def split_trainer(model: Model, recipe: Recipe, mesh: Mesh, donate: bool = False) -> Trainer:
    """A `trainer` that splits every batch over devices: that of a population of one.

    Args:
        model: the model.
        recipe: how it is trained.
        mesh: of devices (`population_mesh`), of which it takes the first along ``population``.
        donate: see `trainer`.

    Raises:
        ValueError: as `population_trainer`.
    """
    row = Mesh(mesh.devices[:1], mesh.axis_names)
    one = population_trainer(model, recipe, row, donate=True)

    def train(
        key: jax.Array,
        network: Network,
        images: Images,
        epochs: int,
        on_epoch: Callable[[int, Epoch], None] = lambda number, epoch: None,
    ) -> tuple[Network, list[Epoch]]:
        history: list[Epoch] = []

        def told(number: int, result: PopulationEpoch) -> None:
            loss, accuracy = result.losses.item(), result.accuracies.item()
            if not math.isfinite(loss):
                raise broke_down(number, epochs, recipe)
            history.append(Epoch(loss, accuracy, result.seconds))
            on_epoch(number, history[-1])

        masks, alone = network.masks, stacked([network])
        for leaf in jax.tree.leaves(network[:2]) if donate else ():
            leaf.delete()
        trained, _ = one.train(key[None], alone, images, epochs, told)
        return taken(trained._replace(masks={}), 0)._replace(masks=masks), history

    def evaluate(network: Network, images: Images) -> float:
        return one.evaluate(stacked([network]), images).item()

    def loss(key: jax.Array, images: Images) -> Callable[[Network], float]:
        loss_of = one.loss(key, images)
        return lambda network: loss_of(stacked([network])).item()

    return Trainer(train, evaluate, loss)


def population_steps(
    model: Model, recipe: Recipe, mesh: Mesh, together: Way = "map"
) -> PopulationSteps:
    """The functions that train a population; arguments as of `population_trainer`."""
    pure = steps(model, recipe, split_of(mesh))
    for_all = partial(_for_all, mesh, together)

    def one_epoch(
        state: State, masks: PyTree, key: jax.Array, images: Images, done: jax.Array, of: jax.Array
    ) -> tuple[State, jax.Array, jax.Array]:
        return pure.epoch(state, masks, images, Moment(key, done, of))

    def loss(network: Network, rows: jax.Array, images: Images) -> jax.Array:
        return pure.loss(rows, network, images)

    return PopulationSteps(
        begin=for_all(pure.begin, 0),
        epoch=for_all(one_epoch, 3, state=True),
        right=for_all(pure.right, 1),
        sample=pure.sample,
        loss=for_all(loss, 2),
    )


def _for_all(
    mesh: Mesh,
    together: Way,
    function: Callable[..., PyTree],
    shared: int,
    state: bool = False,
) -> Callable[..., PyTree]:
    """One member's function for all members.

    Args:
        mesh: of devices.
        together: see `population_trainer`.
        function: of one member; its last arguments, so many, are shared by all members.
        shared: how many.
        state: whether it returns its first argument, changed, before anything else.
    """

    def here(*args: PyTree) -> PyTree:
        own, common = args[: len(args) - shared], args[len(args) - shared :]
        if together == "vmap":
            return jax.vmap(lambda *mine: function(*mine, *common))(*own)
        if state:
            return _in_place(lambda *mine: function(*mine, *common), *own)
        return jax.lax.map(lambda mine: function(*mine, *common), own)

    def everywhere(*args: PyTree) -> PyTree:
        specs = (*[MEMBERS] * (len(args) - shared), *[SAME] * shared)
        # If it checked, JAX would exchange each gradient by itself, and not all of them at once.
        mapped = jax.shard_map(here, mesh=mesh, in_specs=specs, out_specs=MEMBERS, check_vma=False)
        return mapped(*args)

    return everywhere


def _in_place(function: Callable[..., tuple], states: PyTree, *own: PyTree) -> tuple:
    """`jax.lax.map` of ``(state, *own) -> (state, *shown)``, in the memory of the states."""

    def turn(states: PyTree, inputs: tuple) -> tuple[PyTree, list[jax.Array]]:
        index, *mine = inputs
        state = jax.tree.map(
            partial(jax.lax.dynamic_index_in_dim, index=index, keepdims=False), states
        )
        state, *shown = function(state, *mine)
        put = partial(jax.lax.dynamic_update_index_in_dim, index=index, axis=0)
        return jax.tree.map(put, states, state), shown

    states, shown = jax.lax.scan(turn, states, (jnp.arange(_members(states)), *own))
    return (states, *shown)


def _spread(mesh: Mesh, tree: PyTree) -> PyTree:
    """The members on their devices, with copies of the first that make their number even."""
    if missing := -_members(tree) % mesh.shape["population"]:
        tree = jax.tree.map(
            lambda leaf: jnp.concatenate([leaf, jnp.repeat(leaf[:1], missing, 0)]), tree
        )
    return _placed_tree(mesh, tree, MEMBERS)


def _placed_tree(mesh: Mesh, tree: PyTree, spec: PartitionSpec) -> PyTree:
    return jax.tree.map(partial(_placed, NamedSharding(mesh, spec)), tree)


def fetched(array: jax.Array) -> np.ndarray:
    """An array on the host of every process, wherever its parts lie."""
    if array.is_fully_addressable:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def _placed(sharding: NamedSharding, leaf: jax.Array) -> jax.Array:
    """An array that every process has, on the devices of all of them."""
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _placed(sharding, jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda place: host[place])


def _members(tree: PyTree) -> int:
    return len(jax.tree.leaves(tree)[0])
