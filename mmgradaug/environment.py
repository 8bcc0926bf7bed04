"""The packages that mmgradaug stands on: which versions, and whether they work here. For the doctor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

OLDEST_PYTHON = (3, 9)
# Stands in for mmcv's compiled operators, from a folder of the checkout.
FALLBACK = 'mmcv-ext-fallback'
DETECTION, MIM, QUICKSTART, EVALUATION = (
    'detection',
    'mim commands',
    'the quick start',
    'evaluation',
)


@dataclass(frozen=True)
class Package:
    """One import package.

    Args:
        known: the version that the tests run on, of ``distributions[0]``.
        distributions: that install it; at most one of them may be there.
        accepted: versions, of the official distributions.
        purpose: what needs it; empty if everything does.
        needs: modules without which its own import fails.
        probe: code that sees whether it works; its import by default, '' for none.
    """

    module: str
    known: str
    distributions: tuple[str, ...]
    accepted: str = ''
    purpose: str = ''
    needs: tuple[str, ...] = ()
    probe: str | None = None


NMS = 'ops.nms(torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3]]), torch.tensor([0.7, 0.8]), 0.5)'
# In the order of their dependencies.
# fmt: off
PACKAGES = (
    Package('numpy', '2.4.6', ('numpy',)),
    Package('filelock', '4.2.12', ('filelock',)),
    Package('rich', '15.0.0', ('rich',)),
    Package('jinja2', '3.1.6', ('jinja2',)),
    Package('tabulate', '0.10.0', ('tabulate',)),
    Package('torch', '2.14.1', ('torch',), '>=2.3', probe='import torch; torch.zeros(1).numpy()'),
    Package('torchvision', '0.29.1', ('torchvision',), needs=('torch',),
            probe=f'import torch; from torchvision import ops; {NMS}'),
    Package('mmengine', '0.10.7', ('mmengine', 'onedl-mmengine'), '>=0.10.4,<1', '', ('numpy', 'torch')),
    Package('mmcv', '2.1.0', ('mmcv-lite', 'mmcv', 'onedl-mmcv'), '>=2.0.0', '', ('mmengine',)),
    Package('mmpretrain', '1.2.0', ('mmpretrain', 'onedl-mmpretrain'), '>=1.2,<2', '', ('mmcv', 'torchvision')),
    Package('pycocotools', '2.0.11', ('pycocotools',), '', DETECTION, ('numpy',)),
    Package('mmcv.ops', '', (), '', DETECTION, ('mmcv', 'torch', 'torchvision'),
            f'import torch; from mmcv import ops; {NMS}'),
    Package('mmdet', '3.3.0', ('mmdet', 'onedl-mmdetection'), '>=3.3,<4', DETECTION,
            ('mmcv', 'mmcv.ops', 'pycocotools', 'torchvision'), 'import mmdet.models'),
    Package('setuptools', '80.10.2', ('setuptools',), '<81', MIM, probe='import pkg_resources'),
    Package('mim', '0.3.9', ('openmim', 'onedl-mim'), '', MIM, ('setuptools',)),
    Package('sklearn', '1.9.1', ('scikit-learn',), '', QUICKSTART, ('numpy',), ''),
    Package('matplotlib', '3.11.2', ('matplotlib',), '', QUICKSTART, ('numpy',)),
    Package('imagecorruptions', '1.1.2', ('imagecorruptions',), '', EVALUATION, probe=''),
    Package('pytorch_grad_cam', '1.5.7', ('grad-cam',), '', EVALUATION, probe=''),
    Package('onnx', '1.23.2', ('onnx',), '', EVALUATION, probe=''),
    Package('onnxscript', '0.7.2', ('onnxscript',), '', EVALUATION, probe=''),
    Package('onnxruntime', '1.32.0', ('onnxruntime',), '', EVALUATION, probe=''),
    Package('submitit', '1.5.4', ('submitit',), '', 'Slurm', probe=''),
)
# fmt: on
BY_MODULE = {package.module: package for package in PACKAGES}
# (a distribution, its versions, another one, what it needs then): fine alone and not together.
PAIRS = (
    *(('torch', f'==2.{n}.*', 'torchvision', f'==0.{n + 15}.*') for n in range(40)),
    ('torch', '<2.3', 'numpy', '<2'),
    ('mmdet', '<4', 'mmcv-lite', '<2.2.0'),
    ('mmdet', '<4', 'mmcv', '<2.2.0'),
    ('mmpretrain', '<2', 'mmcv-lite', '<2.4.0'),
    ('mmpretrain', '<2', 'mmcv', '<2.4.0'),
)

CHILD = r"""
import json, os, sys
# What is imported may print; only records go to the real stdout.
records = os.fdopen(os.dup(1), 'w')
os.dup2(2, 1)
# Not the current directory: a folder there may have the name of a package.
sys.path[:] = [entry for entry in sys.path if entry] + [sys.argv[1]]
def say(*record):
    print(json.dumps(record), file=records, flush=True)
for module, code in json.loads(sys.argv[2]):
    say(module, None)
    try:
        exec(code, {})
    except BaseException as error:
        lines = str(error).strip().splitlines() or ['no message']
        say(module, f'{type(error).__name__}: {lines[0].rstrip(".")}')
    else:
        say(module, '')
os._exit(0)  # without the finalizers, some of which crash in a broken environment
"""


def probe(codes: Sequence[tuple[str, str]], timeout: float = 300.0) -> dict[str, str]:
    """Run (module, code) in child processes; by module what went wrong, or nothing.

    A module that takes its process down, or gives no answer within ``timeout`` seconds, is blamed for it,
    and the rest are tried in another process.
    """
    answers: dict[str, str] = {}
    left = list(codes)
    while left:
        command = [sys.executable, '-c', CHILD, ROOT, json.dumps(left)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout
            )
            output, ended = (
                done.stdout,
                f'its import ended the interpreter (exit code {done.returncode})',
            )
            if done.returncode < 0:
                ended = f'its import killed the interpreter (signal {-done.returncode})'
        except subprocess.TimeoutExpired as expired:
            output, ended = (
                expired.stdout or b'',
                f'its import did not end within {timeout:.0f} seconds',
            )
        current = left[0][0]
        for line in output.decode(errors='replace').splitlines():
            current, answer = json.loads(line)
            if answer is not None:
                answers[current] = answer
        left = [(module, code) for module, code in left if module not in answers]
        if left:
            answers[left[0][0]] = ended
            left = left[1:]
    return answers
