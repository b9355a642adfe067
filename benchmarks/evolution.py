"""Where does the time of a whole evolution go?

    python benchmarks/evolution.py

and of AlexNet, with a GPU and all its images,

    python benchmarks/evolution.py --experiment cifar_alexnet --generations 6 --subset 1 \\
        --epochs 40 10 --out runs/benchmarks/evolution-alexnet.json

(with --data npz:FILE where nothing can be fetched).

An experiment runs with its own settings, from reading its data to its report, on few images for few
epochs. Every moment belongs to one phase: what the loop does before a generation trains is
synthesis, but for the losses that choose from litters; what it does after, but for evaluation on
the test images, is saving, the record included. Wherever something is traced, lowered, compiled or
read from JAX's cache of programs, that is compilation. Reading and checking data, and the ancestor
before its training, are other.

Few images and epochs make all but training look large. So the shares are also reckoned for the
experiment's own images and epochs: training takes so many times longer, and nothing else does, for
litters are judged by a sample and test images are all there already. `a generation` is one of those
after the second, which compile nothing any more. With --cached it all happens a second time in the
same process, which forgets what it compiled and finds it on disk.
"""

import runpy
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
from common import check, launch, write
from compilation import cache_in

from evojax import report
from evojax.data import load
from evojax.evolution import (
    Event,
    GenerationFinished,
    GenerationStarted,
    RunFinished,
    Settings,
    evolve,
)
from evojax.evolution.classification import classification
from evojax.evolution.task import Task, Trial
from evojax.learning import linen
from evojax.models import AlexNet, LeNet

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
MODELS = {"mnist_lenet": LeNet, "cifar_alexnet": AlexNet, "digits_lenet": LeNet}
TRAINING, COMPILATION, OTHER = "training", "compilation", "other"
CHOICE = "choice from litters"
PHASES = (
    TRAINING, COMPILATION, "synthesis", CHOICE, "evaluation", "saving", "reporting",
    OTHER,
)  # fmt: skip
AFTER = {GenerationStarted: "saving", GenerationFinished: "synthesis", RunFinished: "reporting"}
"""The phase that an event opens, but for what the trial's functions do in it."""

Seconds = Counter[str]
"""Of each phase."""

spans: list[tuple[float, float]] = []
"""When JAX traced, lowered and compiled, in seconds since the epoch."""
jax.monitoring.register_event_time_span_listener(
    lambda event, start, end, **_: (
        spans.append((start, end)) if event.startswith("/jax/core/compile/") else None
    )
)


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        experiment: whose settings, data and network.
        generations: how many.
        epochs: of each generation, the last number for all that follow.
        litter: drawn for each network that is trained, by default the experiment's.
        subset: share of the training images to use, in (0, 1].
        cached: whether to start a second time, with the programs on disk.
        data: by default the experiment's.
        manual_dir: folder with the original archives, where they cannot be fetched.
        data_dir: where tensorflow-datasets keeps prepared data.
        out: where to write the result as JSON.
    """

    experiment: Literal["mnist_lenet", "cifar_alexnet", "digits_lenet"] = "mnist_lenet"
    generations: int = 13
    epochs: tuple[int, ...] = (1,)
    litter: int | None = None
    subset: float = 0.1
    cached: bool = False
    data: str | None = None
    manual_dir: str | None = None
    data_dir: str | None = None
    out: Path = Path("runs/benchmarks/evolution.json")


class Mark(NamedTuple):
    """From when on a run was in a phase.

    Attributes:
        time: seconds since the epoch.
        phase: which.
        generation: how many generations were finished.
    """

    time: float
    phase: str
    generation: int


class Diary:
    """Which phases a run went through."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self.finished = 0
        self.turn(OTHER)

    def turn(self, phase: str) -> None:
        """From now on the run is in this phase."""
        self.marks.append(Mark(time.time(), phase, self.finished))

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """What happens inside is this phase; then the one before goes on."""
        before = self.marks[-1].phase
        self.turn(phase)
        try:
            yield
        finally:
            self.turn(before)

    def told(self, event: Event) -> None:
        """Follows the run from event to event."""
        self.finished += isinstance(event, GenerationFinished)
        if type(event) in AFTER:
            self.turn(AFTER[type(event)])

    def noting(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, which is this phase; what its arguments still wait for is not."""

        def noted(*args: Any) -> Any:  # noqa: ANN401
            jax.block_until_ready(args)
            with self.during(phase):
                return function(*args)

        return noted


def main(options: Options) -> None:
    """Measures, prints a table and writes the JSON file."""
    check(options, generations=1)
    defaults = runpy.run_path(str(EXPERIMENTS / f"{options.experiment}.py"))["DEFAULTS"]
    litter = options.litter or defaults.settings.litter
    options = replace(options, data=options.data or defaults.data, litter=litter)
    own = replace(defaults.settings, generations=options.generations, litter=litter, max_drop=100.0)
    starts = ("first start", "second start") if options.cached else ("first start",)
    settings = replace(own, epochs=options.epochs)
    with tempfile.TemporaryDirectory() as folder:
        runs = {}
        for start in starts:
            with cache_in(f"{folder}/programs"):
                runs[start] = evolved(settings, options, Path(folder, start))
    show(runs, own, options)


def evolved(settings: Settings, options: Options, out: Path) -> list[Seconds]:
    """Runs an experiment into a folder: seconds of each of its generations, and of its report."""
    spans.clear()
    diary = Diary()
    dataset = load(
        str(options.data), manual_dir=options.manual_dir, data_dir=options.data_dir,
        subset=options.subset,
    )  # fmt: skip
    model = linen(MODELS[options.experiment](dataset.classes))
    with report.progress() as progress:

        def watch(event: Event) -> None:
            with diary.during("reporting"):
                progress(event)
            diary.told(event)

        task = noted(classification(dataset), diary)
        evolve(settings, model, task, out, experiment=options.experiment, watch=watch)
    report.write(out)
    diary.turn(OTHER)
    return accounted(diary.marks, spans)


def noted(task: Task, diary: Diary) -> Task:
    """The task, whose training and evaluation are written down."""

    def prepare(*args: Any) -> Trial:  # noqa: ANN401
        trial = task.prepare(*args)
        return trial._replace(
            train=diary.noting(TRAINING, trial.train),
            loss=lambda key: diary.noting(CHOICE, diary.noting(CHOICE, trial.loss)(key)),
            fitness=trial.fitness and diary.noting("evaluation", trial.fitness),
            measure=diary.noting("evaluation", trial.measure),
        )

    return task._replace(prepare=prepare)


def accounted(marks: Sequence[Mark], spans: Sequence[tuple[float, float]]) -> list[Seconds]:
    """Seconds of each phase, by how many generations were finished; compilation taken out of them.

    Args:
        marks: the phases, each of which ends where the next one begins.
        spans: when something was compiled; they may overlap.
    """
    found: list[Seconds] = [Counter() for _ in range(marks[-1].generation + 1)]
    once = list(apart(spans))
    for mark, end in pairwise(marks):
        compiled = sum(max(0.0, min(b, end.time) - max(a, mark.time)) for a, b in once)
        found[mark.generation][COMPILATION] += compiled
        found[mark.generation][mark.phase] += end.time - mark.time - compiled
    return found


def apart(spans: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The same times as spans that do not overlap."""
    last = float("-inf")
    for start, end in sorted(spans):
        if end > last:
            yield max(start, last), end
            last = end


def reckoned(seconds: Seconds, own: Settings, options: Options) -> Seconds:
    """What a run takes with the experiment's own epochs and with all images."""
    numbers = range(1, options.generations + 1)
    epochs = sum(map(own.epochs_of, numbers))
    run = sum(map(replace(own, epochs=options.epochs).epochs_of, numbers))
    return Counter(seconds | {TRAINING: seconds[TRAINING] * epochs / run / options.subset})


def show(runs: dict[str, list[Seconds]], own: Settings, options: Options) -> None:
    """Prints the table and writes the JSON file."""
    columns = {}
    for start, parts in runs.items():
        name = "" if len(runs) == 1 else f", {start}"
        whole = sum(parts, Counter())
        if start == "first start":
            columns["measured"] = whole
            columns["a generation"] = sum(parts[2:-1] or parts[-2:-1], Counter())
        columns[f"reckoned{name}"] = reckoned(whole, own, options)
    shares = {name: shared(column) for name, column in columns.items()}
    headings = [f"{options.experiment}, % of the time", *columns]
    rows = [*PHASES, "all but training"]
    cells = [[row, *(f"{100 * share[row]:.1f}" for share in shares.values())] for row in rows]
    result = {"shares": shares, "seconds": runs}
    write("evolution", [headings, *cells], options, result, {})


def shared(seconds: Seconds) -> dict[str, float]:
    """Shares of the time, of each phase and of all but training."""
    shares = {phase: seconds[phase] / seconds.total() for phase in PHASES}
    return shares | {"all but training": 1 - shares[TRAINING]}


if __name__ == "__main__":
    launch(main, Options, __doc__)
