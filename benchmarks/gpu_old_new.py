"""An iteration of another version of this package beside this one's: two processes that take turns."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import measuring

ROOT = Path(__file__).resolve().parents[1]
HEAD = dict(type='mmpretrain.LinearClsHead', num_classes=100)
SIZES = [224, 192, 160, 128]
# Backbone, channels of its features, size of the images, sizes of sub-networks' images, batches.
CASES: dict[str, tuple[dict[str, Any], int, int, list[int], tuple[int, ...]]] = {
    'ResNet-50': (dict(type='mmpretrain.ResNet', depth=50), 2048, 224, SIZES, (8, 64)),
    'WRN-28-10': (
        dict(type='mmgradaug.WideResNet', depth=28, widen_factor=10),
        *(640, 32, [32, 28, 24], (16,)),
    ),
    'EfficientNet-B0': (dict(type='mmpretrain.EfficientNet', arch='b0'), 1280, 224, SIZES, (64,)),
    'ConvNeXt-T': (dict(type='mmpretrain.ConvNeXt', arch='tiny'), 768, 224, SIZES, (64,)),
}
TINY: dict[str, tuple[dict[str, Any], int, int, list[int], tuple[int, ...]]] = {
    'ResNet-18': (
        dict(type='mmpretrain.ResNet', depth=18, base_channels=8, stem_channels=8),
        *(64, 32, [32, 24], (2,)),
    ),
}


def model_config(case: str, cases: dict[str, Any]) -> dict[str, Any]:
    backbone, features, _, sizes, _ = cases[case]
    # Global average pooling: ConvNeXt's own gives what is pooled already.
    neck = None if 'ConvNeXt' in case else dict(type='mmpretrain.GlobalAveragePooling')
    return dict(
        type='mmgradaug.GradAugClassifier',
        gradaug=dict(
            num_subnets=3, min_width=0.8, transforms=dict(type='RandomResize', sizes=sizes)
        ),
        backbone=backbone,
        neck=neck,
        head={**HEAD, 'in_channels': features},
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', num_classes=100),
    )


def worker(case: str, batch: int, device: str, tiny: bool, threads: int) -> None:
    """In a process of its own: an iteration for each number that comes in, answered by milliseconds."""
    import torch
    from step_time import Steps, build, random_batch

    import mmgradaug

    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    cases = TINY if tiny else CASES
    torch.manual_seed(0)
    _, model = build(model_config(case, cases), device)
    args = argparse.Namespace(config=None, size=cases[case][2], batch=batch)
    step = Steps(model, random_batch(model, args, device), seed=0)
    step(0)
    answer(folder=str(Path(mmgradaug.__file__).parent), parameters=len(list(model.parameters())))
    for line in sys.stdin:
        iteration = int(line)
        taken = measuring.milliseconds(lambda i=iteration: step(i), device)
        answer(ms=taken)


def answer(**values: Any) -> None:
    print('@' + json.dumps(values), flush=True)


class Worker:
    """The process with one version."""

    def __init__(self, tree: Path, *arguments: str) -> None:
        path = os.pathsep.join([str(tree), os.environ.get('PYTHONPATH', '')])
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments],
            env={**os.environ, 'PYTHONPATH': path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.folder: Optional[str] = None

    def wait_until_ready(self) -> str:
        """The folder of the package that it found; '' if it has failed."""
        if self.folder is None:
            try:
                self.folder = self._answer()['folder']
            except RuntimeError:
                self.folder = ''
        return self.folder

    def ask(self, iteration: int) -> float:
        """Milliseconds of this iteration."""
        self.process.stdin.write(f'{iteration}\n')
        self.process.stdin.flush()
        return self._answer()['ms']

    def _answer(self) -> dict[str, Any]:
        for line in self.process.stdout:
            if line.startswith('@'):
                return json.loads(line[1:])
        raise RuntimeError(f'the process ended with exit code {self.process.wait()}; see the log')

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def start(report: Any, case: str, batch: int, device: str, tiny: bool) -> list[Worker]:
    """The old version's process and this one's."""
    arguments = (case, str(batch), device, str(int(tiny)), '8' if device == 'cuda' else '1')
    return [Worker(tree, *arguments) for tree in (report.options.old.resolve(), ROOT)]


def compare(report: Any, workers: list[Worker], device: str, tiny: bool) -> dict[str, Any]:
    """Milliseconds of the same iterations; a GPU's first of each pair chooses kernels and does not count."""
    old, new = workers
    times: dict[str, list[float]] = dict(old=[], new=[], old_first=[], new_first=[])
    try:
        folders = [each.wait_until_ready() for each in (old, new)]
        if '' in folders:
            which = ' and '.join(n for n, f in zip(('old', 'new'), folders) if not f)
            raise RuntimeError(f'the {which} version does not run this; see the log')
        if folders[0] == folders[1]:
            raise RuntimeError(f'both versions are {folders[0]}: --old names a folder without one')
        number = 3 if tiny else 10
        for iteration in range(1, number + 1):
            order = [('old', old), ('new', new)]
            for name, each in order if iteration % 2 else order[::-1]:
                if device == 'cuda':
                    times[f'{name}_first'].append(each.ask(iteration))
                times[name].append(each.ask(iteration))
            if report.left < 1:
                break
    finally:
        old.close()
        new.close()
    ratios = measuring.summary([b / a for a, b in zip(times['old'], times['new'])])
    found = dict(
        old_ms=statistics.median(times['old']),
        new_ms=statistics.median(times['new']),
        new_by_old=ratios['median'],
        low=ratios['low'],
        high=ratios['high'],
        number=ratios['number'],
        raw=times,
    )
    if times['old_first']:
        first = [b / a for a, b in zip(times['old_first'], times['new_first'])]
        found['new_by_old_first'] = statistics.median(first)
    return found


def main(report: Any, device: str, tiny: bool) -> None:
    runs = [
        (case, batch)
        for case, (*_, batches) in (TINY if tiny else CASES).items()
        for batch in ([report.options.batch] if report.options.batch else batches)
    ]
    # Beside a GPU there are cores to get all ready at once; while one pair is measured the others wait.
    started = {run: start(report, *run, device, tiny) for run in runs if device == 'cuda'}
    for pair in started.values():
        for each in pair:
            each.wait_until_ready()
    for case, batch in runs:
        workers = started.get((case, batch)) or start(report, case, batch, device, tiny)
        report.check(f'{case}, batch {batch}', compare, report, workers, device, tiny)


if __name__ == '__main__':
    worker(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] == '1', int(sys.argv[5]))
