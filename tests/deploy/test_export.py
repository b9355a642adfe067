"""Files that other programs run: they compute the same, without evojax."""

import json
import os
import subprocess
import sys
import textwrap
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evojax
from evojax.deploy import InconsistentError, load_sparse
from evojax.deploy import export as export_function
from evojax.deploy.checks import check_close
from evojax.deploy.export import EXTRAS
from tests.deploy.architectures import ARCHITECTURES


@pytest.fixture(scope="module")
def small():
    """A compacted network with a residual path, its input and its variables before."""
    apply, variables, x = ARCHITECTURES["residual_branches"]()
    channels = evojax.channels(apply, variables, x[:1])
    evolve = evojax.synthesis(
        evojax.cluster_driven(cluster="channel"), evojax.budget(macs=0.6), channels=channels
    )
    params = variables["params"]
    masks = evolve.offspring(jax.random.key(1), params, evolve.ancestor(params))
    return evojax.compact(apply, variables, masks, x[:1]), x[:1]


WITHOUT = """
import sys

class Refusing:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("evojax", "flax", "optax", "orbax"):
            raise ImportError(name + " is not here")

sys.meta_path.insert(0, Refusing())
import jax, numpy as np
data, inputs, outputs = sys.argv[1:]
restored = jax.export.deserialize(bytearray(open(data, "rb").read()))
np.save(outputs, restored.call(np.load(inputs)))
"""


def test_stablehlo_runs_without_evojax_for_any_batch(small, tmp_path):
    network, x = small
    done = evojax.export(network.apply, network.variables, x, tmp_path / "net.stablehlo")
    assert done.batch is None and done.files == (tmp_path / "net.stablehlo",)
    images = np.random.default_rng(0).normal(size=(5, *x.shape[1:])).astype(np.float32)
    np.save(tmp_path / "in.npy", images)
    names = [str(tmp_path / name) for name in ("net.stablehlo", "in.npy", "out.npy")]
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WITHOUT), *names], check=True, timeout=120
    )
    expected = network.apply(network.variables, jnp.asarray(images))
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-4, atol=1e-5)


def test_a_function_of_fixed_size_is_bound_to_it(tmp_path):
    def apply(variables, x):
        return jnp.concatenate([x @ variables["w"]] * len(x))  # len() needs a number.

    done = evojax.export(apply, {"w": jnp.ones((3, 2))}, jnp.ones((2, 3)), tmp_path / "net")
    assert done.batch == 2
    restored = jax.export.deserialize(bytearray((tmp_path / "net").read_bytes()))
    assert restored.call(jnp.ones((2, 3))).shape == (4, 2)


def test_safetensors_hold_the_arrays_and_json_their_widths(small, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    network, x = small
    out = tmp_path / "net.safetensors"
    done = evojax.export(
        network.apply, network.variables, x, out, "safetensors", report=network.report
    )
    arrays = safetensors.load_file(out)
    described = json.loads(done.files[1].read_text())["variables"]
    assert arrays.keys() == described.keys()
    for path, array in arrays.items():
        assert list(array.shape) == described[path]["shape"]
    before = {v.path: list(v.before) for v in network.report.variables}
    assert {path: entry["shape_before"] for path, entry in described.items()} == before
    assert any(entry["shape"] != entry["shape_before"] for entry in described.values())


def test_onnx_is_run_by_onnxruntime(small, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("jax2onnx")
    network, x = small
    done = evojax.export(network.apply, network.variables, x, tmp_path / "net.onnx", "onnx")
    assert done.batch == 1
    session = onnxruntime.InferenceSession(
        str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"]
    )
    images = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    (found,) = session.run(None, {session.get_inputs()[0].name: images})
    expected = network.apply(network.variables, jnp.asarray(images))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def linear(variables, x):
    return x @ variables["w"]


ARGUMENTS = (linear, {"w": jnp.ones((3, 2))}, jnp.ones((1, 3)))


def test_an_existing_file_is_kept_unless_forced(tmp_path):
    out = tmp_path / "net"
    out.write_text("precious")
    with pytest.raises(ValueError, match="net exists already: name another file"):
        evojax.export(*ARGUMENTS, out)
    assert out.read_text() == "precious"
    evojax.export(*ARGUMENTS, out, force=True)
    assert out.read_bytes() != b"precious"


@pytest.mark.parametrize("format", ["onnx", "safetensors", "sparse"])
def test_a_missing_extra_is_named_with_its_command(format, tmp_path, monkeypatch):
    extra = EXTRAS[format]
    module = sys.modules["evojax.deploy.export"]
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"pip install 'evojax-synthesis\[{extra}\]'"):
        export_function(*ARGUMENTS, tmp_path / "net", format)
    assert not list(tmp_path.iterdir())


def test_constants_in_place_of_channels_are_in_the_file(tmp_path):
    def apply(variables, x):
        return jax.nn.sigmoid(x @ variables["a"]) @ variables["b"]

    variables = {"a": jnp.arange(24.0).reshape(4, 6) / 24, "b": jnp.ones((6, 2))}
    masks = {"a": jnp.ones((4, 6), bool).at[:, 2:].set(False), "b": None}
    small = evojax.compact(apply, variables, masks, jnp.ones((1, 4)))
    assert "added in place of channels: 1x1 to a dot_general" in str(small.report)
    arguments = small.apply, small.variables, jnp.ones((1, 4))
    done = evojax.export(*arguments, tmp_path / "net.npz", "npz", report=small.report)
    arrays = np.load(done.files[0])
    described = json.loads(done.files[1].read_text())
    assert described["constants"] == {"constants/0": {"shape": [1, 1], "added_to": "dot_general"}}
    x = jnp.ones((3, 4))
    again = jax.nn.sigmoid(x @ arrays["a"]) @ arrays["b"] + arrays["constants/0"]
    np.testing.assert_allclose(again, small.apply(small.variables, x), rtol=1e-6)


def test_zeros_are_left_out_of_a_sparse_file(tmp_path):
    pytest.importorskip("safetensors")
    random = np.random.default_rng(0)
    shares = {"full": 1.0, "half": 0.5, "few": 0.01, "none": 0.0}
    variables = {
        name: jnp.where(random.random((30, 40)) < share, random.normal(size=(30, 40)), -0.0)
        for name, share in shares.items()
    } | {"scale": jnp.bfloat16(2), "counts": jnp.arange(40) // 30}

    def apply(variables, x):
        return (
            x @ sum(variables[name] for name in shares) * variables["scale"] + variables["counts"]
        )

    done = evojax.export(apply, variables, jnp.ones((1, 30)), tmp_path / "net", "sparse")
    restored = load_sparse(done.files[0])
    assert restored.keys() == variables.keys()
    for name, leaf in variables.items():
        np.testing.assert_array_equal(restored[name], leaf)
        assert restored[name].dtype == leaf.dtype
    masks = {name: leaf != 0 for name, leaf in variables.items()}
    content = done.files[0].read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    counted = evojax.cost(apply, variables, jnp.ones((1, 30)), masks).bytes_sparse
    assert len(content) - header == counted < 4 * 2.1 * 1200
    assert header < 1000


@pytest.mark.parametrize("content", [b"", b"of another kind", None])
def test_another_file_is_no_sparse_one(content, tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    if content is None:
        content = numpy.save({"w": np.ones(3)})
    (tmp_path / "net").write_bytes(content)
    with pytest.raises(ValueError, match="net is no file of sparse arrays"):
        load_sparse(tmp_path / "net")


def test_inputs_without_a_batch_and_single_numbers_are_exported(tmp_path):
    def apply(variables, x):
        return x["images"] @ variables["w"] * x["a scale"] + variables["offset"]

    variables = {"w": jnp.ones((3, 2)), "offset": jnp.float32(jnp.nan)}
    x = {"images": jnp.ones((1, 3)), "a scale": jnp.float32(2.0)}
    done = evojax.export(apply, variables, x, tmp_path / "net")
    assert done.batch is None
    files = evojax.export(apply, variables, x, tmp_path / "net.npz", "npz").files
    assert np.load(files[0])["offset"].shape == ()


def test_inputs_whose_first_axes_differ_are_exported(tmp_path):
    def apply(variables, x):
        return x["images"] @ variables["w"] + x["offsets"]

    x = {"images": jnp.ones((4, 3)), "offsets": jnp.ones((1, 2))}
    done = evojax.export(apply, {"w": jnp.ones((3, 2))}, x, tmp_path / "net")
    assert done.batch is None
    restored = jax.export.deserialize(bytearray(done.files[0].read_bytes()))
    x["images"] = jnp.ones((7, 3))
    np.testing.assert_array_equal(restored.call(x), np.full((7, 2), 4.0))


def test_a_random_key_is_no_array_of_a_file(tmp_path):
    with pytest.raises(ValueError, match="rng is a random key, which npz does not hold"):
        variables = {"w": jnp.ones((3, 2)), "rng": jax.random.key(0)}
        evojax.export(linear, variables, jnp.ones((1, 3)), tmp_path / "net", "npz")
    assert not list(tmp_path.iterdir())


def test_what_makes_no_sense_is_named(tmp_path):
    with pytest.raises(ValueError, match="format must be one of stablehlo, .*sparse; got"):
        evojax.export(*ARGUMENTS, tmp_path / "net", "pickle")
    with pytest.raises(ValueError, match="exists already"):
        evojax.export(*ARGUMENTS, tmp_path, force=True)
    with pytest.raises(ValueError, match="apply rejects"):
        evojax.export(linear, {"w": jnp.ones((3, 2))}, jnp.ones((1, 4)), tmp_path / "net")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["stablehlo", "npz"])
def test_what_cannot_be_written_is_refused_before_any_work(format, tmp_path, monkeypatch):
    def untraced(variables, x):
        pytest.fail("work was done")

    refused = partial(evojax.export, untraced, *ARGUMENTS[1:], format=format, force=True)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe exists already and is no file: name another"):
        refused(tmp_path / "pipe")
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ValueError, match=r"file/net: .*file is no folder to write into"):
        refused(tmp_path / "file" / "net")
    monkeypatch.setattr(os, "access", lambda folder, mode: False)
    with pytest.raises(ValueError, match="is no folder to write into"):
        refused(tmp_path / "new" / "net")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pipe"]


def test_another_output_is_a_defect():
    with pytest.raises(InconsistentError, match="the exported network does not compute what"):
        check_close(np.ones(3), np.ones(3) * 1.1, "the exported network")
