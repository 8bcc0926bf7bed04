"""What the searches beside this file share: images, and a queue of many short runs on one device.

A run is a function of a *job*, a dict of plain values. Many processes take jobs in order and share the
device, since a small network leaves most of a GPU idle. What a run returns is one line of JSON, the job's
values among them, written as soon as it is there. Jobs whose line is there already are left out, so the same
command goes on where it was stopped.
"""

import io
import json
import os
import pickle
import platform
import queue
import re
import shlex
import sys
import tarfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F

Job = dict[str, Any]


@dataclass
class Images:
    """(N, H, W, C) uint8 and (N,) int64, for training and for the test."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray

    def choose(self, number: int, seed: int) -> np.ndarray:
        """Numbers of training images, equally many of each class."""
        rng = np.random.default_rng(seed)
        classes = np.unique(self.train_labels)
        if number % len(classes):
            raise SystemExit(
                f'{number} labels are not equally many for each of {len(classes)} classes'
            )
        each = [np.flatnonzero(self.train_labels == label) for label in classes]
        return np.concatenate([rng.choice(e, number // len(classes), replace=False) for e in each])


def load_images(dataset: str, data: Optional[Path], digits: Optional[Path] = None) -> Images:
    """Read a data set: CIFAR-10 in one of the three forms above; scikit-learn's digits, or their file."""
    if dataset == 'digits':
        if digits is None:
            from sklearn.datasets import load_digits

            pixels, labels = load_digits(return_X_y=True)
        else:
            table = np.loadtxt(digits, delimiter=',')
            pixels, labels = table[:, :-1], table[:, -1].astype(np.int64)
        grey = torch.from_numpy(pixels).view(-1, 1, 8, 8) * (255 / 16)
        grey = F.interpolate(grey, size=16, mode='bilinear', align_corners=False)
        images = grey.round().byte().permute(0, 2, 3, 1).numpy()
        return Images(images[:1000], labels[:1000], images[1000:], labels[1000:])
    if data is None or not data.exists():
        raise SystemExit(f'--data: a folder or tar file of CIFAR-10 is needed, got {data}')
    parts = {'train': [], 'test': []}  # of (class, image or its file)
    if data.is_dir() and (data / 'cifar-10-batches-py').is_dir():
        data = data / 'cifar-10-batches-py'
    if data.is_dir() and (data / 'data_batch_1').is_file():
        for file in sorted([*data.glob('data_batch_*'), data / 'test_batch']):
            batch = pickle.loads(file.read_bytes(), encoding='bytes')
            images = batch[b'data'].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            parts['test' if file.name == 'test_batch' else 'train'] += zip(batch[b'labels'], images)
        return as_images(parts)
    if data.is_file():
        with tarfile.open(data) as tar:
            files = [(m.name, tar.extractfile(m).read()) for m in tar if m.isfile()]
    else:
        files = [(str(p), p.read_bytes()) for p in sorted(data.rglob('*')) if p.is_file()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        names = [Path(name).parts[-3:-1] for name, _ in files]
        for (part, label), image in zip(names, pool.map(decode, [file for _, file in files])):
            parts[part].append((label, image))
    return as_images(parts)


def decode(file: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(file)).convert('RGB'))


def as_images(parts: dict[str, list[tuple[Any, np.ndarray]]]) -> Images:
    arrays = []
    for part in ('train', 'test'):
        if not parts[part]:
            raise SystemExit(f'--data: there are no images of the {part} part')
        arrays.append(np.stack([image for _, image in parts[part]]))
        arrays.append(np.unique([label for label, _ in parts[part]], return_inverse=True)[1])
    return Images(*arrays)


def save_images(images: Images, folder: Path) -> None:
    """As files that all processes share; :func:`saved_images` reads them."""
    for name, array in vars(images).items():
        np.save(folder / f'{name}.npy', array)


def saved_images(folder: Path) -> Images:
    names = ('train', 'train_labels', 'test', 'test_labels')
    return Images(*(np.load(folder / f'{name}.npy', mmap_mode='c') for name in names))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The runs that a file holds; a line that was cut off does not count."""
    lines = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def run_queue(
    jobs: Sequence[Job],
    prepare: Callable[..., Callable[[Job], dict[str, Any]]],
    prepare_args: tuple[Any, ...],
    out: Path,
    *,
    processes: int,
    seconds: float,
) -> None:
    """Run jobs in order until all are done or the time is over.

    Args:
        jobs: what to run; put all of a seed before the next one, so that stopping early leaves whole seeds.
        prepare: a function of a module, called once in each process; returns what runs a job.
        prepare_args: for ``prepare``.
        out: the file of lines; each has the job's values, what the run returned, and ``seconds``.
        processes: how many.
        seconds: after these, runs that have not ended are stopped and leave nothing.
    """
    start = time.monotonic()
    done = read_lines(out)
    left = [job for job in jobs if not any(job.items() <= line.items() for line in done)]
    print(f'{len(left)} runs, {len(jobs) - len(left)} are there already', flush=True)
    context = mp.get_context('spawn')
    todo, results = context.Queue(), context.Queue()
    for job in [*left, *[None] * processes]:
        todo.put(job)
    workers = [
        context.Process(target=_work, args=(prepare, prepare_args, todo, results), daemon=True)
        for _ in range(min(processes, len(left)))
    ]
    for worker in workers:
        worker.start()
    out.parent.mkdir(parents=True, exist_ok=True)
    finished = failed = 0
    try:
        with out.open('a') as lines:
            while finished + failed < len(left) and time.monotonic() < start + seconds:
                try:
                    result = results.get(timeout=1)
                except queue.Empty:
                    if not any(worker.is_alive() for worker in workers):
                        break
                    continue
                if isinstance(result, str):  # one run must not end the others
                    failed += 1
                    print(result, flush=True)
                    continue
                finished += 1
                lines.write(json.dumps(result) + '\n')
                lines.flush()
                if finished % 50 == 0:
                    print(f'{finished} runs, {time.monotonic() - start:.0f} s', flush=True)
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join()
    print(f'{finished} of {len(left)} runs, {failed} failed, {time.monotonic() - start:.0f} s')


def _work(prepare: Any, prepare_args: Any, todo: Any, results: Any) -> None:
    run = prepare(*prepare_args)
    for job in iter(todo.get, None):
        start = time.monotonic()
        try:
            result = run(job)
            results.put({**job, **result, 'seconds': round(time.monotonic() - start, 2)})
        except Exception as error:
            results.put(f'{job}: {type(error).__name__}: {error}'[:300])


def record(out: Path) -> str:
    """What is committed of a search that has ended: its command, on what it ran, and its lines, a line each."""
    place = sys.argv.index('--record')
    about = dict(
        command=shlex.join(['python', *sys.argv[:place], *sys.argv[place + 2 :]]),
        device=torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f'CPU, {platform.machine()}',
        torch=torch.__version__,
    )
    head = ''.join(f' {json.dumps(key)}: {json.dumps(value)},\n' for key, value in about.items())
    lines = ',\n'.join(f'  {json.dumps(line)}' for line in read_lines(out))
    return f'{{\n{head} "lines": [\n{lines}\n ]\n}}\n'


def curve(losses: list[torch.Tensor], points: int = 10) -> list[float]:
    """Means of so many stretches of a training."""
    if not losses:
        return []
    values = torch.stack(losses).float().cpu().numpy()
    return [round(float(p.mean()), 4) for p in np.array_split(values, min(points, len(values)))]


def now(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter()


def filled(page: str, word: str, make: Callable[..., list[str]]) -> str:
    """A page with its tables made anew: ``<!-- WORD ARGUMENTS -->`` and ``<!-- end -->`` stand around one.

    Args:
        make: the lines of a table, of the arguments.
    """

    def made(found: 're.Match[str]') -> str:
        lines = make(*found[1].split())
        return '\n'.join([f'<!-- {word} {found[1]} -->', *lines, '<!-- end -->'])

    return re.sub(rf'<!-- {word} (.+?) -->\n.*?<!-- end -->', made, page, flags=re.DOTALL)
