#!/usr/bin/env python
"""Everything that a GPU should show: right results, speed, memory; one command, a table last.

Each part runs in a process of its own with a time limit, so that one that fails or hangs leaves the others
alone. Parts: correctness (plain PyTorch), openmmlab (skipped where it is not installed), compile
(torch.compile), speed, entering (into sub-networks), old_new (against another version of this package).

Without a GPU the same runs on the CPU, where only --tiny and old_new end within minutes.

Example: python benchmarks/gpu_checks.py --out gpu_checks.json
         git worktree add /tmp/old COMMIT
         python benchmarks/gpu_checks.py --only old_new --old /tmp/old --batch 8 --out old_new.json
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional

ROOT = Path(__file__).resolve().parents[1]
# Seconds a part may take. The first three run side by side, the rest one after the other: they measure time.
TOGETHER = dict(correctness=75, openmmlab=80, compile=85)
ALONE = dict(entering=15, speed=75, old_new=45)
LIMITS = {**TOGETHER, **ALONE}
MODULES = dict(
    correctness='gpu_correctness',
    openmmlab='gpu_openmmlab',
    compile='gpu_compile',
    entering='gpu_speed:entering',
    speed='gpu_speed',
    old_new='gpu_old_new',
)


class Report:
    """Rows of results, each written to the file as soon as it is there.

    Args:
        file: one JSON object a line.
        limit: seconds from now after which no further check is begun.
        options: of the command line.
    """

    def __init__(self, file: Path, limit: float, options: argparse.Namespace) -> None:
        self.file = file
        self.end = time.monotonic() + limit
        self.options = options

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def check(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Run a check; what it returns (a dict, with ``ok`` where it can fail) or its error is a row."""
        if self.left <= 0:
            self.add(check=name, ok=None, why='out of time')
            return
        start = time.monotonic()
        try:
            found = function(*args, **kwargs)
        except Exception as error:
            traceback.print_exc()
            found = dict(ok=False, why=f'{type(error).__name__}: {error}'[:300])
        self.add(check=name, seconds=round(time.monotonic() - start, 2), **(found or {}))

    def add(self, **row: Any) -> None:
        with self.file.open('a') as file:
            file.write(json.dumps(row) + '\n')


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, help='write all numbers to this JSON file')
    parser.add_argument('--log', type=Path, help='write what the parts print to this file')
    parser.add_argument('--tiny', action='store_true', help='toy sizes, to try the script itself')
    parser.add_argument('--only', nargs='+', choices=LIMITS, metavar='PART')
    parser.add_argument(
        '--old', type=Path, help='a folder with another version of mmgradaug, for old_new'
    )
    parser.add_argument('--batch', type=int, help='images, of old_new alone (default: 64 and 8)')
    parser.add_argument('--device', choices=['cpu', 'cuda'], help='default: a GPU if there is one')
    parser.add_argument(
        '--seconds', type=float, help='for each part, instead of limits that fit one H100'
    )
    parser.add_argument('--part', help=argparse.SUPPRESS)
    parser.add_argument('--rows', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.only is None:
        args.only = [part for part in LIMITS if part != 'old_new' or args.old is not None]
    elif 'old_new' in args.only and args.old is None:
        parser.error('old_new compares with the folder that --old names: --old PATH')
    return args


def run_part(args: argparse.Namespace) -> None:
    """In a process of its own."""
    import torch

    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    # It stops by itself a little before it would be stopped.
    limit = 0.93 * (args.seconds or LIMITS[args.part])
    module, _, function = MODULES[args.part].partition(':')
    report = Report(args.rows, limit, args)
    getattr(importlib.import_module(module), function or 'main')(report, device, args.tiny)


def start(args: argparse.Namespace, part: str, folder: Path, log: Any) -> subprocess.Popen:
    command = [sys.executable, __file__, '--part', part, '--rows', str(folder / part)]
    command += ['--tiny'] * args.tiny
    for name in ('old', 'batch', 'device', 'seconds'):
        if getattr(args, name) is not None:
            command += [f'--{name}', str(getattr(args, name))]
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]).rstrip(os.pathsep)
    environment = {**os.environ, 'PYTHONPATH': path, 'CUBLAS_WORKSPACE_CONFIG': ':4096:8'}
    environment.setdefault('PYTHONUNBUFFERED', '1')
    return subprocess.Popen(
        command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )


def wait(process: subprocess.Popen, part: str, end: float, folder: Path) -> None:
    """Until it ends, or is stopped with all that it has started."""
    row: dict[str, Any] = {}
    try:
        code = process.wait(max(end - time.monotonic(), 0.1))
        if code:
            row = dict(check=f'part {part}', ok=False, why=f'exit code {code}')
    except subprocess.TimeoutExpired:
        row = dict(check=f'part {part}', ok=None, why='stopped at its time limit')
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass
    process.wait()
    if row:
        with (folder / part).open('a') as file:
            file.write(json.dumps(row) + '\n')


def run_parts(args: argparse.Namespace, folder: Path, log: Any) -> dict[str, float]:
    """All parts; gives the seconds of each."""
    seconds: dict[str, float] = {}
    begin = time.monotonic()
    together = {p: start(args, p, folder, log) for p in TOGETHER if p in args.only}
    for part, process in together.items():
        # torch.compile waits for the others with its measurements: see gpu_compile.
        if part == 'compile':
            (folder / 'quiet').touch()
        wait(process, part, begin + (args.seconds or LIMITS[part]), folder)
        seconds[part] = time.monotonic() - begin
    for part in ALONE:
        if part in args.only:
            begin = time.monotonic()
            process = start(args, part, folder, log)
            wait(process, part, begin + (args.seconds or LIMITS[part]), folder)
            seconds[part] = time.monotonic() - begin
    return seconds


def read_rows(folder: Path, parts: Sequence[str]) -> list[dict[str, Any]]:
    return [
        dict(part=part, **json.loads(line))
        for part in parts
        if (folder / part).exists()
        for line in (folder / part).read_text().splitlines()
    ]


def shown(value: Any) -> str:
    if isinstance(value, float):
        return f'{value:.3g}' if abs(value) < 100 else f'{value:.0f}'
    return str(value)


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    words = {True: 'ok', False: 'FAILED', None: '-'}
    for row in rows:
        rest = {k: v for k, v in row.items() if k not in ('part', 'check', 'ok', 'seconds', 'raw')}
        mark = words[row['ok']] if 'ok' in row else ''
        values = ' '.join(f'{key}={shown(value)}' for key, value in rest.items())
        print(f'{row["part"][:8]:8} {mark:6} {row["check"]}: {values}')


def environment() -> dict[str, Any]:
    """In a process of its own, so that this one leaves the GPU alone."""
    code = (
        'import json, platform, torch, torchvision; g = torch.cuda.is_available(); print(json.dumps(dict('
        'python=platform.python_version(), torch=torch.__version__, torchvision=torchvision.__version__, '
        'device=torch.cuda.get_device_name() if g else "cpu", '
        'cudnn=torch.backends.cudnn.version() if g else None)))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else dict(error=done.stderr[-300:])


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    if args.part:
        run_part(args)
        return
    begin = time.monotonic()
    versions = environment()
    with tempfile.TemporaryDirectory() as folder:
        log_file = args.log or Path(folder) / 'log'
        with log_file.open('w') as log:
            seconds = run_parts(args, Path(folder), log)
        rows = read_rows(Path(folder), list(LIMITS))
        failed = [row for row in rows if row.get('ok') is False]
        if failed and not args.log:
            print(log_file.read_text()[-6000:], file=sys.stderr)
    setting = {k: str(v) for k, v in vars(args).items() if v is not None}
    results = dict(setting=setting, versions=versions, part_seconds=seconds, rows=rows)
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + '\n')
    print_table(rows)
    parts = ', '.join(f'{part} {value:.0f}' for part, value in seconds.items())
    print(' '.join(f'{key}={value}' for key, value in versions.items()))
    print(
        f'{len(failed)} of {len(rows)} failed; seconds: {parts}, all {time.monotonic() - begin:.0f}'
    )
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
