"""How does training a population grow from one device to eight?

    python benchmarks/devices.py

Two arrangements: eight networks side by side, and one network whose batches are split. A CPU stands
in for the devices (`jax_num_cpu_devices`), where there is a GPU as well: what it computes is
compared with what one device computes, and what the devices say to each other and the memory of
each are read off the compiled program. How long a step takes is no measurement there. It is
reckoned, for the devices that `--peak`, `--utilisation` and `--bandwidth` describe, by default an
H100 with NVLink:

    computing = 6 * multiply-accumulates * images / devices / (peak * utilisation)
    exchanging = 2 * (devices - 1) / devices * bytes / bandwidth     (a ring's all-reduce)

and shown as a share of one device's. So the programs that are looked into have the gradients of
convolutions that accelerators get, XLA's own. Neither overlaps the other in this model, and what a
step costs beside them is left out, so that small networks gain less than it says.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from common import check, launch, write
from memory import SUBJECTS, Subject, classifying, total

import evojax
from evojax.learning import Network, Recipe, on_device, population_mesh, population_trainer
from evojax.models import layers

EXCHANGE = re.compile(
    r"= (\S.*?) (?:all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)(?:-start)?\("
)
ARRAY = re.compile(r"\b(?:pred|[a-z]+(\d+))\[([\d,]*)\]")
NETWORKS = [name for name in SUBJECTS if name != "DetectNet"]
SIDE_BY_SIDE, SPLIT = "side by side", "batches split"


@dataclass(frozen=True)
class Options:
    """What to measure, and the devices of the model.

    Attributes:
        networks: whose programs are looked into; of LeNet, AlexNet and ResNet-56.
        devices: numbers of devices, from 1 on.
        members: networks side by side.
        batch: images a step of each network.
        images: random ones, of an epoch of LeNets that is compared.
        peak: floating-point operations a second of a device.
        utilisation: share of it that training comes to, in (0, 1].
        bandwidth: bytes a second between devices, each way.
        out: where to write the result as JSON.
    """

    networks: tuple[str, ...] = tuple(NETWORKS)
    devices: tuple[int, ...] = (1, 2, 4, 8)
    members: int = 8
    batch: int = 128
    images: int = 256
    peak: float = 989e12
    utilisation: float = 0.3
    bandwidth: float = 450e9
    out: Path = Path("runs/benchmarks/devices.json")


class Arrangement(NamedTuple):
    """Networks on devices.

    Attributes:
        name: of the two.
        members: how many networks.
        population: devices that they are spread over.
        data: devices that each batch is split over.
    """

    name: str
    members: int
    population: int
    data: int


def main(options: Options) -> None:
    """Measures, prints a table and writes the JSON file."""
    check(options, NETWORKS, devices=1, members=1, batch=1, images=1)
    if options.devices[0] != 1:
        raise ValueError(f"--devices must begin with 1, to compare with; got {options.devices[0]}")
    if not (options.peak > 0 and 0 < options.utilisation <= 1 and options.bandwidth > 0):
        raise ValueError(
            "--peak and --bandwidth must be above 0, and --utilisation in (0, 1]; got "
            f"{options.peak:g}, {options.bandwidth:g} and {options.utilisation:g}"
        )
    if max(options.devices) > 1:
        pretend(max(options.devices))
    arrangements = [Arrangement(SIDE_BY_SIDE, options.members, n, 1) for n in options.devices]
    arrangements += [Arrangement(SPLIT, 1, 1, n) for n in options.devices]
    rows = []
    for name in options.networks:
        macs = macs_of(SUBJECTS[name])
        for each in arrangements:
            row = {"network": name, **each._asdict(), **looked_into(SUBJECTS[name], each, options)}
            row["step"] = step(row, macs, options)
            rows.append(row)
    report(rows, differences(arrangements, options), options)


def pretend(devices: int) -> None:
    """Has the CPU be so many devices, and JAX look for no others; before it has found any."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)


def macs_of(subject: Subject) -> int:
    """Multiply-accumulates of a forward pass of one image."""
    params, batch_stats = subject.model.init(jax.random.key(0), subject.shape)
    variables = {"params": params, "batch_stats": batch_stats}
    return evojax.cost(subject.model.predict, variables, jnp.zeros((1, *subject.shape))).macs


def looked_into(subject: Subject, arrangement: Arrangement, options: Options) -> dict[str, int]:
    """What a compiled epoch exchanges in a step, and a device's memory, in bytes."""
    recipe = Recipe(optimizer=subject.optimizer, batch_size=options.batch, compute_dtype="auto")
    mesh = population_mesh(arrangement.population, arrangement.data)
    with mock.patch.object(layers, "_cpu_gradients", layers._plain_gradients):
        made = classifying(subject, recipe, arrangement.members, mesh)
    return {"exchanged": exchanged(made.as_text()), "memory": total(made)}


def exchanged(program: str) -> int:
    """Bytes of all arrays that devices exchange where a compiled program says so, each once."""
    return sum(
        math.prod(map(int, filter(None, lengths.split(",")))) * max(int(bits or 8) // 8, 1)
        for arrays in EXCHANGE.findall(program)
        for bits, lengths in ARRAY.findall(arrays)
    )


def step(row: dict[str, Any], macs: int, options: Options) -> float:
    """Seconds of a step, by the model."""
    turns = math.ceil(row["members"] / row["population"])
    operations = 6 * macs * options.batch / row["data"]
    share = 2 * (row["data"] - 1) / row["data"]
    computing = turns * operations / (options.peak * options.utilisation)
    return computing + share * row["exchanged"] / options.bandwidth


def differences(arrangements: list[Arrangement], options: Options) -> dict[str, list[float]]:
    """How far an epoch of LeNets is from one device's, at most, relative to the largest weight."""
    found: dict[str, list[float]] = {}
    first: dict[str, Network] = {}
    for each in arrangements:
        trained = an_epoch(each, options)
        one = first.setdefault(each.name, trained)
        pairs = zip(jax.tree.leaves(one.params), jax.tree.leaves(trained.params), strict=True)
        far = max(np.abs(a - b).max() / np.abs(a).max() for a, b in pairs)
        found.setdefault(each.name, []).append(float(far))
    return found


def an_epoch(arrangement: Arrangement, options: Options) -> Network:
    """LeNets that have trained for an epoch, on the host."""
    model, shape = SUBJECTS["LeNet"].model, SUBJECTS["LeNet"].shape
    keys = jax.random.split(jax.random.key(0), arrangement.members)
    params, batch_stats = jax.vmap(lambda key: model.init(key, shape))(keys)
    masks = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (options.images, *shape), np.uint8)
    data = on_device(pixels, random.integers(0, 10, options.images))
    mesh = population_mesh(arrangement.population, arrangement.data)
    train = population_trainer(model, Recipe(batch_size=options.batch), mesh).train
    return jax.device_get(train(keys, Network(params, batch_stats, masks), data, 1)[0])


def report(rows: list[dict[str, Any]], found: dict[str, list[float]], options: Options) -> None:
    """Prints the table and writes the JSON file."""
    headings = [
        "network", "arrangement", "devices", "exchanged in a step, MB", "memory of a device, MB",
        "time of a step, by the model", "LeNets differ from one device's by",
    ]  # fmt: skip
    first = {
        (row["network"], row["name"]): row["step"]
        for row in rows
        if row["population"] * row["data"] == 1
    }
    cells = []
    for index, row in enumerate(rows):
        far = found[row["name"]][index % len(options.devices)]
        cells.append(
            [
                row["network"],
                row["name"],
                str(row["population"] * row["data"]),
                f"{row['exchanged'] / 1e6:,.2f}",
                f"{row['memory'] / 1e6:,.1f}",
                f"{row['step'] / first[row['network'], row['name']]:.3f}",
                ("no bit" if far == 0 else f"{far:.0e}") if row["network"] == "LeNet" else "",
            ]
        )
    write("devices", [headings, *cells], options, {"rows": rows, "differences": found}, {})


if __name__ == "__main__":
    launch(main, Options, __doc__)
