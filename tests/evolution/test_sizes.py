"""Generations that reach sizes given in advance, so that encodings compare at equal size."""

import pytest

from evojax.evolution import Settings, evolve
from evojax.evolution.sizing import draw_to_size
from evojax.learning import Recipe

FAST = {"generations": 4, "epochs": (1,), "max_drop": 100.0, "recipe": Recipe(batch_size=32)}


@pytest.mark.parametrize("encoding", ["cluster_driven", "synapse_driven", "magnitude", "random"])
def test_every_encoding_reaches_the_sizes_asked_for(encoding, tiny, dataset, tmp_path):
    settings = Settings(encoding=encoding, sizes=(1.5, 3.0, 6.0), **FAST)
    lineage = evolve(settings, tiny, dataset, tmp_path / "run")
    reached = [record["architectural_efficiency"] for record in lineage["generations"]]
    assert reached[0] == 1.0
    for wanted, got in zip(settings.sizes, reached[1:], strict=True):
        assert wanted <= got < 1.1 * wanted


def test_of_the_draws_that_are_small_enough_the_largest_is_kept():
    # What is left of 100 synapses: a tenth less than the share says, in whole tens.
    def draw(share):
        shares.append(share)
        return share, 10 * int(9 * share)

    shares = []
    kept = draw_to_size(draw, lambda left: 100 / left, safe=0.5, size=2.0)
    assert kept[1] == 50
    assert kept[2] == kept[0]
    assert shares[0] == 0.5
    assert len(shares) <= 6


def test_a_first_share_that_leaves_too_much_is_mended():
    shares = []

    def draw(share):
        shares.append(share)
        return share, int(100 * share)

    draws = draw_to_size(draw, lambda left: 100 / left, safe=0.5, size=2.0, share=0.6)
    assert draws[1] == 50
    assert shares[0] == 0.6


def test_where_no_share_hits_the_safe_one_is_taken():
    left = lambda share: 20 if share == 0.5 else 60  # noqa: E731
    draws = draw_to_size(lambda s: (s, left(s)), lambda n: 100 / n, 0.5, 2.0, share=0.9)
    assert draws == (0.5, 20, 0.5)


def test_no_draw_is_larger_than_the_size_allows():
    left = iter([30, 60, 55, 45, 80, 49])
    kept = draw_to_size(lambda share: (share, next(left)), lambda n: 100 / n, 0.5, 2.0)
    assert kept[1] == 49


def test_after_the_last_size_the_shares_hold_again(tiny, dataset, tmp_path):
    settings = Settings(sizes=(1.2,), clusters=0.5, synapses=1.0, **FAST)
    records = evolve(settings, tiny, dataset, tmp_path / "run")["generations"]
    assert len(records) == 4
    for parent, offspring in zip(records[1:], records[2:], strict=False):
        assert offspring["synapses"] <= 0.5 * parent["synapses"]


@pytest.mark.parametrize("sizes", [(1.0,), (3.0, 2.0), (2.0, 2.0), (0.5,), (float("inf"),)])
def test_sizes_that_do_not_rise_above_one_are_refused(sizes):
    with pytest.raises(ValueError, match="sizes must be rising numbers above 1"):
        Settings(sizes=sizes)


def test_sizes_need_a_budget():
    with pytest.raises(ValueError, match="in a budget environment"):
        Settings(sizes=(2.0,), environment="constant")
