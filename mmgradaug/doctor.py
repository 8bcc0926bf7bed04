"""``mmgradaug doctor``: what is wrong with an environment, and what to type to mend it.

    python mmgradaug/doctor.py         works where the package itself cannot be imported
    mmgradaug doctor                   the same, where it can
    ... --json FILE                    writes the findings as JSON too (``-``: to stdout, instead)
    ... --env                          also torch's own description of the machine, for a bug report

The exit code is 0 if everything that mmgradaug needs is fine, else 1. Packages are imported in a child process,
because a torch and a torchvision that do not fit each other can take the interpreter down.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

try:
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version
except ImportError:  # pip, without which nothing can be mended, brings a copy
    from pip._vendor.packaging.specifiers import SpecifierSet  # type: ignore[assignment]
    from pip._vendor.packaging.version import Version  # type: ignore[assignment]

if __package__:
    from .environment import (
        BY_MODULE,
        FALLBACK,
        OLDEST_PYTHON,
        PACKAGES,
        PAIRS,
        QUICKSTART,
        Package,
        probe,
    )
else:  # called by its path
    from environment import (  # type: ignore[no-redef]
        BY_MODULE,
        FALLBACK,
        OLDEST_PYTHON,
        PACKAGES,
        PAIRS,
        QUICKSTART,
        Package,
        probe,
    )

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ERROR, WARNING, INFO = 'error', 'warning', 'info'


@dataclass(frozen=True)
class Problem:
    """Something found, in words, and what to type to mend it (may be empty)."""

    name: str
    level: str
    what: str
    fix: str = ''
    affects: tuple[str, ...] = ()  # modules whose failing import this explains


@dataclass(frozen=True)
class Facts:
    """What is known of an environment beside its versions. The defaults are a sound one.

    Args:
        imports: by module what its probe said; empty if it went well.
        gpus: that torch sees.
        nvidia_driver: whether there is one.
        interpreter: as one types it.
    """

    python: tuple[int, ...] = (3, 11)
    imports: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[str, ...] = ()
    nvidia_driver: bool = False
    interpreter: str = 'python'


def diagnose(found: Mapping[str, str | None], facts: Facts | None = None) -> list[Problem]:
    """List what is wrong with an environment, root causes only, the gravest first.

    Args:
        found: versions by distribution; one that is None or absent is not installed.
        facts: nothing is looked up here, so that any environment can be described.
    """
    facts = facts or Facts()
    problems = []
    if facts.python < OLDEST_PYTHON:
        needed = '.'.join(map(str, OLDEST_PYTHON))
        what = (
            f'This is Python {".".join(map(str, facts.python))}; mmgradaug needs {needed} or newer.'
        )
        fix = 'python3.11 -m venv .venv'
        problems.append(Problem('python-too-old', ERROR, what, fix, tuple(BY_MODULE)))
    problems += [p for package in PACKAGES for p in _versions(package, found, facts)]
    for name, versions, other, needed in PAIRS:
        version, partner = found.get(name), found.get(other)
        if version and partner and _in(version, versions) and not _in(partner, needed):
            module = next(p.module for p in PACKAGES if other in p.distributions)
            level = WARNING if facts.imports.get(module) == '' and name == 'torch' else ERROR
            if name == 'mmdet':
                level = WARNING
            what = f'{name} {version} goes with {other} {needed}, and this is {other} {partner}.'
            fix = _pip(facts, 'install', f'{other}{needed}')
            affected = module if name == 'torch' else name
            problems.append(Problem(f'{name}-{module}-pair', level, what, fix, (affected,)))
    problems += _broken(found, facts, problems)
    problems += _notes(found, facts)
    return sorted(problems, key=lambda problem: (ERROR, WARNING, INFO).index(problem.level))


def _versions(package: Package, found: Mapping[str, str | None], facts: Facts) -> list[Problem]:
    """Missing, twice, or of a version that is not accepted."""
    if not package.distributions:
        return []
    present = _present(package, found)
    level = _level(package)
    name = package.distributions[0]
    only = f' It is for {package.purpose} only.' if package.purpose else ''
    affects = (package.module,)
    if not present:
        if package.module == 'setuptools' and not found.get('openmim'):
            return []
        level = level if package.purpose in ('', QUICKSTART) else INFO
        fix = _pip(facts, 'install', _wanted(package, found, facts))
        return [
            Problem(
                f'{package.module}-missing', level, f'{name} is not installed.{only}', fix, affects
            )
        ]
    if len(present) > 1:
        names = [distribution for distribution, _ in present]
        what = (
            f'{" and ".join(names)} are installed together. They are one import package, {package.module}, so '
            'the files of one lie over those of the other. Uninstall them all, then install one.'
        )
        install = _pip(facts, 'install', '--no-deps', f'{name}=={package.known}')
        fix = f'{_pip(facts, "uninstall", "-y", *names)} && {install}'
        return [Problem(f'{package.module}-twice', level, what, fix, affects)]
    distribution, version = present[0]
    # The community fork counts its versions by itself.
    if (
        package.accepted
        and not distribution.startswith('onedl-')
        and not _in(version, package.accepted)
    ):
        what = f'{distribution} is {version}; mmgradaug needs {package.accepted}.{only}'
        fix = _pip(facts, 'install', f'{distribution}{package.accepted}')
        return [Problem(f'{package.module}-version', level, what, fix, affects)]
    return []


def _broken(
    found: Mapping[str, str | None], facts: Facts, so_far: Sequence[Problem]
) -> list[Problem]:
    """What does not work, unless a problem known by now explains it."""
    problems = []
    faulty = {module for problem in so_far for module in problem.affects}
    for package in PACKAGES:
        error = facts.imports.get(package.module, '')
        if not error or (package.distributions and not _present(package, found)):
            continue
        explained = faulty.intersection((package.module, *package.needs))
        faulty.add(package.module)
        if explained:
            continue
        if package.module == 'mmcv.ops':
            what = f"mmcv's operators do not work: {error}. Classification does not need them; detection does."
            folder = os.path.join(ROOT, 'mmcv_ext_fallback')
            fix = (
                _pip(facts, 'install', '--no-deps', _short(folder)) if os.path.isdir(folder) else ''
            )
            level = WARNING if found.get('mmdet') else INFO
            problems.append(Problem('mmcv-without-ops', level, what, fix, ('mmcv.ops',)))
            continue
        distribution, version = _present(package, found)[0]
        what = f'{distribution} {version} is installed, but cannot be used: {error}.'
        # Without the local part: '+cu130' is not on PyPI.
        again = f'{distribution}=={version.split("+")[0]}'
        fix = _pip(facts, 'install', '--force-reinstall', '--no-deps', again)
        problems.append(
            Problem(f'{package.module}-broken', _level(package), what, fix, (package.module,))
        )
    needed = [package.module for package in PACKAGES if not package.purpose]
    error = facts.imports.get('mmgradaug', '')
    if error and not faulty.intersection(needed):
        problems.append(
            Problem('mmgradaug-broken', ERROR, f'mmgradaug cannot be imported: {error}.')
        )
    return problems


def _notes(found: Mapping[str, str | None], facts: Facts) -> list[Problem]:
    problems = []
    if not found.get('mmgradaug'):
        checkout = os.path.exists(os.path.join(ROOT, 'pyproject.toml'))
        fix = _pip(facts, 'install', '--no-deps', '-e', _short(ROOT)) if checkout else ''
        what = 'mmgradaug is not installed here: configs find it only where it is on PYTHONPATH.'
        problems.append(Problem('mmgradaug-not-installed', WARNING, what, fix))
    if facts.gpus or facts.imports.get('torch'):
        return problems
    if facts.nvidia_driver:
        what = (
            'This machine has an NVIDIA driver, but torch sees no GPU: its build may be for the CPU or for a '
            'newer driver, or CUDA_VISIBLE_DEVICES hides it.'
        )
        return [*problems, Problem('gpu-not-seen', WARNING, what, 'nvidia-smi')]
    what = 'torch sees no GPU. That is enough for the quick start and the tests.'
    return [*problems, Problem('no-gpu', INFO, what)]


def verdict(package: Package, found: Mapping[str, str | None], error: str = '') -> str:
    """Judge one package: 'ok', 'different, not tested', 'missing' or 'broken'."""
    present = _present(package, found)
    if not present:
        return 'missing'
    if error or len(present) > 1:
        return 'broken'
    distribution, version = present[0]
    tested = not distribution.startswith('onedl-') and version.split('+')[0] == package.known
    return 'ok' if tested else 'different, not tested'


def _level(package: Package) -> str:
    return WARNING if package.purpose else ERROR


def _present(package: Package, found: Mapping[str, str | None]) -> list[tuple[str, str]]:
    pairs = ((name, found.get(name)) for name in package.distributions)
    return [(name, version) for name, version in pairs if version]


def _in(version: str, accepted: str) -> bool:
    """Whether a version is in a range; a development version counts as what it leads to."""
    try:
        return SpecifierSet(accepted).contains(Version(version).base_version, prereleases=True)
    except ValueError:  # no version at all: taken to be new
        return True


def _wanted(package: Package, found: Mapping[str, str | None], facts: Facts) -> str:
    """What to ask pip for where a package is missing, so that it fits what is there."""
    for name, versions, other, needed in PAIRS:
        version = found.get(name)
        if other in package.distributions and version and _in(version, versions):
            return f'{other}{needed}'
    name = package.distributions[0]
    if any(version and known.startswith('onedl-') for known, version in found.items()):
        # An official distribution would bring others along, over the fork's files.
        name = next((d for d in package.distributions if d.startswith('onedl-')), name)
        return name
    # The newest releases leave out old Pythons.
    return f'{name}=={package.known}' if facts.python >= (3, 11) else f'{name}{package.accepted}'


def _pip(facts: Facts, *arguments: str) -> str:
    # Not plain `pip`: it may belong to another environment.
    return ' '.join(map(shlex.quote, (facts.interpreter, '-m', 'pip', *arguments)))


def look_around() -> tuple[dict[str, str | None], Facts]:
    """Versions and facts of the environment that runs this."""
    found: dict[str, str | None] = {}
    for name in [*(name for p in PACKAGES for name in p.distributions), FALLBACK, 'mmgradaug']:
        try:
            found[name] = metadata.version(name)
        except Exception:  # not installed, or metadata cut off in the middle of an install
            found[name] = None
    codes = []
    for package in [*PACKAGES, Package('mmgradaug', '', ())]:
        code = f'import {package.module}' if package.probe is None else package.probe
        # What is not installed is missing, not broken.
        if code and (not package.distributions or _present(package, found)):
            codes.append((package.module, code))
    imports = probe(codes)
    listing = (
        'import torch, json; c = torch.cuda; '
        'print(json.dumps([c.get_device_name(i) for i in range(c.device_count())] if c.is_available() else []))'
    )
    gpus: list[str] = []
    if imports.get('torch') == '':
        done = subprocess.run([sys.executable, '-c', listing], capture_output=True, text=True)
        gpus = json.loads(done.stdout) if done.returncode == 0 else []
    driver = os.path.exists('/dev/nvidia0') or bool(shutil.which('nvidia-smi'))
    plain = shutil.which('python')
    here = plain and os.path.abspath(plain) == os.path.abspath(sys.executable)
    interpreter = 'python' if here else _short(sys.executable)
    return found, Facts(sys.version_info[:3], imports, tuple(gpus), driver, interpreter)


def _short(path: str) -> str:
    """A path as seen from the current directory, if it lies below."""
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else os.path.join(os.curdir, relative)


def report(
    found: Mapping[str, str | None], facts: Facts, problems: Sequence[Problem]
) -> dict[str, Any]:
    """Everything found as plain data, ready for JSON."""
    packages = [
        {
            'package': package.module,
            'found': [f'{name} {version}' for name, version in _present(package, found)],
            'known': f'{package.distributions[0]} {package.known}',
            'purpose': package.purpose,
            'verdict': verdict(package, found, facts.imports.get(package.module, '')),
        }
        for package in PACKAGES
        if package.distributions
    ]
    return {
        'ok': not any(problem.level == ERROR for problem in problems),
        'python': '.'.join(map(str, facts.python)),
        'interpreter': sys.executable,
        'platform': platform.platform(),
        'mmgradaug': found.get('mmgradaug'),
        'gpus': list(facts.gpus),
        'packages': packages,
        'problems': [asdict(problem) for problem in problems],
    }


def render(data: Mapping[str, Any]) -> str:
    """Lay a report out for reading: a table, then each problem in words."""
    table = [('package', 'found', 'known to work', 'verdict')]
    for row in data['packages']:
        judged = row['verdict'] + (f' (for {row["purpose"]})' if row['purpose'] else '')
        table.append((row['package'], ', '.join(row['found']) or '-', row['known'], judged))
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = [
        f'mmgradaug {data["mmgradaug"] or "(not installed)"}, Python {data["python"]} ({data["interpreter"]})',
        f'{data["platform"]}, GPU: {", ".join(data["gpus"]) or "none"}',
        '',
    ]
    for row in table:
        lines.append('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    for problem in data['problems']:
        lines += ['', f'{problem["level"]}: {problem["what"]}  [{problem["name"]}]']
        if problem['fix']:
            lines.append(f'    {problem["fix"]}')
    errors = sum(problem['level'] == ERROR for problem in data['problems'])
    end = 'Everything that mmgradaug needs is fine.'
    if errors:
        end = f'{errors} error{"s" * (errors > 1)}: mend the first one, then run it again.'
    return '\n'.join([*lines, '', end])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code."""
    parser = argparse.ArgumentParser(
        prog='mmgradaug doctor',
        description='Say what is wrong with this environment, and what to type.',
        epilog='example: mmgradaug doctor --env',
    )
    parser.add_argument('--json', metavar='FILE', help="also write JSON; '-': to stdout, alone")
    parser.add_argument(
        '--env', action='store_true', help="also torch's description of the machine"
    )
    arguments = parser.parse_args(argv)
    print('looking at the installed packages (some seconds) ...', file=sys.stderr, flush=True)
    found, facts = look_around()
    data = report(found, facts, diagnose(found, facts))
    if arguments.json == '-':
        print(json.dumps(data, indent=2))
    else:
        print(render(data))
        if arguments.json:
            with open(arguments.json, 'w', encoding='utf-8') as stream:
                stream.write(json.dumps(data, indent=2) + '\n')
    if arguments.env:
        subprocess.run([sys.executable, '-m', 'torch.utils.collect_env'])
    return 0 if data['ok'] else 1


if __name__ == '__main__':
    sys.exit(main())
