"""The package as it is installed from a wheel, outside of the repository."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from command_line import NO_GPU, ON_ONEDL, ROOT

TINY = ['--cfg-options', 'train_cfg.max_iters=4', 'train_cfg.val_interval=2']


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp('wheel')
    command = [sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '-q']
    # Built from a copy: setuptools leaves build/ where it is.
    source = folder / 'source'
    done = subprocess.run(
        ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in done.stdout.split('\0'):
        if name and (ROOT / name).exists():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_symlink():
                target.symlink_to(os.readlink(ROOT / name))
            else:
                target.write_bytes((ROOT / name).read_bytes())
    subprocess.run([*command, '-w', str(folder), str(source)], check=True, timeout=300)
    (file,) = folder.glob('*.whl')
    return file


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    """The bin folder of an empty environment that shares the heavy packages."""
    folder = tmp_path_factory.mktemp('env')
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob('lib/python*/site-packages')
    # A path file is not followed further: an editable mmgradaug over there stays unseen.
    (site / 'shared.pth').write_text(sysconfig.get_paths()['purelib'] + '\n')
    install = [sys.executable, '-m', 'pip', '--python', str(folder / 'bin' / 'python'), 'install']
    subprocess.run([*install, '--no-deps', '-q', '--force-reinstall', str(wheel)], check=True)
    return folder / 'bin'


def run(installed, *command, cwd):
    environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**environment, **NO_GPU}, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


def test_it_holds_configs_tools_and_types(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ('configs', 'tools'):
        files = [
            p.relative_to(ROOT)
            for p in (ROOT / name).rglob('*')
            if p.suffix in ('.py', '.yml', '.sh')
        ]
        missing = [file for file in files if f'mmgradaug/.mim/{file.as_posix()}' not in names]
        assert files and not missing
    assert {
        'mmgradaug/py.typed',
        'mmgradaug/.mim/model-index.yml',
        'mmgradaug/experiments/templates/index.html',
    } <= names
    assert not [name for name in names if name.startswith('tests')]


def test_the_digits_train_outside_of_the_repository(installed, tmp_path):
    work_dir = tmp_path / 'work'
    config = 'quickstart/digits_gradaug.py'
    run(
        installed,
        installed / 'mmgradaug',
        'train',
        config,
        '--work-dir',
        work_dir,
        *TINY,
        cwd=tmp_path,
    )
    record = json.loads((work_dir / 'run.json').read_text())
    assert record['status'] == 'done' and record['iterations'] == 4
    # Of the installed package, which is no checkout.
    assert record['commit'] is None and str(ROOT) not in record['config_file']
    report = [installed / 'mmgradaug', 'report', work_dir, '--out', tmp_path / 'page']
    output = run(installed, *report, cwd=tmp_path)
    assert (tmp_path / 'page' / 'index.html').exists() and 'your own setting' in output


@pytest.mark.skipif(
    ON_ONEDL,
    reason="the fork's mim takes the folder of a package's first file, here that of its command, for the package's",
)
def test_mim_finds_configs_and_tools(installed, tmp_path):
    python = installed / 'python'
    mim = [python, '-c', 'from mim.cli import cli; cli()']
    options = ['--launcher', 'none', '--gpus', 0, '-y', '--work-dir', tmp_path / 'mim', *TINY]
    run(installed, *mim, 'train', 'mmgradaug', 'digits_baseline.py', *options, cwd=tmp_path)
    assert json.loads((tmp_path / 'mim' / 'run.json').read_text())['status'] == 'done'
    (checkpoint,) = (tmp_path / 'mim').glob('*.pth')
    test = ['run', 'mmgradaug', 'test', 'quickstart/digits_baseline.py', checkpoint]
    output = run(installed, *mim, *test, '--work-dir', tmp_path / 'test', cwd=tmp_path)
    assert 'accuracy/top1: ' in output


def test_help_is_light(installed, tmp_path):
    """It says nothing of what training needs, and each command has an example."""
    blocked = (
        'import sys\n'
        "for name in ('mmcv', 'mmdet', 'mmpretrain', 'matplotlib'): sys.modules[name] = None\n"
        'from mmgradaug import cli\n'
    )
    lone = tmp_path / 'mmgradaug'
    where = 'import mmgradaug; print(mmgradaug.__file__)'
    output = run(installed, installed / 'python', '-c', where, cwd=tmp_path)
    source = Path(output.splitlines()[-1]).parent
    # Without what the package's own __init__ imports.
    lone.mkdir()
    for name in ('cli.py', 'doctor.py', 'environment.py', 'files.py', 'resources.py', 'evaluation'):
        (lone / name).symlink_to(source / name)
    (lone / '__init__.py').write_text('')
    commands = 'sweep report quickstart cost shapes robustness fgsm cam extract width-curve detections doctor'
    code = (
        f"{blocked}sys.modules['torch'] = None\n"
        f'for command in {commands.split()!r}:\n'
        '    try: cli.main([command, "--help"])\n'
        '    except SystemExit: pass\n'
    )
    output = ' '.join(run(installed, installed / 'python', '-c', code, cwd=tmp_path).split())
    for command in commands.split():
        assert f'example: mmgradaug {command}' in output
