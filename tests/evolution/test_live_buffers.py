"""What lies on the device while generations come and go, by counts of live buffers."""

import pytest

from evojax.evolution import EpochFinished, GenerationStarted, RunStarted, Settings, evolve
from evojax.learning import Recipe, population_mesh

FEW = 400
"""Bytes of keys, of what is told of a draw, and of what normalises images: less than a mask."""

# In bytes of a parameter: its weight of four and its mask of one, and Adam's two moments.
NETWORK, TRAINING = 5, 13
LITTER = {"litter": 3, "sizes": (1.5, 2.0, 3.0), "sweep": True}
SIBLINGS = {"offspring": 4, "holdout": 0.2}
POPULATION = SIBLINGS | {"population": 3, "parents": 2, "mates": "random", "heredity": "fittest"}


def alive(live, model, dataset, out, mesh, fields):
    """Bytes a parameter: at each generation's start, and after the epochs of each of its trainings.

    Images are left out.
    """
    memory, began, trained = [], [], {}

    def bytes_each():
        number = memory[0].parameters
        found = live() - memory[0].images
        assert found % number < FEW < number
        return found // number

    def watch(event):
        match event:
            case RunStarted():
                memory.append(event.memory)
            case GenerationStarted():
                began.append(bytes_each())
            case EpochFinished():
                place = event.generation, event.offspring
                trained.setdefault(place, set()).add(bytes_each())

    recipe = Recipe(batch_size=16, learning_rate=0.02)
    settings = Settings(generations=4, epochs=(2, 2), max_drop=100.0, recipe=recipe, **fields)
    lineage = evolve(settings, model, dataset, out, watch=watch, mesh=mesh)
    assert lineage["status"] == "finished: 4 generations"
    by_generation = [[], [], [], []]
    for (number, _), found in trained.items():
        by_generation[number - 1] += found  # Every epoch's is the same.
    return began, by_generation


@pytest.mark.parametrize(
    ("fields", "others"),
    [
        ({}, [0]),  # Neither the parent nor the newborn that it began as.
        (LITTER, [0]),
        # The parent until its last offspring is made, and the fittest so far.
        (SIBLINGS, [NETWORK, 2 * NETWORK, 2 * NETWORK, NETWORK]),
        # Three parents, masks drawn for those to come, and the fittest three so far.
        (
            POPULATION,
            [3 * NETWORK + 3, 4 * NETWORK + 2, 5 * NETWORK + 1, 3 * NETWORK],
        ),
    ],
    ids=["offspring", "litter", "siblings", "population"],
)
def test_a_training_keeps_what_is_still_needed(live, dense, dataset, tmp_path, fields, others):
    began, trained = alive(live, dense, dataset, tmp_path / "run", None, fields)
    assert trained == [[TRAINING]] + 3 * [[TRAINING + other for other in others]]
    assert began[1] == began[2] == began[3]
    assert began[:2] == [NETWORK, NETWORK + others[0]]


@pytest.mark.parametrize("fields", [SIBLINGS, POPULATION], ids=["siblings", "population"])
def test_networks_that_train_together_are_alone(live, dense, dataset, tmp_path, fields):
    began, trained = alive(live, dense, dataset, tmp_path / "run", population_mesh(1), fields)
    assert trained == [[TRAINING]] + 3 * [4 * [4 * TRAINING]]
    assert began == [NETWORK] + 3 * [4 * NETWORK]
