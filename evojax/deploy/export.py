"""Networks in files that other programs run: StableHLO, ONNX, safetensors, sparse arrays."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from evojax.deploy import sparse
from evojax.deploy.checks import InconsistentError, arrays, check_same, traced
from evojax.deploy.report import Added, Report
from evojax.deploy.trace import Apply
from evojax.files import nearest, open_to_writing, replace
from evojax.genetics.trees import flatten

PyTree = Any
Arrays = dict[str, np.ndarray]
Format = Literal["stablehlo", "onnx", "safetensors", "npz", "sparse"]
ARRAYS = ("safetensors", "npz", "sparse")
"""Formats that hold the variables only, with a description beside them."""


EXTRAS = {"onnx": "onnx", "safetensors": "safetensors", "sparse": "safetensors"}
"""Of evojax, by format."""
NEEDED = {"onnx": ("jax2onnx", "onnxruntime"), "safetensors": ("safetensors",)}
"""Packages of an extra."""

NAME = "the exported network"
PLATFORMS = ("cpu", "cuda", "tpu")


class Exported(NamedTuple):
    """What was written.

    Attributes:
        files: the file asked for and, of arrays alone, the JSON description beside it.
        batch: how many inputs a call takes; ``None`` where any number.
    """

    files: tuple[Path, ...]
    batch: int | None


def export(
    apply: Apply,
    variables: PyTree,
    x: PyTree,
    out: str | Path,
    format: Format = "stablehlo",
    *,
    report: Report | None = None,
    force: bool = False,
) -> Exported:
    """Writes a network into a file, whole or not at all, and checks that it computes the same.

    * ``"stablehlo"``: the bytes of `jax.export`, weights inside, for CPU, CUDA and TPU, for batches
      of any size if the function can be traced so; leaves of the input whose first axis has another
      length than the first leaf's keep theirs. ``jax.export.deserialize(bytearray(data))`` gives
      back a function of the input; neither evojax nor Flax need be there.
    * ``"onnx"``: weights inside, for batches of the example's size (the extra ``onnx``).
    * ``"safetensors"`` (the extra ``safetensors``) and ``"npz"``, NumPy's archive: the variables by
      their paths, and a JSON file of the same name that describes them: shapes and dtypes, and of a
      compacted network the shapes before, and the constants that stand in for removed channels,
      which are in the file as ``constants/0`` and so on.
    * ``"sparse"`` (the extra ``safetensors``): the same, but of each array the entries that are not
      0 and where they are, if that is less; `evojax.deploy.load_sparse` gives the arrays back.

    Args:
        apply: ``(variables, x) -> outputs``, any function that JAX can trace, such as that of a
            `Compacted` network.
        variables: PyTree of arrays.
        x: an example input.
        out: path of the file.
        format: one of the five.
        report: of the compaction, to be part of the JSON description.
        force: overwrite an existing file.

    Raises:
        ValueError: before any work: if the format is unknown, a package is missing (the message
            names the command), or a file is there already; or if the function rejects its input.
        InconsistentError: if the file does not compute the same; nothing is written.
        OSError: if the file cannot be written.

    Example:
        >>> import tempfile, pathlib, jax.numpy as jnp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder) / "net.stablehlo"
        ...     variables = {"w": jnp.ones((3, 2))}
        ...     done = export(lambda v, x: x @ v["w"], variables, jnp.ones((1, 3)), file)
        ...     restored = jax.export.deserialize(bytearray(file.read_bytes()))
        ...     print(done.batch, restored.call(jnp.ones((4, 3))).shape)
        None (4, 2)
    """
    out = Path(out)
    check_export(out, format, force=force)
    variables, x = arrays(variables, x)
    traced(apply, variables, x)

    def forward(x: PyTree) -> PyTree:
        return apply(variables, x)

    match format:
        case "stablehlo":
            content, batch = _stablehlo(forward, x)
        case "onnx":
            content, batch = _onnx(forward, x), _batch(x)
        case "safetensors" | "npz" | "sparse":
            content, batch = _arrays(variables, format, report), None
            described = json.dumps(description(variables, report), indent=1) + "\n"
            replace(_beside(out), described)
            return Exported((replace(out, content), _beside(out)), batch)
    return Exported((replace(out, content),), batch)


def check_export(out: Path, format: str, *, force: bool = False) -> None:
    """Checks that a file of this format can be written, before any work.

    Raises:
        ValueError: if not.
    """
    if format not in get_args(Format):
        raise ValueError(f"format must be one of {', '.join(get_args(Format))}; got {format!r}")
    extra = EXTRAS.get(format, "")
    missing = [name for name in NEEDED.get(extra, ()) if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"{format} needs {' and '.join(missing)}: pip install 'evojax-synthesis[{extra}]'"
        )
    for file in [out, _beside(out)] if format in ARRAYS else [out]:
        if file.exists() and not file.is_file():
            raise ValueError(f"{file} exists already and is no file: name another")
        if file.exists() and not force:
            raise ValueError(f"{file} exists already: name another file, or overwrite with force")
    folder = nearest(out.absolute().parent)
    if not open_to_writing(folder):
        raise ValueError(f"no file can be written at {out}: {folder} is no folder to write into")


def description(variables: PyTree, report: Report | None = None) -> dict[str, Any]:
    """What the variables are: shapes and dtypes by path, as JSON holds them.

    Args:
        variables: PyTree of arrays.
        report: of their compaction; then the shapes before it are there as well.
    """
    leaves, _ = flatten(variables)
    before = {v.path: list(v.before) for v in report.variables} if report else {}
    return {
        "schema": 1,
        "variables": {
            path: {"shape": list(jnp.shape(leaf)), "dtype": str(jnp.result_type(leaf))}
            | ({"shape_before": before[path]} if path in before else {})
            for path, leaf in leaves.items()
        },
        "constants": {
            path: {"shape": list(array.shape), "added_to": operation}
            for path, (operation, array) in _constants(report).items()
        },
    }


def _constants(report: Report | None) -> dict[str, Added]:
    """What stands in for removed channels, by its path in a file."""
    return {f"constants/{i}": added for i, added in enumerate(report.added if report else ())}


def _beside(out: Path) -> Path:
    return out.with_name(f"{out.name}.json")


def _batch(x: PyTree) -> int | None:
    """The length of the first axis of the first leaf that has one."""
    return next((leaf.shape[0] for leaf in jax.tree.leaves(x) if leaf.ndim), None)


def _stablehlo(forward: Callable[[PyTree], PyTree], x: PyTree) -> tuple[bytes, int | None]:
    """The bytes, and the batch size that they are bound to, if any."""
    jitted = jax.jit(forward)
    (any_number,) = jax.export.symbolic_shape("batch")
    length = _batch(x)
    batch: int | None = None

    def of_any_number(leaf: jax.Array) -> jax.ShapeDtypeStruct:
        batched = leaf.shape[:1] == (length,)
        shape = (any_number, *leaf.shape[1:]) if batched else leaf.shape
        return jax.ShapeDtypeStruct(shape, leaf.dtype)

    def three_times(leaf: jax.Array) -> jax.Array:
        return jnp.concatenate([leaf] * 3) if leaf.shape[:1] == (length,) else leaf

    try:
        symbolic = jax.tree.map(of_any_number, x)
        exported = jax.export.export(jitted, platforms=PLATFORMS)(symbolic)
    except Exception:
        batch = length
        exported = jax.export.export(jitted, platforms=PLATFORMS)(x)
    data = bytes(exported.serialize())
    restored = jax.export.deserialize(bytearray(data))
    example = x if batch else jax.tree.map(three_times, x)
    check_same(forward, restored.call, example, NAME)
    return data, batch


def _onnx(forward: Callable[[PyTree], PyTree], x: PyTree) -> bytes:
    import jax2onnx
    import onnxruntime

    # Traced beforehand: while it converts, jax2onnx has other functions in place of Flax's.
    leaves, structure = jax.tree.flatten(x)
    program = jax.make_jaxpr(lambda *leaves: forward(jax.tree.unflatten(structure, leaves)))(
        *leaves
    )
    flat = jaxpr_as_fun(program)

    def outputs(*leaves: jax.Array) -> Sequence[jax.Array] | jax.Array:
        outs = flat(*leaves)
        return outs[0] if len(outs) == 1 else tuple(outs)

    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
    # It warns of shapes without a type, which onnxruntime does not miss, as the comparison shows.
    with _without_warnings("onnx_ir"):
        data = jax2onnx.to_onnx(outputs, inputs=shapes, model_name="evojax").SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def run(x: PyTree) -> list[np.ndarray]:
        arrays = map(np.asarray, jax.tree.leaves(x))
        return session.run(None, dict(zip(names, arrays, strict=True)))

    check_same(forward, run, x, NAME)
    return data


@contextmanager
def _without_warnings(name: str) -> Iterator[None]:
    """Keeps a package's loggers from telling less than errors."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _arrays(variables: PyTree, format: Format, report: Report | None) -> bytes:
    leaves, _ = flatten(variables)
    if keys := [p for p, leaf in leaves.items() if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]:
        raise ValueError(
            f"{', '.join(keys)} is a random key, which {format} does not hold: leave it out, or "
            "give its jax.random.key_data"
        )
    arrays = {path: np.asarray(leaf, order="C") for path, leaf in leaves.items()}
    arrays |= {path: added.constant for path, added in _constants(report).items()}
    save, load = _codec(format)
    data = save(arrays)
    restored = load(data)
    # Plus 0, for which side of 0 a 0 is on is not kept where zeros are left out.
    if any(
        (array + 0).tobytes() != (restored[path] + 0).tobytes() for path, array in arrays.items()
    ):
        raise InconsistentError(f"{format} gives back other arrays than it was given")
    return data


def _codec(format: Format) -> tuple[Callable[[Arrays], bytes], Callable[[bytes], Arrays]]:
    """What makes bytes of arrays by their paths, and arrays of bytes."""
    match format:
        case "safetensors":
            from safetensors.numpy import save

            return save, sparse.tensors_of
        case "sparse":
            return sparse.packed, sparse.unpacked
        case _:
            return _archive, lambda data: dict(np.load(io.BytesIO(data)))


def _archive(arrays: Arrays) -> bytes:
    if foreign := sorted(
        {str(array.dtype) for array in arrays.values() if array.dtype.kind == "V"}
    ):
        raise ValueError(f"npz holds no {', '.join(foreign)}: export as safetensors, or cast first")
    buffer = io.BytesIO()
    # Not numpy.savez, whose own arguments' names no array can have.
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, array in arrays.items():
            with archive.open(f"{path}.npy", "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return buffer.getvalue()
