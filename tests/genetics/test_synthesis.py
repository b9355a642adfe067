"""Offspring synthesis as a pure, compiled function on any PyTree."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import evojax
from evojax.genetics import census, check_masks, layout, living


def array(*shape, seed=0):
    return jnp.array(np.random.default_rng(seed).normal(size=shape), jnp.float32)


PARAMS = {
    "conv": {"kernel": array(3, 3, 4, 8), "bias": array(8)},
    "dense": {"kernel": array(16, 8, seed=1), "bias": array(8)},
}
KEY = jax.random.key(0)
BUDGET = evojax.synthesis(evojax.cluster_driven(), evojax.budget(total=0.6))
CONSTANT = evojax.synthesis(evojax.cluster_driven(), evojax.constant(0.7, 0.7))


def assert_same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def differ(left, right):
    return bool(np.any(np.asarray(left) != np.asarray(right)))


def test_ancestors_live():
    masks = BUDGET.ancestor(PARAMS)
    assert jax.tree.structure(masks) == jax.tree.structure(PARAMS)
    assert all(mask.dtype == bool and mask.all() for mask in jax.tree.leaves(masks))


def test_offspring_are_subsets_generation_after_generation():
    parent = BUDGET.ancestor(PARAMS)
    for generation in range(3):
        child = BUDGET.offspring(jax.random.fold_in(KEY, generation), PARAMS, parent)
        before, after = jax.tree.leaves(parent), jax.tree.leaves(child)
        for mother, daughter in zip(before, after, strict=True):
            assert daughter.dtype == bool and daughter.shape == mother.shape
            assert not np.any(daughter & ~mother)
        assert sum(map(np.sum, after)) < sum(map(np.sum, before))
        parent = child


def test_draws_depend_on_the_key_alone():
    masks = BUDGET.ancestor(PARAMS)
    child = BUDGET.offspring(KEY, PARAMS, masks)
    assert_same(child, BUDGET.offspring(KEY, PARAMS, masks))
    assert_same(child, BUDGET.draw(KEY, PARAMS, masks).masks)
    other = BUDGET.offspring(jax.random.key(1), PARAMS, masks)
    assert differ(child["conv"]["kernel"], other["conv"]["kernel"])
    assert differ(child["dense"]["kernel"], other["dense"]["kernel"])


def test_leaves_of_equal_weights_are_drawn_differently():
    params = {name: {"kernel": PARAMS["dense"]["kernel"]} for name in ("one", "two")}
    child = CONSTANT.offspring(KEY, params, CONSTANT.ancestor(params))
    assert differ(child["one"]["kernel"], child["two"]["kernel"])


def test_another_layer_changes_no_other_layers_draw():
    child = CONSTANT.offspring(KEY, PARAMS, CONSTANT.ancestor(PARAMS))
    # One of a new shape, one of a shape that is stacked with a layer's, both before it.
    more = {"added": {"kernel": array(16, 8, seed=5)}, "a": {"kernel": array(4, 4)}} | PARAMS
    with_more = CONSTANT.offspring(KEY, more, CONSTANT.ancestor(more))
    assert_same({name: with_more[name] for name in PARAMS}, child)


def test_the_order_of_leaves_does_not_matter():
    child = CONSTANT.offspring(KEY, PARAMS, CONSTANT.ancestor(PARAMS))
    reverse = {
        name: dict(reversed(layer.items())) for name, layer in reversed(list(PARAMS.items()))
    }
    assert_same(CONSTANT.offspring(KEY, reverse, CONSTANT.ancestor(reverse)), child)


class Network(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(4, 8, (3, 3), rngs=rngs)
        self.dense = nnx.Linear(16, 8, rngs=rngs)


def test_linen_and_nnx_are_drawn_alike():
    _, state = nnx.split(Network(nnx.Rngs(0)))
    params = nnx.to_pure_dict(state)
    expected = BUDGET.offspring(KEY, params, BUDGET.ancestor(params))
    masks = BUDGET.offspring(KEY, state, BUDGET.ancestor(state))
    assert jax.tree.structure(masks) == jax.tree.structure(state)
    assert_same(nnx.to_pure_dict(masks), expected)


def test_later_generations_compile_nothing(compilations):
    masks = BUDGET.ancestor(PARAMS)
    keys = [jax.random.key(seed) for seed in range(4)]
    masks = BUDGET.offspring(keys[0], PARAMS, masks)
    with compilations() as count:
        for key in keys[1:]:
            masks = BUDGET.offspring(key, PARAMS, masks)
        assert count() == 0


def test_a_draw_moves_nothing_between_host_and_device():
    masks = BUDGET.ancestor(PARAMS)
    BUDGET.offspring(KEY, PARAMS, masks)
    with jax.transfer_guard("disallow"):
        draw = BUDGET.draw(KEY, PARAMS, masks)
        BUDGET.draw(KEY, PARAMS, draw.masks)
        with pytest.raises(Exception, match="Disallowed host-to-device"):
            jax.jit(jnp.sin)(np.ones(3, np.float32))


def test_vmap_over_keys_equals_single_draws():
    masks = BUDGET.ancestor(PARAMS)
    keys = jax.random.split(KEY, 4)
    many = jax.vmap(BUDGET.draw, in_axes=(0, None, None))(keys, PARAMS, masks)
    for index, key in enumerate(keys):
        one = BUDGET.draw(key, PARAMS, masks)
        assert_same(jax.tree.map(lambda leaf, i=index: leaf[i], many.masks), one.masks)
        np.testing.assert_allclose(many.synapse_factor[index], one.synapse_factor, rtol=1e-5)


def operations(jaxpr):
    """Operations of a program and of those that it calls."""
    inner = [
        part
        for eqn in jaxpr.eqns
        for value in eqn.params.values()
        for part in (value if isinstance(value, tuple | list) else (value,))
    ]
    nested = [getattr(part, "jaxpr", part) for part in inner]
    return len(jaxpr.eqns) + sum(operations(part) for part in nested if hasattr(part, "eqns"))


def test_the_program_does_not_grow_with_layers_of_one_shape():
    sizes = {}
    for layers in (2, 12):
        params = {f"layer{index}": {"kernel": array(16, 8)} for index in range(layers)}
        masks = BUDGET.ancestor(params)
        sizes[layers] = operations(jax.make_jaxpr(BUDGET.draw)(KEY, params, masks).jaxpr)
    # Stacking a layer and taking its mask out again is a handful of operations.
    assert sizes[12] - sizes[2] < 10 * 10
    assert sizes[12] < 1.5 * sizes[2]


def test_biases_die_with_their_channel_and_only_then():
    evolve = evojax.synthesis(evojax.random("filter"), evojax.constant(0.5, 1.0))
    child = evolve.offspring(KEY, PARAMS, evolve.ancestor(PARAMS))
    for layer in child.values():
        channels = np.asarray(layer["kernel"]).any(tuple(range(layer["kernel"].ndim - 1)))
        np.testing.assert_array_equal(layer["bias"], channels)
    assert not np.all(child["conv"]["bias"])


def test_a_dead_bias_stays_dead():
    masks = BUDGET.ancestor(PARAMS)
    masks["conv"]["bias"] = masks["conv"]["bias"].at[2].set(False)
    child = BUDGET.offspring(KEY, PARAMS, masks)
    assert not child["conv"]["bias"][2] and child["conv"]["kernel"][..., 2].any()


def test_sampled_biases_are_synapses_of_their_own():
    rule = partial(evojax.default_rule, sample_biases=True)
    evolve = evojax.synthesis(evojax.random("synapse"), evojax.constant(1.0, 0.5), rule)
    keys = jax.random.split(KEY, 64)
    draw = jax.vmap(evolve.offspring, in_axes=(0, None, None))
    masks = draw(keys, PARAMS, evolve.ancestor(PARAMS))
    for layer in masks.values():
        kernel, bias = np.asarray(layer["kernel"]), np.asarray(layer["bias"])
        channels = kernel.any(tuple(range(1, kernel.ndim - 1)))
        assert not np.any(bias & ~channels)
        assert 0.3 < bias.mean() < 0.7


NORMALISED = {
    "conv": {"kernel": array(3, 3, 4, 8)},
    "norm": {"scale": jnp.ones(8), "bias": jnp.zeros(8)},
}


def test_normalisation_is_left_alone_unless_a_rule_says_otherwise():
    assert BUDGET.ancestor(NORMALISED)["norm"] == {"scale": None, "bias": None}
    follows = {"norm/scale": evojax.Follows("conv/kernel")}
    evolve = evojax.synthesis(
        evojax.random("filter"),
        evojax.constant(0.5, 1.0),
        lambda shapes: evojax.default_rule(shapes) | follows,
    )
    child = evolve.offspring(KEY, NORMALISED, evolve.ancestor(NORMALISED))
    assert child["norm"]["bias"] is None
    np.testing.assert_array_equal(child["norm"]["scale"], child["conv"]["kernel"].any((0, 1, 2)))
    assert not np.all(child["norm"]["scale"])


def test_a_rule_may_leave_a_parameter_out_or_choose_its_clusters():
    left_out = {"dense/kernel": None, "dense/bias": None}
    filters = {"conv/kernel": evojax.Synapses("filter")}
    evolve = evojax.synthesis(
        evojax.random("kernel"),
        evojax.constant(0.5, 1.0),
        lambda shapes: evojax.default_rule(shapes) | left_out | filters,
    )
    child = evolve.offspring(KEY, PARAMS, evolve.ancestor(PARAMS))
    assert child["dense"] == {"kernel": None, "bias": None}
    kernel = np.asarray(child["conv"]["kernel"])
    np.testing.assert_array_equal(kernel.any((0, 1, 2)), kernel.all((0, 1, 2)))
    assert not np.all(kernel)


def test_what_follows_a_parameter_that_is_left_out_is_left_out_too():
    evolve = evojax.synthesis(
        evojax.random("kernel"), evojax.constant(0.5, 1.0), overriding(dense__kernel=None)
    )
    assert evolve.ancestor(PARAMS)["dense"] == {"kernel": None, "bias": None}
    assert evolve.offspring(KEY, PARAMS, evolve.ancestor(PARAMS))["dense"]["bias"] is None


def test_magnitude_keeps_exactly_the_strongest_of_the_network():
    params = {"conv": {"kernel": array(3, 3, 4, 8)}, "dense": {"kernel": 2 * array(16, 8, seed=1)}}
    evolve = evojax.synthesis(evojax.magnitude(), evojax.budget(total=0.3))
    child = evolve.offspring(KEY, params, evolve.ancestor(params))
    strengths = np.concatenate([np.abs(leaf).ravel() for leaf in jax.tree.leaves(params)])
    kept = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(child)])
    number = int(0.3 * len(strengths))
    assert kept.sum() == number
    assert set(np.flatnonzero(kept)) == set(np.argsort(strengths)[-number:])


def test_magnitude_of_equal_weights_draws_lots():
    params = {"dense": {"kernel": jnp.ones((16, 8))}}
    evolve = evojax.synthesis(evojax.magnitude(), evojax.budget(total=0.5))
    masks = evolve.ancestor(params)
    one, two = (evolve.offspring(jax.random.key(seed), params, masks) for seed in (0, 1))
    assert one["dense"]["kernel"].sum() == two["dense"]["kernel"].sum() == 64
    assert differ(one["dense"]["kernel"], two["dense"]["kernel"])


def test_bfloat16_parameters():
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    masks = BUDGET.ancestor(params)
    draw = BUDGET.draw(KEY, params, masks)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert 0.4 * size < sum(int(mask.sum()) for mask in jax.tree.leaves(draw.masks)) <= 0.6 * size
    for leaf in jax.tree.leaves(BUDGET.dna(params, masks)):
        assert np.all((leaf > 0) & (leaf <= 1))


def overriding(**roles):
    return lambda shapes: (
        evojax.default_rule(shapes)
        | {name.replace("__", "/"): role for name, role in roles.items()}
    )


@pytest.mark.parametrize(
    ("params", "rule", "message"),
    [
        ({}, evojax.default_rule, "no parameter carries synapses.*an empty network"),
        ({"scale": jnp.ones(4)}, evojax.default_rule, "no parameter carries synapses.*got scale"),
        (
            {"ids": jnp.ones((2, 2), jnp.int32)},
            lambda shapes: {"ids": evojax.Synapses()},
            r"ids cannot carry synapses.*got int32 of shape \(2, 2\)",
        ),
        (
            PARAMS,
            overriding(conv__bias=evojax.Follows("nowhere/kernel")),
            "conv/bias follows 'nowhere/kernel', which is no parameter that carries synapses",
        ),
        (
            {"conv": PARAMS["conv"], "norm": {"scale": jnp.ones(5)}},
            overriding(norm__scale=evojax.Follows("conv/kernel")),
            r"norm/scale follows conv/kernel and must have the shape \(8,\).*got \(5,\)",
        ),
        (
            PARAMS,
            overriding(conv__kernel=evojax.Synapses("row")),
            "kernel, synapse, or several.*'row'",
        ),
        (PARAMS, overriding(stem__kernel=None), "stem/kernel"),
    ],
    ids=["empty", "vector", "integers", "unknown leader", "channels", "cluster", "unknown path"],
)
def test_roles_that_do_not_fit_are_named(params, rule, message):
    with pytest.raises(ValueError, match=message):
        layout(params, rule)


def with_leaf(masks, leaf):
    return masks | {"conv": masks["conv"] | {"kernel": leaf}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda masks: {"conv": masks["conv"], "other": masks["dense"]},
            r"missing \['dense/bias', 'dense/kernel'\], unknown \['other/bias', 'other/kernel'\]",
        ),
        (lambda masks: with_leaf(masks, None), "conv/kernel can be pruned.*bool mask, got None"),
        (
            lambda masks: with_leaf(masks, jnp.ones((3, 3, 4, 8))),
            "mask of conv/kernel must be bool.*got float32",
        ),
        (
            lambda masks: with_leaf(masks, jnp.ones((3, 3), bool)),
            r"mask of conv/kernel must be bool of shape \(3, 3, 4, 8\); got bool of shape \(3, 3\)",
        ),
    ],
    ids=["structure", "none", "dtype", "shape"],
)
def test_masks_that_do_not_fit_are_named(change, message):
    masks = change(BUDGET.ancestor(PARAMS))
    with pytest.raises(ValueError, match=message):
        check_masks(PARAMS, masks, BUDGET.layout(PARAMS))
    for function in (BUDGET.dna, partial(BUDGET.offspring, KEY), partial(BUDGET.draw, KEY)):
        with pytest.raises(ValueError, match=message):
            function(PARAMS, masks)


def test_a_mask_where_nothing_is_pruned_is_an_error():
    masks = BUDGET.ancestor(NORMALISED)
    masks["norm"]["scale"] = jnp.ones(8, bool)
    with pytest.raises(ValueError, match="norm/scale is never pruned: expected the mask None"):
        BUDGET.offspring(KEY, NORMALISED, masks)


def test_vectors_named_bias_are_no_synapses_whatever_their_shape():
    params = {"embed": {"embedding": array(4, 8)}, "attend": {"kernel": array(4, 8)}}
    params["attend"]["bias"] = array(2, 4)
    roles = BUDGET.layout(params).roles
    assert roles["embed/embedding"] is None and roles["attend/bias"] is None
    assert roles["attend/kernel"] == evojax.Synapses()


def test_normalisation_dies_with_its_channel_and_does_not_count():
    params = {
        "conv": {"kernel": jax.random.normal(jax.random.key(0), (3, 3, 4, 16))},
        "norm": {"scale": jnp.ones(16), "bias": jnp.ones(16)},
    }
    rule = evojax.following({"norm/scale": "conv/kernel", "norm/bias": "conv/kernel", "no": "such"})
    evolve = evojax.synthesis(evojax.cluster_driven(8.0), evojax.budget(total=0.05), rule)
    masks = evolve.offspring(jax.random.key(1), params, evolve.ancestor(params))
    kernel = np.asarray(masks["conv"]["kernel"])
    channels = kernel.any((0, 1, 2))
    assert 0 < channels.sum() < 16
    np.testing.assert_array_equal(masks["norm"]["scale"], channels)
    np.testing.assert_array_equal(masks["norm"]["bias"], channels)
    plan = evolve.layout(params)
    assert census(masks, plan).synapses == kernel.sum() <= 0.05 * 576
    assert int(living(masks, plan)) == kernel.sum()


def test_what_is_sampled_counts():
    bias = evojax.Follows("dense/kernel", sampled=True, counted=False)

    def rule(shapes):
        return evojax.default_rule(shapes) | {"dense/bias": bias}

    params = {"dense": {"kernel": jnp.ones((4, 3)), "bias": jnp.zeros(3)}}
    evolve = evojax.synthesis(evojax.cluster_driven(), evojax.budget(total=0.5), rule)
    with pytest.raises(ValueError, match="dense/bias is sampled and so a synapse, which counts"):
        evolve.ancestor(params)


@pytest.mark.parametrize("cluster", ["filter", "kernel"])
def test_a_rescued_cluster_keeps_the_draws_of_its_synapses(cluster):
    # A layer without strength beside a strong one: it would die out in nearly every draw.
    params = {
        "strong": {"kernel": jnp.asarray(np.random.default_rng(0).uniform(0.5, 1, (5, 5, 8, 16)))},
        "weak": {"kernel": jnp.zeros((5, 5, 16, 4))},
    }
    evolve = evojax.synthesis(
        evojax.cluster_driven(4.0, cluster=cluster), evojax.budget(clusters=0.3, synapses=0.5)
    )
    ancestor = evolve.ancestor(params)
    draws = jax.vmap(lambda key: evolve.draw(key, params, ancestor))(
        jax.random.split(jax.random.key(0), 200)
    )
    weak = np.asarray(draws.masks["weak"]["kernel"])
    strong = np.asarray(draws.masks["strong"]["kernel"])
    axes = (1, 2, 3) if cluster == "filter" else (1, 2)
    living = weak.sum(axes).reshape(200, -1)
    rescued = np.asarray(draws.rescued) > 0
    assert rescued.sum() > 50
    assert np.all((living[rescued] > 0).sum(1) == 1)  # One cluster, of which
    # as many synapses live as Eq. 3 says (the likeliest one in any case).
    probability = float(draws.synapse_factor[0]) * np.exp(-4.0)
    size = weak[0].size // living.shape[1]
    expected = size * probability + (1 - probability) ** size
    kept = living[rescued].sum(1)
    assert abs(kept.mean() - expected) < 5 * np.sqrt(expected / rescued.sum()) + 0.1
    # So the cap is exceeded by what the floor keeps alone.
    limit = int(0.15 * (5 * 5 * 8 * 16 + 5 * 5 * 16 * 4))
    assert np.all(strong.sum((1, 2, 3, 4)) <= limit)


def test_the_floor_holds_for_a_vector_of_synapses_beside_sampled_biases():
    def rule(shapes):
        roles = evojax.default_rule(shapes, sample_biases=True)
        return roles | {"other/gain": evojax.Synapses()}

    params = {
        "dense": {"kernel": jnp.ones((6, 4)), "bias": jnp.ones(4)},
        "other": {"gain": jnp.ones(4)},
    }
    evolve = evojax.synthesis(evojax.cluster_driven(), evojax.constant(0.1, 0.1), rule)
    masks = jax.vmap(lambda key: evolve.offspring(key, params, evolve.ancestor(params)))(
        jax.random.split(jax.random.key(0), 100)
    )
    assert np.all(np.asarray(masks["other"]["gain"]).any(1))
    assert not np.all(np.asarray(masks["dense"]["bias"]).any(1))


ALL = {
    "cluster_driven": evojax.cluster_driven(),
    "synapse_driven": evojax.synapse_driven(),
    "random": evojax.random(),
    "magnitude": evojax.magnitude(),
}


@pytest.mark.parametrize("encoding", ALL)
def test_what_is_not_finite_has_no_strength_and_disturbs_nobody(encoding):
    """NaN, infinities and what is so large that a sum of it would be infinite."""
    evolve = evojax.synthesis(ALL[encoding], evojax.budget(total=0.5))
    bad = (jnp.nan, jnp.inf, -jnp.inf, 3e38)
    kernel = PARAMS["conv"]["kernel"].at[0, 0, 0, :4].set(jnp.array(bad))
    params = {"conv": {"kernel": kernel}, "dense": PARAMS["dense"]}
    masks = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params)
    alive = evolve.draw(KEY, params, masks).masks["conv"]["kernel"]
    assert 100 < alive.sum() < 200
    if encoding != "random":
        assert not alive[0, 0, 0, :4].any()
        for probability in jax.tree.leaves(evolve.dna(params, masks)):
            assert np.isfinite(probability).all()


def test_an_ancestor_beyond_all_measure_is_refused():
    with pytest.raises(ValueError, match=r"dense/kernel has entries that are .* beyond 2\^100"):
        BUDGET.ancestor({"dense": {"kernel": jnp.full((4, 4), 1e31)}})


def test_parameters_without_entries_are_never_pruned():
    params = PARAMS | {"empty": {"kernel": jnp.zeros((0, 8))}}
    masks = BUDGET.ancestor(params)
    assert masks["empty"]["kernel"] is None
    assert BUDGET.offspring(KEY, params, masks)["empty"]["kernel"] is None
    rule = lambda shapes: {"empty/kernel": evojax.Synapses()}  # noqa: E731
    with pytest.raises(ValueError, match=r"empty/kernel cannot carry synapses: .* shape \(0, 8\)"):
        layout(params, rule)


@pytest.mark.parametrize("encoding", ALL)
def test_where_jax_computes_in_64_bits_the_draw_is_the_same(encoding):
    evolve = evojax.synthesis(ALL[encoding], evojax.budget(total=0.5))
    masks = evolve.ancestor(PARAMS)
    expected = evolve.draw(KEY, PARAMS, masks)
    with jax.enable_x64(True):
        draw = evojax.synthesis(ALL[encoding], evojax.budget(total=0.5)).draw(KEY, PARAMS, masks)
    assert_same(draw.masks, expected.masks)


@pytest.mark.parametrize("encoding", ALL)
def test_nothing_is_promoted_without_being_asked(encoding):
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        evolve = evojax.synthesis(ALL[encoding], evojax.budget(total=0.5))
        masks = evolve.ancestor(PARAMS)
        jax.eval_shape(evolve.dna, PARAMS, masks)
        for share in (None, jnp.float32(0.5)):
            jax.eval_shape(evolve.draw, KEY, PARAMS, masks, share)


def test_a_traced_function_may_close_over_the_parameters():
    whole = BUDGET.ancestor(PARAMS)
    shapes = jax.eval_shape(lambda: BUDGET.ancestor(PARAMS))
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, whole)
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, PARAMS)
    with pytest.raises(ValueError, match="expected the weights of a trained network"):
        jax.eval_shape(lambda: BUDGET.ancestor(broken))


def test_a_share_of_any_kind_takes_the_same_program(compilations):
    masks = BUDGET.ancestor(PARAMS)
    draws = [BUDGET.draw(KEY, PARAMS, masks, jnp.float32(0.3))]
    with compilations() as count:
        draws += [BUDGET.draw(KEY, PARAMS, masks, share) for share in (0.3, np.float64(0.3))]
        assert count() == 0
    for draw in draws[1:]:
        assert_same(draw, draws[0])
