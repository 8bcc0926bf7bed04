"""What the searches beside this file share: CIFAR-10 from JPEGs, and a queue of short runs on one device.

A run is a function of a *job*, a dict of plain values. Many workers, each a process of its own, take jobs in
order and share the device, since a small network leaves most of a GPU idle; what a run returns is appended to
a file of JSON lines as soon as it is there. A job whose line is in the file already is left out, so the same
command goes on where it was stopped.
"""

import collections
import io
import json
import multiprocessing
import queue
import tarfile
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Callable

import numpy as np
from PIL import Image

Job = dict[str, Any]
CLASSES = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')


def cifar10(
    archive: str, train: int = 5000, test: int = 1000
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """CIFAR-10 from an archive of ``cifar10/<train or test>/<class>/<name>.jpg``, decoded once.

    Args:
        archive: a tar file.
        train, test: so many images of each class at most, the first by name.

    Returns:
        By part ``train`` and ``test``: images (N, 32, 32, 3) of uint8 and labels (N,), sorted by class and
        name.
    """
    decoded = Path(tempfile.gettempdir(), f'{Path(archive).stem}-{train}-{test}.npz')
    if not decoded.is_file():
        files: dict[tuple[str, int], dict[str, bytes]] = collections.defaultdict(dict)
        with tarfile.open(archive) as tar:
            for member in tar:
                path = Path(member.name)
                if member.isfile() and path.suffix == '.jpg':
                    key = path.parts[-3], CLASSES.index(path.parts[-2])
                    files[key][path.name] = tar.extractfile(member).read()
        arrays = {}
        for part, number in (('train', train), ('test', test)):
            chosen = [
                (files[part, label][name], label)
                for label in range(len(CLASSES))
                for name in sorted(files[part, label])[:number]
            ]
            arrays[part] = np.stack(
                [np.asarray(Image.open(io.BytesIO(jpeg)).convert('RGB')) for jpeg, _ in chosen]
            )
            arrays[f'{part}_labels'] = np.array([label for _, label in chosen])
        temporary = decoded.with_suffix('.part.npz')
        np.savez(temporary, **arrays)
        temporary.replace(decoded)
    with np.load(decoded) as stored:
        return {part: (stored[part], stored[f'{part}_labels']) for part in ('train', 'test')}


def balanced_split(labels: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Indices of ``number`` images, as many of each class, another choice for each seed."""
    rng = np.random.default_rng(seed)
    classes = np.unique(labels)
    if number % len(classes):
        raise ValueError(f'{number} images are not as many of each of {len(classes)} classes')
    each = number // len(classes)
    return np.concatenate(
        [rng.permutation(np.flatnonzero(labels == label))[:each] for label in classes]
    )


def done_jobs(out: Path) -> list[Job]:
    """The jobs whose results a file has; a line that was cut off does not count."""
    jobs = []
    for line in out.read_text().splitlines() if out.is_file() else ():
        try:
            jobs.append(json.loads(line)['job'])
        except (ValueError, KeyError):
            continue
    return jobs


def run_queue(
    jobs: Iterable[Job],
    prepare: Callable[..., Callable[[Job], dict[str, Any]]],
    prepare_args: tuple[Any, ...],
    out: Path,
    *,
    workers: int,
    seconds: float,
) -> int:
    """Run jobs in order until all are done or the time is over.

    Args:
        jobs: what to run; put all of a seed before the next one, so that stopping early leaves whole seeds.
        prepare: a function of a module, called once in each worker; returns what runs a job.
        prepare_args: for ``prepare``.
        out: a file of JSON lines; each has ``job``, ``seconds``, and what the run returned, or ``error``.
        workers: processes.
        seconds: after these, runs that have not ended are stopped and leave nothing.

    Returns:
        How many of the jobs are still to be done.
    """
    deadline = time.monotonic() + seconds
    done = done_jobs(out)
    left = [job for job in jobs if job not in done]
    context = multiprocessing.get_context('spawn')
    todo, results = context.Queue(), context.Queue()
    for job in left:
        todo.put(job)
    processes = [
        context.Process(target=_work, args=(prepare, prepare_args, todo, results), daemon=True)
        for _ in range(min(workers, len(left)))
    ]
    for process in processes:
        process.start()
    out.parent.mkdir(parents=True, exist_ok=True)
    remaining, failed = len(left), 0
    try:
        with out.open('a') as lines:
            while remaining and time.monotonic() < deadline:
                try:
                    result = results.get(timeout=1)
                except queue.Empty:
                    if not any(process.is_alive() for process in processes):
                        print('all workers have ended, with jobs left', flush=True)
                        break
                    continue
                if 'error' in result:
                    failed += 1
                    print(result['job'], result['error'], flush=True)
                else:
                    lines.write(json.dumps(result) + '\n')
                    lines.flush()
                remaining -= 1
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
    print(
        f'{len(left) - remaining - failed} runs done, {failed} failed, {remaining} left', flush=True
    )
    return remaining + failed


def _work(prepare: Any, prepare_args: Any, todo: Any, results: Any) -> None:
    run = prepare(*prepare_args)
    while True:
        try:
            job = todo.get(timeout=5)
        except queue.Empty:
            return
        start = time.monotonic()
        try:
            result = run(job)
        except Exception as error:
            result = dict(error=f'{type(error).__name__}: {error}'[:300])
        results.put(dict(job=job, seconds=round(time.monotonic() - start, 2), **result))


def standard_errors(
    lines: Iterable[dict[str, Any]], by: Callable[[Job], Any], metric: str = 'top1'
) -> dict[Any, dict[str, float]]:
    """Mean, deviation and number of runs of each group of jobs, by ``by``."""
    groups: dict[Any, list[float]] = collections.defaultdict(list)
    for line in lines:
        groups[by(line['job'])].append(line[metric])
    return {
        key: dict(
            mean=float(np.mean(values)),
            deviation=float(np.std(values, ddof=1)) if len(values) > 1 else float('nan'),
            runs=len(values),
        )
        for key, values in groups.items()
    }
