"""Saved networks come back to the bit, or not at all."""

import errno
import json
import os
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from evojax.evolution import CheckpointError, checkpoints
from evojax.evolution.checkpoints import folder, restore, save
from evojax.learning import Network


def a_network(seed=0):
    random = np.random.default_rng(seed)
    kernel = random.normal(size=(3, 3, 2, 4)).astype(np.float32)
    kernel[0, 0, 0] = [0.0, -0.0, np.float32(1e-42), np.finfo(np.float32).max]
    return Network(
        {
            "conv": {"kernel": kernel, "bias": random.normal(size=4).astype(np.float32)},
            "norm": {"scale": random.normal(size=4).astype(jnp.bfloat16)},
        },
        {"norm": {"mean": random.normal(size=4).astype(np.float32), "count": np.int32(7)}},
        {
            "conv": {"kernel": random.random((3, 3, 2, 4)) < 0.5, "bias": np.ones(4, bool)},
            "norm": {"scale": None},
        },
    )


def identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        assert np.asarray(left).tobytes() == np.asarray(right).tobytes()


@pytest.fixture
def saved(tmp_path):
    save(tmp_path, 1, a_network())
    return tmp_path


def test_every_dtype_comes_back_to_the_bit(saved):
    network = restore(saved, 1)
    identical(network, a_network())
    assert network.masks["norm"]["scale"] is None
    assert all(isinstance(leaf, np.ndarray | np.generic) for leaf in jax.tree.leaves(network))
    assert [path.name for path in (saved / "generations").iterdir()] == ["001"]


def test_networks_without_statistics_and_without_masks(tmp_path):
    network = Network({"w": np.ones(3, np.float32)}, {}, {"w": None})
    save(tmp_path, 12, network)
    identical(restore(tmp_path, 12), network)


def test_what_is_saved_again_replaces_what_was(saved):
    save(saved, 1, a_network(1))
    identical(restore(saved, 1), a_network(1))


def test_arrays_on_the_device_are_saved_too(tmp_path):
    save(tmp_path, 1, jax.tree.map(jnp.asarray, a_network()))
    identical(restore(tmp_path, 1), a_network())


def files(run):
    return sorted(path for path in folder(run, 1).rglob("*") if path.is_file())


def test_a_changed_byte_in_any_file_is_found(saved, capfd):
    assert len(files(saved)) > 5
    for file in files(saved):
        content = file.read_bytes()
        for place in np.linspace(0, len(content) - 1, 5).astype(int):
            changed = bytearray(content)
            changed[place] ^= 1 << int(place) % 7
            file.write_bytes(changed)
            try:
                identical(restore(saved, 1), a_network())  # A blank in the manifest, say.
                assert file.name == checkpoints.MANIFEST
            except CheckpointError as error:
                assert "Put the folder back from a copy" in str(error)
        file.write_bytes(content)
    identical(restore(saved, 1), a_network())
    assert "Traceback" not in capfd.readouterr().err  # Orbax's threads would print many.


@pytest.mark.parametrize("share", [0.0, 0.5, None])
def test_truncated_and_missing_files_are_found(saved, share):
    for file in files(saved):
        content = file.read_bytes()
        file.unlink()
        if share is not None:
            file.write_bytes(content[: int(share * len(content))])
        with pytest.raises(CheckpointError, match="generation 1 cannot be read from"):
            restore(saved, 1)
        file.write_bytes(content)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", "3", '{"params/w": 3}', '{"a": {}}', "\0"]
)
def test_a_foreign_manifest_is_refused(saved, content):
    (folder(saved, 1) / checkpoints.MANIFEST).write_text(content)
    with pytest.raises(CheckpointError, match="generation 1 cannot be read from"):
        restore(saved, 1)


def test_a_generation_that_is_not_there(saved):
    with pytest.raises(CheckpointError, match="generation 2 cannot be read"):
        restore(saved, 2)


@pytest.mark.parametrize(
    ("field", "value"), [("dtype", "float32"), ("crc32", 1), ("shape", [4, 1])]
)
def test_orbax_may_not_cast_reshape_or_change_an_array(saved, field, value):
    """Asked for another dtype, Orbax casts silently."""
    file = folder(saved, 1) / checkpoints.MANIFEST
    manifest = json.loads(file.read_text())
    manifest["masks/conv/bias"][field] = value
    file.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="masks/conv/bias differ|cannot be read"):
        restore(saved, 1)


def test_a_network_must_be_like_the_one_that_is_asked_for(saved):
    network = a_network()
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), network)
    identical(restore(saved, 1, like), network)
    for other in (
        network._replace(params=network.params | {"norm": {"scale": np.ones(4, np.float32)}}),
        network._replace(params=network.params | {"norm": {"scale": np.ones(5, jnp.bfloat16)}}),
        network._replace(masks=network.masks | {"norm": {"scale": np.ones(4, bool)}}),
    ):
        with pytest.raises(CheckpointError, match="another model: (params|masks)/norm/scale are"):
            restore(saved, 1, other)


def test_what_a_network_must_be_is_told_by_what_saving_it_returned(tmp_path):
    networks = a_network(0), a_network(1)
    crcs = [save(tmp_path, number, network) for number, network in enumerate(networks, 1)]
    assert crcs == [save(tmp_path, 9, network) for network in networks]
    for number in (1, 2):
        identical(restore(tmp_path, number, crc32=crcs[number - 1]), networks[number - 1])
        with pytest.raises(CheckpointError, match=f"{number} in .* is not the network of lineage"):
            restore(tmp_path, number, crc32=crcs[2 - number])


def test_a_structure_of_lists_comes_back_in_that_structure(tmp_path):
    arrays = [np.full(2, i, np.float32) for i in range(12)]  # "10" sorts before "2".
    network = Network(arrays, {}, [None] * 12)
    crc32 = save(tmp_path, 1, network)
    identical(restore(tmp_path, 1, network, crc32), network)


class FullDisk:
    """Writes something, and fails as Orbax does where a disk is full."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def save(self, path, tree):
        path.mkdir()
        (path / "half").write_text("half")
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device [os_error_code='28']")


def raise_full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("where", "name", "broken"),
    [
        (ocp, "StandardCheckpointer", FullDisk),
        (checkpoints, "replace", raise_full),
        (os, "replace", raise_full),
    ],
)
def test_what_could_not_be_saved_leaves_nothing(saved, monkeypatch, where, name, broken):
    with monkeypatch.context() as patch:
        patch.setattr(where, name, broken)
        with pytest.raises(CheckpointError, match="generation 2 could not be saved.*No space left"):
            save(saved, 2, a_network(1))
    assert [path.name for path in (saved / "generations").iterdir()] == ["001"]
    identical(restore(saved, 1), a_network())
    save(saved, 2, a_network(1))
    identical(restore(saved, 2), a_network(1))


@pytest.fixture
def tiny_disk(tmp_path):
    """A real file system of 320 KiB; only root can make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs the right to mount a file system")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=320k", "tmpfs", disk], capture_output=True
    )
    if made.returncode:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_that_fills_up(tiny_disk, capfd):
    network = Network({"w": np.random.default_rng(0).normal(size=20_000)}, {}, {"w": None})
    with pytest.raises(CheckpointError, match="could not be saved in .*: .*No space left"):
        for generation in range(1, 9):
            save(tiny_disk, generation, network)
    done = sorted(path.name for path in (tiny_disk / "generations").iterdir())
    assert done == [f"{number:03d}" for number in range(1, generation)]
    for number in range(1, generation):
        identical(restore(tiny_disk, number), network)
    assert "Traceback" not in capfd.readouterr().err
