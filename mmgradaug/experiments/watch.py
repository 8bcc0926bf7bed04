"""Says which trainings are done, and about how much time is left."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from .runs import Run
from .tables import METRICS

# Seconds between two lines, where there is no bar.
LINE_EVERY = 30.0


class Watch:
    """Says which trainings are done, and about how much time is left.

    On a terminal a bar shows it; elsewhere a line is printed for each training that ends, and every
    :data:`LINE_EVERY` seconds.

    Args:
        weights: by key, how long a training takes in comparison with the others.
    """

    def __init__(self, weights: dict[str, float]) -> None:
        self.weights = weights
        self.total = 0.0
        self.count = 0
        self.done: list[Run] = []
        self.failures: dict[Run, str] = {}
        self._before = 0.0  # the weight of what an earlier command did
        self._begin = self._last_line = time.monotonic()
        self.console = Console()
        columns = (
            TextColumn('{task.description}'),
            BarColumn(),
            TextColumn('{task.percentage:.0f} %'),
        )
        self.bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self.task = self.bar.add_task('')

    def expect(self, keys: Iterable[str]) -> None:
        """Count runs that are to come, by their keys."""
        for key in keys:
            self.count += 1
            self.total += self.weights.get(key, 1.0)

    def say(self, text: str) -> None:
        # Not through the console, which wraps lines.
        self._last_line = time.monotonic()
        with self.bar_paused():
            print(text, flush=True)

    @contextmanager
    def bar_paused(self) -> Iterator[None]:
        running = self.bar.live.is_started
        if running:
            self.bar.stop()
        yield
        if running:
            self.bar.start()

    def ended(self, run: Run, failure: str, running: Sequence[Run], recalled: bool = False) -> None:
        cause: list[str] = []
        if failure:
            self.failures[run] = failure
            what = failure.splitlines()[0]
            cause = run.last_words()  # the rest of it is told at the end
        else:
            self.done.append(run)
            record = run.record()
            what = (
                f'{run.title}: {result_in_words(record)} after {record["length"]} {record["unit"]}s'
            )
            what += ', done before' if recalled else f', {record["train_seconds"]:.0f} s'
        if recalled:
            self._before += self.weights.get(run.key, 1.0)
        number = len(self.done) + len(self.failures)
        said = f'[{number}/{self.count}] {what}{self.left_in_words(running)}'
        self.say('\n'.join([said, *(f'  | {line}' for line in cause)]))

    def tick(self, running: Sequence[Run]) -> None:
        now = '; '.join(f'{run.title} {100 * run.share_done:.0f} %' for run in running)
        now += self.left_in_words(running)
        if self.bar.disable and time.monotonic() > self._last_line + LINE_EVERY:
            self.say(f'[{len(self.done) + len(self.failures)}/{self.count}] {now}')
        self.bar.update(
            self.task,
            description=now,
            completed=self._finished(running),
            total=self.total,
        )

    def _finished(self, running: Sequence[Run]) -> float:
        ended = [*self.done, *self.failures]
        finished = sum(self.weights.get(run.key, 1.0) for run in ended)
        return finished + sum(self.weights.get(r.key, 1.0) * r.share_done for r in running)

    def left_in_words(self, running: Sequence[Run]) -> str:
        finished = self._finished(running) - self._before
        left = self.total - self._before - finished
        if finished <= 0 or left <= 0:
            return ''
        seconds = (time.monotonic() - self._begin) / finished * left
        if seconds < 60:
            return f'; about {10 * math.ceil(seconds / 10)} s left'
        return f'; about {seconds / 60:.1f} min left'


def result_in_words(record: dict[str, Any]) -> str:
    """'91.2 top-1 %, 99.1 top-5 %', of the last evaluation."""
    values = [
        f'{metric.factor * record["last"][key]:.1f} {metric.name}'
        for key, metric in METRICS.items()
        if record['last'].get(key) is not None
    ]
    return ', '.join(values) or ', '.join(f'{k} {v:.4g}' for k, v in record['last'].items())
