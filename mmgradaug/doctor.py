"""Say what is wrong with an environment, and what to type to mend it.

    python mmgradaug/doctor.py         works where the package itself cannot be imported
    python -m mmgradaug.doctor         the same, where it can
    ... --json FILE                    writes the findings as JSON too (``-``: to stdout, instead)

The exit code is 0 if everything that mmgradaug needs is fine, else 1.

This process imports the standard library alone. Everything else is imported in a child process,
because a torch and a torchvision that do not fit each other can take the interpreter down.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

try:
    from importlib import metadata
except ImportError:  # Python 3.7, which is told below that it is too old
    metadata = None  # type: ignore[assignment]

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST_PYTHON = (3, 9)
# The one that the known versions below are for.
KNOWN_PYTHON = (3, 11)
ERROR, WARNING, INFO = 'error', 'warning', 'info'


@dataclass(frozen=True)
class Package:
    """One import package: who may provide it, and which versions are known or accepted."""

    module: str
    known: str
    """The version that the tests run on (that of ``distributions[0]``)."""
    distributions: tuple[str, ...]
    """Distributions that install this import package; at most one of them may be there."""
    onedl: str = ''
    """The version of the community fork's current stack."""
    purpose: str = ''
    """What needs it; empty if everything does."""
    needs: tuple[str, ...] = ()
    """Modules without which its own import fails."""
    minimum: str = ''
    below: str = ''


# In the order of their dependencies.
EVALUATION = 'looking at trained classifiers'
PACKAGES = (
    Package('numpy', '2.4.6', ('numpy',)),
    Package('filelock', '4.2.12', ('filelock',)),
    Package('torch', '2.14.1', ('torch',), minimum='2.3'),
    Package('torchvision', '0.29.1', ('torchvision',), needs=('torch',)),
    Package(
        'mmengine',
        '0.10.7',
        ('mmengine', 'onedl-mmengine'),
        onedl='0.10.12',
        needs=('numpy', 'torch'),
        minimum='0.10.4',
        below='1',
    ),
    Package(
        'mmcv',
        '2.1.0',
        ('mmcv-lite', 'mmcv', 'onedl-mmcv'),
        onedl='2.3.6',
        needs=('mmengine',),
        minimum='2.0.0',
    ),
    Package(
        'mmpretrain',
        '1.2.0',
        ('mmpretrain', 'onedl-mmpretrain'),
        onedl='1.3.6',
        needs=('mmcv', 'torchvision'),
        minimum='1.2',
        below='2',
    ),
    Package('pycocotools', '2.0.11', ('pycocotools',), purpose='detection', needs=('numpy',)),
    Package(
        'mmdet',
        '3.3.0',
        ('mmdet', 'onedl-mmdetection'),
        onedl='3.5.1',
        purpose='detection',
        needs=('mmcv', 'pycocotools', 'torchvision'),
        minimum='3.3',
        below='4',
    ),
    Package(
        'mim',
        '0.3.9',
        ('openmim', 'onedl-mim'),
        onedl='0.5.1',
        purpose='mim commands',
        needs=('setuptools',),
    ),
    Package('setuptools', '80.10.2', ('setuptools',), purpose='mim commands'),
    Package('sklearn', '1.9.1', ('scikit-learn',), purpose='the quick start', needs=('numpy',)),
    Package('matplotlib', '3.11.2', ('matplotlib',), purpose='the quick start', needs=('numpy',)),
    Package('imagecorruptions', '1.1.2', ('imagecorruptions',), purpose=EVALUATION),
    Package('pytorch_grad_cam', '1.5.7', ('grad-cam',), purpose=EVALUATION),
    Package('onnx', '1.23.2', ('onnx',), purpose=EVALUATION),
    Package('onnxscript', '0.7.2', ('onnxscript',), purpose=EVALUATION),
    Package('onnxruntime', '1.32.0', ('onnxruntime',), purpose=EVALUATION),
)
_BY_MODULE = {package.module: package for package in PACKAGES}
# It stands in for mmcv's compiled operators, from a folder of the checkout.
FALLBACK = 'mmcv-ext-fallback'


@dataclass(frozen=True)
class Problem:
    """Something found, in words, and what to type to mend it (may be empty)."""

    name: str
    level: str
    what: str
    fix: str = ''
    affects: tuple[str, ...] = ()
    """Modules whose failing import this explains."""


@dataclass(frozen=True)
class Facts:
    """What is known of an environment beside its versions. The defaults are a sound one."""

    python: tuple[int, ...] = KNOWN_PYTHON
    imports: Mapping[str, str] = field(default_factory=dict)
    """Module to what its import said: empty if it went well; a module absent was not tried."""
    mmcv_ops: str = 'compiled'
    """'compiled', 'fallback' (ours), 'stand-in' (another Python module) or 'none'.

    Whether they work is in ``imports``, under 'mmcv.ops'.
    """
    gpus: tuple[str, ...] = ()
    nvidia_driver: bool = False
    interpreter: str = 'python'


def diagnose(found: Mapping[str, str | None], facts: Facts | None = None) -> list[Problem]:
    """List what is wrong with an environment, root causes only, the gravest first.

    ``found`` maps the name of a distribution to its version; one that is None or absent is not
    installed. Nothing is looked up, so that any environment can be described.
    """
    facts = facts or Facts()
    problems = [
        *_python(facts),
        *_missing(found, facts),
        *_twice(found, facts),
        *_out_of_range(found, facts),
        *_pairs(found, facts),
        *_setuptools(found, facts),
    ]
    problems += _broken(found, facts, problems)
    problems += _operators(found, facts, problems)
    problems += _notes(found, facts)
    return sorted(problems, key=lambda problem: (ERROR, WARNING, INFO).index(problem.level))


def verdict(package: Package, found: Mapping[str, str | None], error: str = '') -> str:
    """Judge one package: 'ok', 'different, not tested', 'missing' or 'broken'."""
    present = _present(package, found)
    if not present:
        return 'missing'
    if error or len(present) > 1:
        return 'broken'
    distribution, version = present[0]
    # A compiled mmcv of the same version is the same Python code as mmcv-lite.
    tested = not _is_fork(distribution) and _public(version) == package.known
    return 'ok' if tested else 'different, not tested'


# Checks. Each returns the problems it finds.


def _python(facts: Facts) -> list[Problem]:
    if facts.python >= OLDEST_PYTHON:
        return []
    return [
        Problem(
            'python-too-old',
            ERROR,
            f'This is Python {_dotted(facts.python)}; mmgradaug needs {_dotted(OLDEST_PYTHON)} or '
            'newer.',
            f'python{_dotted(KNOWN_PYTHON)} -m venv .venv',
            affects=tuple(_BY_MODULE),
        )
    ]


def _missing(found: Mapping[str, str | None], facts: Facts) -> list[Problem]:
    problems = []
    for package in PACKAGES:
        if _present(package, found) or package.module == 'setuptools':
            continue
        requirement = _requirement(found, facts, package)
        level = ERROR
        if package.purpose:
            level = WARNING if package.purpose == 'the quick start' else INFO
        if package.module == 'mmcv':
            what = (
                'Neither mmcv nor mmcv-lite is installed, and mmpretrain needs one of them, '
                f'{package.minimum} or newer. mmcv-lite is quick to install and enough for '
                'classification.'
            )
        else:
            what = f'{re.split("[=<>]", requirement)[0]} is not installed.' + _only(package)
        problems.append(
            Problem(
                f'{package.module}-missing',
                level,
                what,
                _pip(facts, 'install', requirement),
                affects=(package.module,),
            )
        )
    return problems


def _twice(found: Mapping[str, str | None], facts: Facts) -> list[Problem]:
    problems = []
    for package in PACKAGES:
        names = [name for name, _ in _present(package, found)]
        if len(names) < 2:
            continue
        keep = f'{package.distributions[0]}=={package.known}'
        problems.append(
            Problem(
                f'{package.module}-twice',
                WARNING if package.purpose else ERROR,
                f'{" and ".join(names)} are installed together. They are one import package, '
                f'{package.module}, so the files of one lie over those of the other. Uninstall '
                'them all, then install one.',
                _pip(facts, 'uninstall', '-y', *names)
                + ' && '
                + _pip(facts, 'install', '--no-deps', keep),
                affects=(package.module,),
            )
        )
    return problems


def _out_of_range(found: Mapping[str, str | None], facts: Facts) -> list[Problem]:
    problems = []
    for package in PACKAGES:
        for distribution, version in _present(package, found):
            # The fork counts its versions by itself.
            below = '' if _is_fork(distribution) else package.below
            if package.minimum and _older(version, package.minimum):
                kind, bound = 'too-old', f'{package.minimum} or newer'
            elif below and not _older(version, below):
                kind, bound = 'too-new', f'a version below {below}'
            else:
                continue
            problems.append(
                Problem(
                    f'{package.module}-{kind}',
                    WARNING if package.purpose else ERROR,
                    f'{distribution} is {version}; mmgradaug needs {bound}.',
                    _install(facts, package, distribution),
                    affects=(package.module,),
                )
            )
    return problems


def _pairs(found: Mapping[str, str | None], facts: Facts) -> list[Problem]:
    """Versions that are fine alone and not together."""
    problems = []
    torch, torchvision, numpy = (found.get(name) for name in ('torch', 'torchvision', 'numpy'))
    partner = _torchvision_for(torch)
    if partner and torchvision and _release(torchvision)[:2] != partner:
        works = facts.imports.get('torchvision') == ''
        problems.append(
            Problem(
                'torch-torchvision-pair',
                WARNING if works else ERROR,
                f'torch {torch} goes with torchvision {_dotted(partner)}, and this is '
                f'{torchvision}: its compiled operators (nms, roi_align) may not load.',
                _pip(facts, 'install', f'torchvision=={_dotted(partner)}.*'),
                affects=('torchvision',),
            )
        )
    if torch and numpy and _older(torch, '2.3') and not _older(numpy, '2'):
        problems.append(
            Problem(
                'torch-numpy-pair',
                ERROR,
                f'torch {torch} was built for numpy 1 and cannot exchange arrays with numpy '
                f'{numpy}.',
                _pip(facts, 'install', 'numpy<2'),
                affects=('torch',),
            )
        )
    # Both refuse a newer mmcv when they are imported. The fork's have bounds of their own.
    for user, below, level in (('mmpretrain', '2.4.0', ERROR), ('mmdet', '2.2.0', WARNING)):
        for mmcv, version in _present(_BY_MODULE['mmcv'], found):
            if found.get(user) and not _older(version, below):
                problems.append(
                    Problem(
                        f'mmcv-too-new-for-{user}',
                        level,
                        f'{user} {found[user]} refuses mmcv {below} and newer; {mmcv} is '
                        f'{version}.',
                        _install(facts, _BY_MODULE['mmcv'], mmcv),
                        affects=(user,),
                    )
                )
    return problems


def _setuptools(found: Mapping[str, str | None], facts: Facts) -> list[Problem]:
    version = found.get('setuptools')
    if not found.get('openmim') or (version and _older(version, '81')):
        return []
    state = f'setuptools is {version}' if version else 'setuptools is not installed'
    return [
        Problem(
            'setuptools-without-pkg-resources',
            WARNING,
            f'{state}; openmim imports pkg_resources, which setuptools promises only below 81 '
            '("No module named \'pkg_resources\'").' + _only(_BY_MODULE['setuptools']),
            _pip(facts, 'install', 'setuptools>=77.0.3,<81'),
            affects=('mim',),
        )
    ]


def _broken(
    found: Mapping[str, str | None], facts: Facts, so_far: Sequence[Problem]
) -> list[Problem]:
    """Installed packages whose import failed, unless a problem known by now explains it."""
    problems = []
    faulty = {module for problem in so_far for module in problem.affects}
    for package in PACKAGES:
        error = facts.imports.get(package.module, '')
        present = _present(package, found)
        if not error or not present:
            continue
        explained = bool(faulty.intersection((package.module, *package.needs)))
        faulty.add(package.module)
        if explained:
            continue
        distribution, version = present[0]
        problems.append(
            Problem(
                f'{package.module}-broken',
                WARNING if package.purpose else ERROR,
                f'{distribution} {version} is installed, but cannot be used: {error}.'
                + _only(package),
                _pip(
                    facts,
                    'install',
                    '--force-reinstall',
                    '--no-deps',
                    # Without the local part: '+cu130' is not on PyPI.
                    f'{distribution}=={_public(version)}',
                ),
                affects=(package.module,),
            )
        )
    error = facts.imports.get('mmgradaug', '')
    if error and not any(not package.purpose and package.module in faulty for package in PACKAGES):
        problems.append(
            Problem('mmgradaug-broken', ERROR, f'mmgradaug itself cannot be imported: {error}.')
        )
    return problems


def _operators(
    found: Mapping[str, str | None], facts: Facts, so_far: Sequence[Problem]
) -> list[Problem]:
    """What mmcv's operators are, and whether they work: mmdet.models cannot do without."""
    present = _present(_BY_MODULE['mmcv'], found)
    faulty = {module for problem in so_far for module in problem.affects}
    if not present or faulty.intersection(('torch', 'torchvision', 'mmengine', 'mmcv')):
        return []
    # What is missing or broken is nothing to one who only classifies.
    (detector, version) = (_present(_BY_MODULE['mmdet'], found) or [('', '')])[0]
    level = WARNING if detector else INFO
    error = facts.imports.get('mmcv.ops', '')
    if facts.mmcv_ops == 'none':
        what = 'mmcv has no operators (no module mmcv._ext). '
        if detector:
            what += f'Without them, {detector} {version} fails as soon as its models are imported.'
        else:
            what += 'Classification does not need them; detection does.'
        fix = _install_fallback(facts) or _compiled_mmcv(found, facts)
        return [Problem('mmcv-without-ops', level, what, fix)]
    if error:
        kind = {'compiled': 'compiled operators', 'fallback': f'operators, those of {FALLBACK},'}
        what = f"mmcv's {kind.get(facts.mmcv_ops, 'operators, a Python module,')} do not work: "
        what += f'{error}. They are for detection only.'
        fix = _install_fallback(facts) if facts.mmcv_ops == 'fallback' else ''
        fix = fix or _compiled_mmcv(found, facts)
        return [Problem('mmcv-ops-broken', level, what, fix, affects=('mmdet',))]
    if facts.mmcv_ops == 'compiled':
        return []
    what = 'mmcv has no compiled operators; '
    if facts.mmcv_ops == 'fallback':
        what += (
            f'{FALLBACK} serves NMS, RoIAlign and the sigmoid focal loss in their place, all that '
            'Mask R-CNN, Faster R-CNN, RetinaNet and FCOS need.'
        )
    else:
        what += 'a Python module stands in for them.'
    # Prebuilt wheels exist for older versions of torch only.
    what += ' The compiled mmcv has them all; with a recent torch that means compiling it here.'
    return [Problem('mmcv-ops-not-compiled', INFO, what, _compiled_mmcv(found, facts))]


def _notes(found: Mapping[str, str | None], facts: Facts) -> list[Problem]:
    problems = []
    if not found.get('mmgradaug'):
        checkout = os.path.exists(os.path.join(ROOT, 'pyproject.toml'))
        problems.append(
            Problem(
                'mmgradaug-not-installed',
                WARNING,
                'mmgradaug is not installed in this environment: configs find it only where its '
                'checkout is on PYTHONPATH.',
                _pip(facts, 'install', '--no-deps', '-e', _short(ROOT)) if checkout else '',
            )
        )
    if facts.gpus or facts.imports.get('torch'):
        return problems
    if facts.nvidia_driver:
        problems.append(
            Problem(
                'gpu-not-seen',
                WARNING,
                'This machine has an NVIDIA driver, but torch sees no GPU: its build may be for '
                'the CPU or for a newer driver, or CUDA_VISIBLE_DEVICES hides it.',
                'nvidia-smi',
            )
        )
    else:
        problems.append(
            Problem(
                'no-gpu',
                INFO,
                'torch sees no GPU: everything runs on the CPU. That is enough for the quick '
                'start and the tests.',
            )
        )
    return problems


# Small tools of the checks.


def _present(package: Package, found: Mapping[str, str | None]) -> list[tuple[str, str]]:
    pairs = ((name, found.get(name)) for name in package.distributions)
    return [(name, version) for name, version in pairs if version]


def _is_fork(distribution: str) -> bool:
    return distribution.startswith('onedl-')


def _public(version: str) -> str:
    """'2.14.1+cu130' is a build of 2.14.1."""
    return version.split('+')[0]


def _release(version: str) -> tuple[int, ...]:
    """Give the numbers of a version: a pre-release counts as its release."""
    match = re.match(r'\d+(\.\d+)*', version)
    return tuple(int(part) for part in match.group().split('.')) if match else ()


def _older(version: str, bound: str) -> bool:
    """Whether a version is below a bound; one without numbers is taken to be new."""
    release, limit = _release(version), _release(bound)
    length = max(len(release), len(limit))
    padded = (numbers + (0,) * (length - len(numbers)) for numbers in (release, limit))
    return bool(release) and next(padded) < next(padded)


def _dotted(numbers: Sequence[int]) -> str:
    return '.'.join(map(str, numbers))


def _only(package: Package) -> str:
    return f' It is for {package.purpose} only.' if package.purpose else ''


def _torchvision_for(torch: str | None) -> tuple[int, int] | None:
    """Give the torchvision of a torch 2: 2.0 came with 0.15, and so on, one by one."""
    release = _release(torch or '')
    return (0, release[1] + 15) if len(release) > 1 and release[0] == 2 else None


def _requirement(found: Mapping[str, str | None], facts: Facts, package: Package) -> str:
    """Give what to ask pip for where a package is missing, so that it fits what is there."""
    partner = _torchvision_for(found.get('torch'))
    if package.module == 'torchvision' and partner:
        return f'torchvision=={_dotted(partner)}.*'
    if package.onedl and any(_is_fork(name) and found[name] for name in found):
        # An official distribution would bring others along, over the fork's files.
        return f'{package.distributions[-1]}=={package.onedl}'
    name = package.distributions[0]
    # The OpenMMLab packages are pure Python; the newest releases of others leave out old Pythons.
    pinned = package.onedl or facts.python >= KNOWN_PYTHON
    return f'{name}=={package.known}' if pinned else name


def _install(facts: Facts, package: Package, distribution: str) -> str:
    """Give the command that brings a distribution to the version known to work."""
    version = package.onedl if _is_fork(distribution) else package.known
    if distribution == 'mmcv':
        # mim knows where the prebuilt wheels are; pip would compile it.
        return _command(facts, '-m', 'mim', 'install', f'mmcv=={version}')
    return _pip(facts, 'install', f'{distribution}=={version}')


def _install_fallback(facts: Facts) -> str:
    """Give the command that installs the stand-in for mmcv's operators, if it is at hand."""
    folder = os.path.join(ROOT, 'mmcv_ext_fallback')
    if not os.path.exists(os.path.join(folder, 'pyproject.toml')):
        return ''
    # Made a path by the './': pip would look a bare name up.
    short = _short(folder)
    folder = short if os.path.isabs(short) else os.path.join(os.curdir, short)
    return _pip(facts, 'install', '--no-deps', folder)


def _compiled_mmcv(found: Mapping[str, str | None], facts: Facts) -> str:
    """Give the command that changes to a compiled mmcv; for the fork, none is known."""
    names = [name for name, _ in _present(_BY_MODULE['mmcv'], found)]
    if any(map(_is_fork, names)):
        return ''
    fix = _pip(facts, 'uninstall', '-y', *names) + ' && '
    # mim knows where the prebuilt wheels are.
    return fix + _command(facts, '-m', 'mim', 'install', 'mmcv>=2.0.0,<2.2.0')


def _command(facts: Facts, *arguments: str) -> str:
    return ' '.join(shlex.quote(argument) for argument in (facts.interpreter, *arguments))


def _pip(facts: Facts, *arguments: str) -> str:
    # Not plain `pip`: it may belong to another environment.
    return _command(facts, '-m', 'pip', *arguments)


# Looking at the environment that runs this file.

_PROBE = r"""
import importlib, importlib.util, json, os, sys
# What is imported may print; only records go to the real stdout.
records = os.fdopen(os.dup(1), 'w')
os.dup2(2, 1)
# Not the current directory: a folder there may have the name of a package.
sys.path[:] = [entry for entry in sys.path if entry] + [sys.argv[1]]

def say(**record):
    records.write(json.dumps(record) + '\n')
    records.flush()

def look(module):
    loaded = importlib.import_module(module)
    if getattr(loaded, '__file__', None) is None:
        # Python imports any folder. mmcv-ext-fallback leaves one where mmcv is uninstalled.
        raise ImportError('only a folder without its __init__.py')
    record = {'version': str(getattr(loaded, '__version__', 'unknown'))}
    if module == 'torch':
        if 'numpy' in sys.modules:
            loaded.zeros(1).numpy()
        cuda = loaded.cuda
        count = cuda.device_count() if cuda.is_available() else 0
        record['gpus'] = [cuda.get_device_name(index) for index in range(count)]
    elif module == 'torchvision':
        import torch
        importlib.import_module('torchvision.ops').nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    elif module == 'mmcv':
        # Found, not imported: a compiled one that does not fit torch can crash.
        spec = importlib.util.find_spec('mmcv._ext')
        source = spec.origin if spec else ''
        record['mmcv_ops'] = (
            'none' if not source else 'stand-in' if source.endswith('.py') else 'compiled'
        )
    elif module == 'mmcv.ops':
        import torch
        for device in ['cpu'] + ['cuda'] * torch.cuda.is_available():
            boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3], [4, 0, 8, 4]], device=device)
            kept = loaded.nms(boxes, torch.tensor([0.7, 0.8, 0.9], device=device), 0.5)[1].tolist()
            if kept != [2, 1]:
                raise RuntimeError(f'nms keeps {kept} on {device} where it should keep [2, 1]')
            region = torch.tensor([[0.0, 0, 0, 4, 4]], device=device)
            mean = loaded.roi_align(torch.ones(1, 1, 4, 4, device=device), region, 1).tolist()
            if mean != [[[[1.0]]]]:
                raise RuntimeError(f'roi_align says {mean} on {device} where all values are 1')
    return record

for module in sys.argv[2:]:
    say(start=module)
    try:
        record = look(module)
    except BaseException as error:
        lines = str(error).strip().splitlines() or ['no message']
        record = {'error': type(error).__name__ + ': ' + lines[0].rstrip('.')}
    say(module=module, **record)
# Without the finalizers, some of which crash in a broken environment.
records.flush()
os._exit(0)
"""


def probe(modules: Sequence[str], timeout: float = 300.0) -> dict[str, dict[str, Any]]:
    """Import modules in child processes and say how each went.

    A module that could not be imported has an 'error', one that could has a 'version'. A module
    that takes its process down, or gives no answer within ``timeout`` seconds, is blamed for it,
    and the rest are tried in another process.
    """
    results: dict[str, dict[str, Any]] = {}
    left = list(modules)
    while left:
        output, ended = _import_in_child(left, timeout)
        current = ''
        for line in output.decode(errors='replace').splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # cut off in the middle
                continue
            current = record.get('start', '')
            if not current:
                results[record.pop('module')] = record
        left = [module for module in left if module not in results]
        # With none to blame, it could not be started, and trying again would not help.
        for module in [current] if current else left:
            results[module] = {'error': ended}
            left = [other for other in left if other != module]
    return results


def _import_in_child(modules: Sequence[str], timeout: float) -> tuple[bytes, str]:
    """Give what the child process wrote, and how it ended, in words."""
    try:
        child = subprocess.run(
            [sys.executable, '-c', _PROBE, ROOT, *modules],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        return expired.stdout or b'', f'its import did not end within {timeout:.0f} seconds'
    except OSError as error:
        return b'', f'{sys.executable} could not be started: {error}'
    if child.returncode < 0:
        return child.stdout, f'its import killed the interpreter (signal {-child.returncode})'
    return child.stdout, f'its import ended the interpreter (exit code {child.returncode})'


def look_around() -> tuple[dict[str, str | None], Facts]:
    """Find the versions and facts of the environment that runs this."""
    found: dict[str, str | None] = {}
    names = [name for package in PACKAGES for name in package.distributions]
    for name in [*names, FALLBACK, 'mmgradaug']:
        try:
            found[name] = metadata.version(name) if metadata else None
        except Exception:  # not installed, or metadata cut off in the middle of an install
            found[name] = None
    # Broken ones of these are rare, and they are slow to import.
    tried = [
        package.module
        for package in PACKAGES
        if package.module not in ('setuptools', 'sklearn') and package.purpose != EVALUATION
    ]
    # After mmcv, so that the operators are blamed for themselves alone.
    tried.insert(tried.index('mmcv') + 1, 'mmcv.ops')
    results = probe([*tried, 'mmgradaug'])
    operators = str(results.get('mmcv', {}).get('mmcv_ops', 'none'))
    if operators == 'stand-in' and found[FALLBACK]:
        operators = 'fallback'
    for package in PACKAGES:
        version = results.get(package.module, {}).get('version')
        if version and not _present(package, found):
            # On PYTHONPATH, say, without being installed.
            found[package.distributions[0]] = str(version)
    facts = Facts(
        python=tuple(sys.version_info[:3]),
        imports={module: str(result.get('error', '')) for module, result in results.items()},
        mmcv_ops=operators,
        gpus=tuple(results.get('torch', {}).get('gpus', ())),
        nvidia_driver=os.path.exists('/dev/nvidia0') or bool(shutil.which('nvidia-smi')),
        interpreter=_typed_interpreter(),
    )
    return found, facts


def _typed_interpreter() -> str:
    """Give what to type for this interpreter: 'python' if that is it, else its path."""
    plain = shutil.which('python')
    if plain and os.path.abspath(plain) == os.path.abspath(sys.executable):
        return 'python'
    return _short(sys.executable)


def _short(path: str) -> str:
    """Give a path as seen from the current directory, if it lies below."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # on another drive
        return path
    return path if relative.startswith(os.pardir) else relative


# Telling it.


def report(
    found: Mapping[str, str | None], facts: Facts, problems: Sequence[Problem]
) -> dict[str, Any]:
    """Give everything found as plain data, ready for JSON."""
    rows = []
    for package in PACKAGES:
        present = _present(package, found)
        rows.append(
            {
                'package': package.module,
                'found': [f'{name} {version}' for name, version in present],
                'known': f'{package.distributions[0]} {package.known}',
                'onedl': f'{package.distributions[-1]} {package.onedl}' if package.onedl else '',
                'purpose': package.purpose,
                'verdict': verdict(package, found, facts.imports.get(package.module, '')),
            }
        )
    return {
        'ok': not any(problem.level == ERROR for problem in problems),
        'python': _dotted(facts.python),
        'interpreter': sys.executable,
        'platform': platform.platform(),
        'mmgradaug': found.get('mmgradaug'),
        'gpus': list(facts.gpus),
        'mmcv_ops': facts.mmcv_ops,
        'mmcv_ops_work': facts.imports.get('mmcv.ops') == '',
        'packages': rows,
        'problems': [asdict(problem) for problem in problems],
    }


def render(data: Mapping[str, Any]) -> str:
    """Lay a report out for reading: a table, then each problem in words."""
    table = [('package', 'found', 'known to work', 'OneDL fork (not tested)', 'verdict')]
    for row in data['packages']:
        found = ', '.join(row['found']) or '-'
        judged = row['verdict'] + (f' (for {row["purpose"]})' if row['purpose'] else '')
        table.append((row['package'], found, row['known'], row['onedl'] or '-', judged))
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = [
        f'mmgradaug {data["mmgradaug"] or "(not installed)"}, Python {data["python"]} '
        f'({data["interpreter"]})',
        f'{data["platform"]}, GPU: {", ".join(data["gpus"]) or "none"}, '
        f'operators of mmcv: {data["mmcv_ops"]}',
        '',
    ]
    for row in table:
        lines.append('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    for problem in data['problems']:
        lines += ['', f'{problem["level"]}: {problem["what"]}  [{problem["name"]}]']
        if problem['fix']:
            lines.append(f'    {problem["fix"]}')
    errors = sum(problem['level'] == ERROR for problem in data['problems'])
    if errors:
        lines += ['', f'{errors} error{"s" * (errors > 1)}: mend the first one, then run it again.']
        if os.path.exists(os.path.join(ROOT, 'Makefile')):
            lines.append('Or start afresh with the known versions: rm -rf .venv && make setup')
    else:
        lines += ['', 'Everything that mmgradaug needs is fine.']
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code."""
    parser = argparse.ArgumentParser(
        prog='doctor', description='Say what is wrong with this environment, and what to type.'
    )
    parser.add_argument('--json', metavar='FILE', help="also write JSON; '-': to stdout, alone")
    arguments = parser.parse_args(argv)
    print('looking at the installed packages (a few seconds) ...', file=sys.stderr, flush=True)
    found, facts = look_around()
    data = report(found, facts, diagnose(found, facts))
    if arguments.json == '-':
        print(json.dumps(data, indent=2))
    else:
        print(render(data))
        if arguments.json:
            try:
                with open(arguments.json, 'w', encoding='utf-8') as stream:
                    stream.write(json.dumps(data, indent=2) + '\n')
            except OSError as error:
                print(f'error: the JSON was not written: {error}', file=sys.stderr)
                return 1
    return 0 if data['ok'] else 1


if __name__ == '__main__':
    sys.exit(main())
