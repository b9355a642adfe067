"""A small detector evolves on scenes in which every car is a red rectangle."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax import report
from evojax.data import DataError
from evojax.data.kitti import CELL, ORIGINAL, load_kitti
from evojax.data.kitti.augmentation import FILL
from evojax.detection import Coverage, Decoding, Detections, Score, no_detections, no_objects
from evojax.evolution import (
    DataLost,
    Event,
    GenerationStarted,
    RunFolderError,
    Settings,
    detected,
    evolve,
    read_lineage,
)
from evojax.evolution import detection as detection_module
from evojax.evolution.detection import Service, detection
from evojax.learning import Network, NonFiniteLoss, Recipe, linen, population_mesh
from evojax.learning.detector import GREY
from evojax.models.detectnet import STRIDE
from tests.data.kitti.conftest import add, line, picture
from tests.detection.scenes import detections, objects

HEIGHT, WIDTH = 64, 208
SCALE = 1248 // WIDTH
PIXELS = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)


class Small(nn.Module):
    """Four convolutions to a stride of 16, and two heads."""

    outputs: int = 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns a grid (N, H/16, W/16, 5) of images (N, H, W, 3)."""
        x = x / 64
        for number, channels in enumerate((8, 16, 24, 24)):
            x = nn.Conv(channels, (3, 3), 2, use_bias=False, name=f"conv{number}")(x)
            x = nn.relu(nn.BatchNorm(not train, momentum=0.8, name=f"norm{number}")(x))
        x = nn.relu(nn.Conv(32, (3, 5), name="wide")(x))
        coverage = nn.sigmoid(nn.Conv(1, (1, 1), name="coverage")(x))
        return jnp.concatenate([coverage, 16 * nn.Conv(self.outputs, (1, 1), name="box")(x)], -1)


def settings(**changes) -> Settings:
    recipe = {"learning_rate": 1e-2, "batch_size": 2, **changes.pop("recipe", {})}
    fields = {"generations": 2, "epochs": (60, 30), "max_drop": 100.0, "sizes": (1.5,)} | changes
    return Settings(recipe=Recipe(**recipe), **fields)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training and four test scenes, of a large and a small car each."""
    root = tmp_path_factory.mktemp("data") / "street"
    random = np.random.default_rng(0)
    for number in range(12):
        left, right = (int(place) for place in random.integers((0, 640), (300, 900)))
        cars = ((left, 60, left + 300, 240, 8.0), (right, 120, right + 200, 250, 30.0))
        labels = "\n".join(line("Car", car) for car in cars)
        add(root, f"{number:06d}", image=picture((375, 1242), cars), labels=labels)
    for part, numbers in (("train", range(8)), ("test", range(8, 12))):
        (root / f"{part}.txt").write_text("".join(f"{n:06d}\n" for n in numbers))
    return root


@pytest.fixture(scope="module")
def scenes(street: Path):
    return load_kitti(f"kitti:{street}", height=HEIGHT, width=WIDTH)


@pytest.fixture(scope="module")
def task(scenes):
    return detection(scenes, Service(None, workers=1))


@pytest.fixture(scope="module")
def run(task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "street"
    evolve(
        settings(litter=2, holdout=0.25), linen(Small()), task, out, experiment="kitti_detectnet"
    )
    return out


def test_the_whole_chain_learns_and_is_recorded_and_reported(run: Path, scenes) -> None:
    # One test: in several, each process that has one of them would do the run.
    _learnt(run)
    _recorded(run, scenes)
    _reported(run)


def _learnt(run: Path) -> None:
    for record in read_lineage(run)["generations"]:
        assert min(record["train_precision"], record["train_recall"]) > 0.9
        assert min(record["precision"], record["recall"]) > 0.2
        assert 0 < record["holdout_f1"] <= 1
        assert record["waited_seconds"] > 0


def _recorded(run: Path, scenes) -> None:
    lineage = read_lineage(run)
    ancestor, offspring = lineage["generations"]
    assert ancestor["cluster_efficiency"] == 1.0
    assert offspring["architectural_efficiency"] >= 1.5
    counted = offspring["layers"][:-2]
    assert [layer["name"] for layer in offspring["layers"][-2:]] == ["coverage", "box"]
    mean = sum(layer["cluster_efficiency"] for layer in counted) / len(counted)
    assert offspring["cluster_efficiency"] == pytest.approx(mean)
    data = lineage["dataset"]
    assert (data["name"], data["train"], data["holdout"], data["test"]) == ("street", 6, 2, 4)
    assert data["cars"] == {"train": 12, "test": 8}
    assert data["identity"] == scenes.identity
    assert lineage["config"]["data.height"] == HEIGHT
    assert set(offspring["detections"]) == set(data["examples"])
    (_, boxes), *_ = data["examples"].items()
    assert np.ptp(np.array(boxes)[:, 2] - np.array(boxes)[:, 0]) == pytest.approx(
        100 / SCALE, abs=0.2
    )


def _reported(run: Path) -> None:
    page = report.write(run).read_text()
    assert (run / "figures" / "scenes.png").exists()
    assert "box (output)" in page and "coverage (output)" in page
    assert "2 test images with 4 labelled cars" in page
    image = next((run / "examples").iterdir())
    content = image.read_bytes()
    image.unlink()
    assert "The scenes are not shown" in report.write(run).read_text()
    image.write_bytes(content)


def test_a_run_that_goes_on_is_the_same_to_the_bit(task, scenes, tmp_path: Path) -> None:
    model, short = linen(Small()), {"epochs": (2, 1), "holdout": 0.25}
    both = evolve(settings(**short), model, task, tmp_path / "both")
    evolve(settings(**short, generations=1), model, task, tmp_path / "parts")
    more = detection(scenes, Service(None, workers=3))
    parts = evolve(settings(**short), model, more, tmp_path / "parts")
    for one, other in zip(both["generations"], parts["generations"], strict=True):
        assert one["crc32"] == other["crc32"]
        assert one["detections"] == other["detections"]
    with pytest.raises(RunFolderError, match="data.augmentation"):
        evolve(settings(**short), model, detection(scenes), tmp_path / "both")


def test_what_does_not_fit_is_told_before_any_work(task, scenes, tmp_path, monkeypatch) -> None:
    out, model = tmp_path / "run", linen(Small())
    with monkeypatch.context() as patch:
        patch.delattr("cv2.groupRectangles")
        with pytest.raises(ImportError, match="groupRectangles, which version 5 no longer has"):
            evolve(settings(), model, task, out)
    with pytest.raises(ValueError, match="recipe.flip must be 0 for a detector"):
        evolve(settings(recipe={"flip": True}), model, task, out)
    with pytest.raises(ValueError, match=r"expected \(1, 4, 13, 5\)"):
        evolve(settings(), linen(Small(outputs=3)), task, out)
    with pytest.raises(ValueError, match="--devices 1"):
        evolve(settings(), model, task, out, mesh=population_mesh(1))
    with pytest.raises(ValueError, match="holdout is 0.95 of 8 training scenes"):
        evolve(settings(holdout=0.95), model, task, out)
    empty = [entry._replace(objects=no_objects()) for entry in scenes.train.entries[6:]]
    entries = (*scenes.train.entries[:6], *empty)
    half = detection(replace(scenes, train=replace(scenes.train, entries=entries)))
    with pytest.raises(ValueError, match="expected a Car .* they have 0, the others 12"):
        evolve(settings(holdout=0.25), model, half, out)
    tiny = objects(("Car", (300, 100, 310, 110), 0, 0))
    entries = (*scenes.train.entries[:6], *(one._replace(objects=tiny) for one in empty))
    unseen = detection(replace(scenes, train=replace(scenes.train, entries=entries)))
    with pytest.raises(ValueError, match=r"a Car in them whose sides are at least 4\.1.*fit as"):
        evolve(settings(holdout=0.25), model, unseen, out)
    assert not out.exists()
    with pytest.raises(ValueError, match="workers must be at least 1; got 0"):
        Service(workers=0)


def test_cars_of_25_pixels_are_to_be_found_and_smaller_ones_not(scenes, tmp_path) -> None:
    def test_scenes(*sides):
        rows = [("Car", (300, 100, 300 + width, 100 + height), 0, 0) for width, height in sides]
        entry = scenes.test.entries[0]._replace(objects=objects(*rows))
        return replace(scenes.test, entries=(entry,))

    small = test_scenes((24.9, 40), (40, 24.9))
    assert not len(detected.findable(small.objects(0), small))
    enough = test_scenes((24.9, 40), (25.1, 25.1))
    assert len(detected.findable(enough.objects(0), enough)) == 1
    expected = "no Car in the 1 test images can be found: expected .* at least 4.16667 pixels"
    with pytest.raises(ValueError, match=expected):
        evolve(settings(), linen(Small()), detection(replace(scenes, test=small)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_of_many_cars_the_nearest_64_are_to_be_found(scenes) -> None:
    cars = [(120 * n, 50 * row, 120 * n + 40, 50 * row + 40) for row in range(7) for n in range(10)]
    full = replace(scenes.test, height=384, width=1248)
    truth = detected.findable(objects(*(("Car", car, 0, 0) for car in cars)), full)
    np.testing.assert_array_equal(truth, cars[:64])  # The last are the farthest.


def test_a_car_below_the_rows_that_are_looked_at_is_not_to_be_found(scenes) -> None:
    # Of four rows of cells three, as 352 of 384 pixels: 288 pixels of the full height.
    for top, there in ((220, True), (300, False)):
        entry = scenes.test.entries[0]._replace(
            objects=objects(("Car", (300, top, 360, top + 60), 0, 0))
        )
        (truth,) = detected.truth_of(replace(scenes.test, entries=(entry,)))
        assert (len(truth) > 0) == there


def test_every_scene_is_decoded_by_the_settings_of_its_size(scenes) -> None:
    def predict(_, images):
        grid = np.zeros((len(images), 4, 13, 5))
        grid[:, 0, :2] = (1, 0, 0, 40, 10), (1, -16, 0, 24, 10)  # Two votes for a low box.
        return grid

    made = SimpleNamespace(predict=predict)
    found = detected.find(made, None, scenes.test, Recipe(batch_size=3), workers=1)
    assert found.identifiers == [entry.identifier for entry in scenes.test.entries]
    assert [len(labels.kinds) for labels in found.objects] == [2] * 4
    for got in found.detections:
        np.testing.assert_array_equal(got.boxes, [[0, 0, 40, 10]])


def test_measures_are_in_pixels_of_the_canvas(scenes) -> None:
    # 40 cars are found, 20 are not, and 20 that are hard are not; all are too low to be easy.
    car = (0, 60, 50, 90)
    entries = tuple(
        scenes.test.entries[0]._replace(
            identifier=f"{n}", objects=objects(("Car", car, 1 + n // 60, 0))
        )
        for n in range(80)
    )
    test = replace(scenes.test, entries=entries)
    labels = [test.objects(n) for n in range(80)]
    hit = Detections(labels[0].boxes, np.ones(1))
    found = detected.Found(
        [*[hit] * 40, *[no_detections()] * 40], labels, [entry.identifier for entry in entries]
    )
    got = detected.measures(found, test, [labels[0].boxes] * 80)
    # In batches of six: of fourteen, six are found whole and one by two thirds.
    assert (got["precision"], got["recall"]) == pytest.approx((7 / 14, (6 + 2 / 3) / 14))
    assert (got["whole_precision"], got["whole_recall"]) == pytest.approx((1, 40 / 60))
    assert got["average_precision"] == pytest.approx(
        {"easy": 0, "moderate": 40 / 60, "hard": 40 / 80}, abs=1 / 40
    )
    assert got["detections"] == {name: [[0, 10, 8.3, 15]] for name in "01"}


def test_pictures_show_the_scenes_with_most_large_cars(scenes) -> None:
    sides = {"none": (), "small": (49, 49, 49), "one": (51,), "two": (51, 51), "mixed": (51, 49)}
    entries = tuple(
        scenes.test.entries[0]._replace(
            identifier=name,
            objects=objects(
                *(("Car", (200 * n, 0, 200 * n + s, s), 0, 0) for n, s in enumerate(of))
            ),
        )
        for name, of in sides.items()
    )
    shown = detected.labels(replace(scenes.test, entries=entries))
    assert {name: len(boxes) for name, boxes in shown.items()} == {"two": 2, "one": 1}


def test_images_that_are_lost_meanwhile_are_told(street: Path, tmp_path: Path) -> None:
    root, out = shutil.copytree(street, tmp_path / "street"), tmp_path / "run"
    task = detection(load_kitti(f"kitti:{root}", height=HEIGHT, width=WIDTH), Service(workers=1))
    model, short = linen(Small()), settings(epochs=(1,), recipe={"batch_size": 8})
    shown = root / "image_2" / "000008.png"
    content = shown.read_bytes()
    shown.write_bytes(content[:99] + bytes(len(content) - 120) + content[-21:])
    with pytest.raises(DataError, match="000008.png cannot be decoded"):
        evolve(short, model, task, out)
    assert not out.exists()
    shown.write_bytes(content)

    def lose(event: Event) -> None:
        if isinstance(event, GenerationStarted) and event.generation == 2:
            (root / "image_2" / "000003.png").unlink()

    with pytest.raises(DataLost, match="000003.png cannot be read.*the same command again"):
        evolve(short, model, task, out, watch=lose)
    assert read_lineage(out)["status"] == "interrupted after generation 1: data were lost"


def test_data_network_and_decoding_agree_on_cells_and_on_grey() -> None:
    # Each has its own, for none of them knows the others.
    assert CELL == STRIDE == Coverage().stride == Decoding().stride
    assert FILL == GREY


def test_a_training_that_breaks_down_is_told(task, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLoss, match="in epoch 1 of 60"):
        evolve(settings(recipe={"learning_rate": 1e30}), linen(Small()), task, tmp_path / "run")


def test_a_litter_is_judged_by_batches_that_are_decoded_once(task, scenes, monkeypatch) -> None:
    decoded = []
    monkeypatch.setattr(
        type(scenes.train), "_image", lambda _, entry: decoded.append(entry) or PIXELS
    )
    model = linen(Small())
    trial = task.prepare(settings(), model, None)
    judge = trial.loss(jax.random.key(0))
    seen = len(decoded)
    assert seen == len(scenes.train)
    assert task.memory(settings(), model, None).images == seen * PIXELS.size
    networks = [Network(*model.init(jax.random.key(n), (HEIGHT, WIDTH, 3)), None) for n in (1, 2)]
    first, second, again = (judge(network) for network in (*networks, networks[0]))
    assert first == again != second
    assert len(decoded) == seen


def test_the_device_is_a_batch_ahead() -> None:
    begun = []
    items = detected._one_ahead(begun.append(n) or n for n in range(3))
    assert [(item, len(begun)) for item in items] == [(0, 2), (1, 3), (2, 3)]
    assert not list(detected._one_ahead([]))


def test_training_images_are_changed_and_those_of_a_litter_not(scenes, monkeypatch, compilations):
    model, batches, served = linen(Small()), detection_module.batches, []

    def told(*args, **options):
        served.append((options["epoch"], options["augmentation"]))
        return batches(*args, **options)

    def network(seed: int) -> Network:
        variables = model.init(jax.random.key(seed), (HEIGHT, WIDTH, 3))
        return Network(*variables, jax.tree.map(lambda leaf: leaf > seed, variables[0]))

    monkeypatch.setattr(detection_module, "batches", told)
    trial = detection(scenes, Service(workers=1)).prepare(settings(), model, None)
    networks = [network(seed) for seed in (-1, 0, 1)]
    keys = jax.random.split(jax.random.key(0), 3)
    trial.loss(keys[0])(networks[0])
    trial.train(keys[0], networks[0], 2, lambda number, epoch: None)
    assert served == [(0, None), (0, ORIGINAL), (1, ORIGINAL)]
    with compilations() as count:  # Nothing, for another network and as many epochs as one likes.
        trial.loss(keys[1])(networks[1])
        trial.train(keys[1], networks[1], 3, lambda number, epoch: None)
        assert count() == 0


def test_each_measure_is_recorded_under_its_name_and_at_the_images_scale(scenes) -> None:
    # 60 and 50 pixels high in full, 10 and 8.3 as they are measured on: moderate, but not easy.
    cars = ("Car", (60, 60, 240, 120), 1, 0), ("Car", (300, 60, 480, 110), 1, 0)
    labels = objects(*cars, ("DontCare", (600, 60, 900, 300), -1, -1))
    entry = scenes.test.entries[0]._replace(objects=labels)
    test = replace(scenes.test, entries=(entry,))
    boxes = labels.boxes / SCALE
    hits = detections((boxes[0], 3), (boxes[1], 2), (boxes[2], 1))
    found = detected.Found([hits], [test.objects(0)], [entry.identifier])
    measured = detected.measures(found, test, [boxes[:1]])
    assert (measured["precision"], measured["recall"]) == (pytest.approx(1 / 3), 1)
    assert (measured["whole_precision"], measured["whole_recall"]) == (1, 1)
    moderate = 1 / 40  # Two cars give two of the 41 thresholds, and the first of them is no point.
    levels = {"easy": 0, "moderate": moderate, "hard": moderate}
    assert measured["average_precision"] == pytest.approx(levels)
    np.testing.assert_allclose(measured["detections"][entry.identifier], boxes, atol=0.06)


@pytest.mark.parametrize("score, expected", [((0.2, 0.6), 0.3), ((0.6, 0.2), 0.3), ((0, 0), 0)])
def test_fitness_is_the_harmonic_mean(task, monkeypatch, score, expected) -> None:
    trial = task.prepare(settings(holdout=0.25), linen(Small()), None)
    monkeypatch.setattr(detection_module, "find", lambda *_: None)
    monkeypatch.setattr(detection_module, "over_all", lambda *_: Score(*score))
    assert trial.fitness(None) == pytest.approx(expected)
