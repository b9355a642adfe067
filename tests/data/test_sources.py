"""load(): its arguments, the embedded digits, and that sources are imported only when asked."""

import subprocess
import sys

import numpy as np
import pytest

from evojax.data import DataError, load


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn", reason="scikit-learn, where the digits are, is not installed")
    return load("digits", size=8)


def test_digits_are_real_and_split_for_good(digits):
    assert (digits.name, digits.classes) == ("digits", 10)
    assert digits.train.images.shape == (1438, 8, 8, 1)
    assert digits.test.images.shape == (359, 8, 8, 1)
    assert digits.train.images.max() == 255 and digits.train.images.min() == 0
    assert np.bincount(digits.test.labels).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    # No image is in both parts: 1,797 different rows in all.
    both = np.concatenate([digits.train.images, digits.test.images]).reshape(1797, -1)
    assert len(np.unique(both, axis=0)) == 1797


def test_digits_are_enlarged(digits):
    large = load("digits")
    assert large.train.images.shape == (1438, 32, 32, 1)
    np.testing.assert_allclose(
        large.test.images.mean((1, 2, 3)), digits.test.images.mean((1, 2, 3)), atol=12
    )


def test_subset_is_fixed_and_leaves_the_test_set_whole(digits):
    tenth, again = load("digits", size=8, subset=0.1), load("digits", size=8, subset=0.1)
    np.testing.assert_array_equal(tenth.train.images, again.train.images)
    assert set(np.bincount(tenth.train.labels)) == {14, 15}
    assert len(tenth.test.labels) == 359
    assert len(load("digits", size=8, subset=1e-6).train.labels) == 10


@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"source": ""}, "source is ''"),
        ({"source": None}, "source is None"),
        ({"subset": 0.0}, r"subset is 0.0; expected a share in \(0, 1\]"),
        ({"subset": 1.5}, "subset is 1.5"),
        ({"subset": float("nan")}, "subset is nan"),
        ({"size": 0}, "size is 0"),
        ({"size": 32.0}, "size is 32.0"),
        ({"size": True}, "size is True"),
        ({"manual_dir": "x"}, r"manual_dir \(x\): only for sets of tensorflow-datasets, and 'npz:"),
        ({"source": "digits", "data_dir": "y"}, r"data_dir \(y\): only for sets of .* 'digits' is"),
    ],
)
def test_refuses_arguments_before_reading_anything(arguments, says):
    with pytest.raises(DataError, match=says):
        load(**({"source": "npz:none"} | arguments))


@pytest.mark.parametrize(
    "source, module, command",
    [
        ("digits", "sklearn", "pip install scikit-learn"),
        ("mnist", "tensorflow_datasets", r"pip install 'evojax-synthesis\[tfds\]'"),
        ("mnist", "PIL.Image", r"pip install 'evojax-synthesis\[tfds\]'"),
    ],
)
def test_says_what_to_install(monkeypatch, source, module, command):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(DataError, match=command):
        load(source)


def test_importing_needs_no_source():
    code = (
        "import sys, evojax.data; "
        "sys.exit(any(m in sys.modules for m in ('sklearn', 'tensorflow_datasets', 'PIL')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
