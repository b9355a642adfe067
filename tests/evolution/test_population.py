"""Populations: several networks live on, and offspring have several parents."""

import dataclasses
import itertools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax.evolution import (
    CheckpointError,
    GenerationFinished,
    RunFolderError,
    Settings,
    checkpoints,
    classification,
    evolve,
    heredity,
    mates,
    offspring,
    read_lineage,
)
from evojax.evolution.ending import status_of
from evojax.evolution.mates import NothingShared, mates_of, shared_masks
from evojax.genetics.census import similarity
from evojax.learning import Network, NonFiniteLoss, Recipe, linen, trainer
from tests.evolution.test_generations import timeless

SETTINGS = Settings(
    seed=3, generations=3, epochs=(2, 1), max_drop=100.0, clusters=0.9, synapses=0.9,
    population=3, offspring=3, parents=3, chi=0.6, heredity="mean",
    recipe=Recipe(batch_size=16, learning_rate=0.02),
)  # fmt: skip
CHOSEN = {"offspring": 4, "parents": 2, "mates": "random", "chi": 1.0, "heredity": "fittest"}


def with_(**changes):
    return dataclasses.replace(SETTINGS, **changes)


def untimed(lineage):
    lineage = timeless(lineage)
    records = [
        record | {"members": [one | {"train_seconds": None} for one in record["members"]]}
        for record in lineage["generations"]
    ]
    return lineage | {"generations": records}


def population(run, number):
    count = len(read_lineage(run)["generations"][number - 1]["members"])
    return [checkpoints.restore(run, number, member=member) for member in range(count)]


@pytest.fixture(scope="module")
def some_mate(normalised, dataset, tmp_path_factory):
    """Of four the fittest three live on, each the offspring of two of three, without gene tags."""
    out = tmp_path_factory.mktemp("some") / "run"
    evolve(with_(**CHOSEN, tagging=False), normalised, dataset, out)
    return out


def test_the_record_of_a_population(all_mate):
    lineage = read_lineage(all_mate)
    assert lineage["status"] == "finished: 3 generations"
    assert lineage["dataset"]["holdout"] == 0  # Nothing is chosen.
    first, second, third = lineage["generations"]
    assert [len(record["members"]) for record in (first, second, third)] == [1, 3, 3]
    assert first["similarity"] == 1.0 and first["members"][0]["parents"] == []
    assert [one["parents"] for one in second["members"]] == [[0, 0, 0]] * 3
    assert [one["parents"] for one in third["members"]] == [[0, 1, 2]] * 3
    for number, record in enumerate((first, second, third), 1):
        assert len(record.get("offspring", [])) in (0, 3)
        for name in ("accuracy", "synapses", "clusters", "bytes_sparse", "macs", "crc32"):
            assert record[name] == record["members"][0][name]
        networks = population(all_mate, number)
        for network, one in zip(networks, record["members"], strict=True):
            alive = jax.tree.leaves(network.masks)
            assert sum(int(mask.sum()) for mask in alive) == one["synapses"]
            assert one["train_seconds"] > 0 and one["holdout_accuracy"] is None
        kernels = [
            np.concatenate(
                [
                    (mask["kernel"].any((0, 1)) if mask["kernel"].ndim == 4 else mask["kernel"])
                    .ravel()
                    for mask in network.masks.values()
                ]
            )
            for network in networks
        ]  # fmt: skip
        shares = [(a & b).sum() / (a | b).sum() for a, b in itertools.combinations(kernels, 2)]
        assert record["similarity"] == pytest.approx(np.mean(shares) if shares else 1.0)
    assert 0 < third["similarity"] < 1


def test_offspring_have_what_enough_parents_have(all_mate):
    parents, children = population(all_mate, 2), population(all_mate, 3)
    assert len({child.masks["conv2"]["kernel"].tobytes() for child in children}) == 3
    for name, child in itertools.product(("conv1", "conv2"), children):
        having = sum(one.masks[name]["kernel"].any((0, 1)).astype(int) for one in parents)
        assert not np.any(child.masks[name]["kernel"].any((0, 1)) & (having < 2))
        for leaf, mask in zip(*map(jax.tree.leaves, (child.params, child.masks)), strict=True):
            assert not leaf[~mask].any()


def test_the_fittest_live_on_and_mate_at_random(some_mate):
    lineage = read_lineage(some_mate)
    assert lineage["dataset"]["holdout"] > 0
    for record in lineage["generations"][1:]:
        accuracies = [one["holdout_accuracy"] for one in record["offspring"]]
        kept = [one["holdout_accuracy"] for one in record["members"]]
        assert kept == sorted(accuracies, reverse=True)[:3]
        assert record["holdout_accuracy"] == kept[0]
    parents = [one["parents"] for one in lineage["generations"][2]["members"]]
    assert all(len(set(pair)) == 2 and pair == sorted(pair) for pair in parents)


@pytest.mark.parametrize("which", ["all_mate", "some_mate"])
def test_a_population_goes_on_to_the_same_bits(which, request, dataset, tmp_path):
    whole = request.getfixturevalue(which)
    changes = {"all_mate": {}, "some_mate": {**CHOSEN, "tagging": False}}[which]
    model = request.getfixturevalue({"all_mate": "tiny", "some_mate": "normalised"}[which])

    class Killed(BaseException):
        pass

    def watch(event):
        if isinstance(event, GenerationFinished) and event.record["generation"] == 2:
            raise Killed

    with pytest.raises(Killed):
        evolve(with_(**changes), model, dataset, tmp_path, watch=watch)
    evolve(with_(**changes), model, dataset, tmp_path)
    there, here = read_lineage(whole), read_lineage(tmp_path)
    assert untimed(here) == untimed(there)
    for number in (1, 2, 3):
        pair = population(whole, number), population(tmp_path, number)
        jax.tree.map(np.testing.assert_array_equal, *pair)


def test_a_crash_between_two_members_costs_one_generation(
    all_mate, tiny, dataset, tmp_path, monkeypatch
):
    real, calls = checkpoints.save, []

    def save(run, generation, network, member=0):
        calls.append((generation, member))
        if (generation, member) == (2, 1) and calls.count((2, 1)) == 1:
            raise KeyboardInterrupt
        return real(run, generation, network, member)

    monkeypatch.setattr(checkpoints, "save", save)
    with pytest.raises(KeyboardInterrupt):
        evolve(SETTINGS, tiny, dataset, tmp_path)
    assert len(read_lineage(tmp_path)["generations"]) == 1
    evolve(SETTINGS, tiny, dataset, tmp_path)
    assert untimed(read_lineage(tmp_path)) == untimed(read_lineage(all_mate))


def test_without_tags_living_channels_are_in_front_before_they_mate(some_mate):
    for network in population(some_mate, 3):
        channels = network.masks["conv"]["kernel"].any((0, 1, 2))
        assert channels.any()
        np.testing.assert_array_equal(network.masks["norm"]["scale"], channels)


@pytest.mark.parametrize("changes", [{"sizes": (1.5, 3.0)}, {"litter": 2, "sweep": True}])
def test_sizes_litters_and_sweeps_of_several_parents(changes, tiny, dataset, tmp_path):
    lineage = evolve(with_(**CHOSEN | {"chi": 0.5}, **changes), tiny, dataset, tmp_path)
    assert len(lineage["generations"]) == 3
    for size, record in zip(changes.get("sizes", ()), lineage["generations"][1:], strict=False):
        whole = lineage["generations"][0]["synapses"]
        for one in record["members"]:
            assert size <= whole / one["synapses"] < 1.15 * size
    if "litter" in changes:
        assert all(len(record["litter"]) == 2 for record in lineage["generations"][1:])


def test_one_parent_in_a_population_is_asexual(tiny, dataset, tmp_path):
    settings = with_(parents=1, mates="random", chi=1.0, heredity="inherit")
    second, third = evolve(settings, tiny, dataset, tmp_path)["generations"][1:]
    parents, children = population(tmp_path, 2), population(tmp_path, 3)
    for child, one in zip(children, third["members"], strict=True):
        [place] = one["parents"]
        for mask, old in zip(
            *(jax.tree.leaves(network.masks) for network in (child, parents[place])), strict=True
        ):
            assert not (mask & ~old).any()
    assert {len(one["parents"]) for one in second["members"]} == {1}


def test_offspring_stem_from_the_parents_in_their_record(tiny, dataset, tmp_path, monkeypatch):
    born = []

    def conceive(*args):
        born.append((jax.device_get(args[-2]), *jax.random.key_data(args[0]).tolist()))
        return heredity.conceive(*args)

    monkeypatch.setattr(offspring, "conceive", conceive)
    settings = with_(parents=2, mates="random", chi=1.0)  # None is chosen: they stay in order.
    third = evolve(settings, tiny, dataset, tmp_path)["generations"][2]
    old, children = population(tmp_path, 2), population(tmp_path, 3)
    assert len({tuple(one["parents"]) for one in third["members"]}) > 1
    for child, one, (parents, *_) in zip(children, third["members"], born[3:], strict=True):
        both = jax.tree.map(lambda *leaves: np.stack(leaves), *(old[n] for n in one["parents"]))
        jax.tree.map(np.testing.assert_array_equal, parents, both)
        for mask, masks in zip(*map(jax.tree.leaves, (child.masks, both.masks)), strict=True):
            assert not (mask & ~masks.all(0)).any()
    assert len({tuple(key) for _, *key in born}) == 6  # A key of its own for each newborn.


def test_where_trainings_break_down_the_fittest_stand_in(tiny, dataset, tmp_path, monkeypatch):
    calls = []

    def frail(model, recipe, **options):
        kit = trainer(model, recipe, **options)

        def train(*args):
            calls.append(args)
            if len(calls) in (2, 3):  # Two of the second generation.
                raise NonFiniteLoss("the loss became infinite")
            return kit.train(*args)

        return kit._replace(train=train)

    monkeypatch.setattr(classification, "trainer", frail)
    lineage = evolve(SETTINGS, tiny, dataset, tmp_path)
    assert [len(record["members"]) for record in lineage["generations"]] == [1, 1, 3]
    assert lineage["generations"][2]["members"][0]["parents"] == [0, 0, 0]
    # Each has a key of its own.
    assert len({tuple(jax.random.key_data(key).tolist()) for key, *_ in calls}) == 7


def estranged(number):
    """Networks that have one hidden synapse each, no two the same, and the classifier's."""
    masks = {
        "hidden": {"kernel": np.zeros((number, 4, 3), bool), "bias": np.zeros((number, 3), bool)},
        "logits": {"kernel": np.ones((number, 3, 2), bool), "bias": np.ones((number, 2), bool)},
    }
    for index in range(number):
        masks["hidden"]["kernel"][index, index, 0] = True
    masks["hidden"]["kernel"][:2, 3, 2] = True
    masks = jax.tree.map(jnp.asarray, masks)
    return Network(jax.tree.map(lambda mask: mask * 1.0, masks), {}, masks)


def test_parents_that_share_nothing_are_told_the_largest_chi():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Dense(3, name="hidden")(x.reshape(len(x), -1)))
            return nn.Dense(2, name="logits")(x)

    parents = estranged(3)
    settings = with_(chi=1.0)

    class Small:
        model = linen(Net())
        rule = staticmethod(settings.rule())
        plan = settings.synthesis().layout(jax.tree.map(lambda leaf: leaf[0], parents.params))

    Small.settings, Small.synthesis = settings, settings.synthesis()
    message = "no synapses in hidden/kernel that chi 1 of 3.*the largest chi .* is 0.6666"
    with pytest.raises(NothingShared, match=message):
        shared_masks(parents, Small)
    for chi in (0.6666, 0.5):
        Small.settings = with_(chi=chi)
        Small.synthesis = Small.settings.synthesis()
        masks = shared_masks(parents, Small)
        assert int(masks["hidden"]["kernel"].sum()) == 1


def test_a_lineage_whose_parents_share_nothing_ends(tiny, dataset, tmp_path, monkeypatch):
    real = mates._barren
    asked = []

    def barren(masks, world):
        asked.append(masks)
        return ["conv2/kernel"] if len(asked) == 2 else real(masks, world)

    monkeypatch.setattr(mates, "_barren", barren)
    lineage = evolve(SETTINGS, tiny, dataset, tmp_path)
    assert lineage["status"].startswith("stopped: the parents share no synapses in conv2/kernel")
    assert lineage["status"].endswith("generation 2 is the last good one")
    assert len(lineage["generations"]) == 2
    before = len(asked)
    assert evolve(SETTINGS, tiny, dataset, tmp_path)["status"] == lineage["status"]
    assert len(asked) == before


def test_who_mates():
    fittest = with_(population=5, offspring=6, parents=2, chi=1.0)
    assert mates_of(jax.random.key(0), fittest, 5) == (0, 1)
    random = dataclasses.replace(fittest, mates="random")
    pairs = {mates_of(jax.random.key(seed), random, 5) for seed in range(200)}
    assert pairs == set(itertools.combinations(range(5), 2))
    everyone = dataclasses.replace(random, parents=5)
    assert mates_of(jax.random.key(0), everyone, 5) == (0, 1, 2, 3, 4)
    # Of three the first two stand in for the fourth and the fifth.
    assert mates_of(jax.random.key(0), everyone, 3) == (0, 0, 1, 1, 2)
    pairs = {mates_of(jax.random.key(seed), random, 3) for seed in range(200)}
    assert pairs == {(0, 0), (1, 1), (0, 1), (0, 2), (1, 2)}


def test_it_stops_when_no_member_is_smaller_than_its_largest_parent():
    def record(number, sizes, parents=()):
        members = [{"synapses": s, "parents": p} for s, p in itertools.zip_longest(sizes, parents)]
        return {
            "generation": number, "accuracy": 0.9, "synapses": sizes[0], "members": members,
        }  # fmt: skip

    for sizes, ends in (([9, 8], True), ([9, 7], False), ([8, 8], False)):
        lineage = {"generations": [record(1, [9, 8]), record(2, sizes, [[0], [1]])]}
        status = status_of(SETTINGS, lineage)
        assert (status is not None and "no smaller" in status) == ends


def test_similarity_by_hand():
    plan = SETTINGS.synthesis().layout({"w": jnp.ones((3, 3, 1, 4)), "v": jnp.ones((2, 1))})
    kernels = [[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0]]
    masks = [
        {"w": np.ones((3, 3, 1, 1), bool) & np.array(row, bool), "v": np.zeros((2, 1), bool)}
        for row in kernels
    ]
    assert similarity(masks, plan) == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)
    assert similarity(masks[:1], plan) == 1.0


def test_an_old_run_goes_on(tiny, dataset, tmp_path):
    """Its config.json and lineage.json know nothing of populations."""
    settings = Settings(generations=2, epochs=(1,), max_drop=100.0, recipe=Recipe(batch_size=16))
    evolve(settings, tiny, dataset, tmp_path)
    later = ("population", "parents", "mates", "tagging", "chi")
    for name in ("config.json", "lineage.json"):
        content = json.loads((tmp_path / name).read_text())
        for field in later:
            content.get("config", content).pop(field)
        (tmp_path / name).write_text(json.dumps(content))
    lineage = evolve(dataclasses.replace(settings, generations=3), tiny, dataset, tmp_path)
    assert len(lineage["generations"]) == 3
    more = dataclasses.replace(settings, generations=4, population=2, offspring=2, mates="random")
    with pytest.raises(RunFolderError, match="population: 1 there, 2 now"):
        evolve(more, tiny, dataset, tmp_path)


def test_a_member_that_is_another_network_is_refused(all_mate, tiny, dataset, tmp_path):
    evolve(with_(generations=2), tiny, dataset, tmp_path)
    one, other = (checkpoints.folder(tmp_path, 2, member) for member in (1, 2))
    one.rename(tmp_path / "aside")
    other.rename(one)
    with pytest.raises(CheckpointError, match="generation 2 in .* is not the network of lineage"):
        evolve(SETTINGS, tiny, dataset, tmp_path)


def test_training_and_drawing_compile_once(tiny, dataset, tmp_path, compilations):
    counts = []
    with compilations() as count:
        evolve(
            with_(generations=5, **CHOSEN), tiny, dataset, tmp_path,
            watch=lambda event: counts.append(count()) if hasattr(event, "record") else None,
        )  # fmt: skip
    assert len(counts) == 5
    assert counts[2] == counts[-1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"parents": 0}, "parents must be a whole number of at least 1; got 0"),
        ({"parents": 4}, "parents must be at most the population, 3; got 4"),
        ({"population": 0}, "population must be a whole number of at least 1; got 0"),
        ({"offspring": 2}, "offspring must be at least the population, 3; got 2"),
        ({"chi": 0.0}, r"chi must be in \(0, 1\]; got 0.0"),
        ({"chi": 1.2}, r"chi must be in \(0, 1\]; got 1.2"),
        ({"mates": "neighbours"}, "mates must be fittest or random; got 'neighbours'"),
        ({"heredity": "inherit"}, "heredity must be .* and not inherit where parents > 1"),
        ({"heredity": "rewind", "tagging": False}, "heredity must be not rewind without tagging"),
        ({"cluster": "channel"}, "several parents do not mate by channels"),
        ({"offspring": 4, "holdout": 0.0}, "holdout must be positive where the fittest"),
        ({"parents": 2, "holdout": 0.0}, "holdout must be positive where the fittest"),
        ({"heredity": "fittest", "holdout": 0.0}, "holdout must be positive where the fittest"),
    ],
)
def test_settings_that_cannot_be_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        with_(**wrong)


def test_images_are_held_out_where_the_fittest_are_chosen():
    assert with_().held_out == with_(parents=2, mates="random").held_out == 0.0
    for changes in ({"offspring": 4}, {"parents": 2}, {"heredity": "fittest"}):
        assert with_(**changes).held_out == 0.1
