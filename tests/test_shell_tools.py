"""The launchers and the set-up, with stand-ins for Python, pip and srun that record their calls."""

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from resumable import differences, final_state, toy_config, train

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / 'tools'
LAUNCHERS = ('dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh')
# What a user may have set, and what `make` exports to the tests it runs.
CLEARED = (
    'NNODES NODE_RANK PORT MASTER_ADDR PYTHON PIP PYTHONPATH OMP_NUM_THREADS GPUS GPUS_PER_NODE '
    'CPUS_PER_TASK SRUN_ARGS PY_ARGS MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES PYTEST_ARGS'
).split()


def write_script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def run(command, cwd=None, **environment):
    clean = {key: value for key, value in os.environ.items() if key not in CLEARED}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def record(tmp_path):
    """Run a launcher; give the arguments and the environment that its program was called with."""
    body = (
        '#!/usr/bin/env bash\n'
        f'printf "%s\\n" "$@" > "{tmp_path}/arguments"\n'
        f'printf "%s\\n" "$OMP_NUM_THREADS" "$PYTHONPATH" > "{tmp_path}/environment"\n'
    )
    python = write_script(tmp_path / 'my python', body)
    write_script(tmp_path / 'bin' / 'srun', body)

    def call(tool, *arguments, root=ROOT, **environment):
        environment.setdefault('PYTHON', str(python))
        path = f'{tmp_path / "bin"}{os.pathsep}{os.environ["PATH"]}'
        result = run(
            [root / 'tools' / tool, *arguments], cwd=tmp_path, **{'PATH': path, **environment}
        )
        assert result.returncode == 0, result.stderr
        recorded = (tmp_path / 'arguments').read_text().splitlines()
        threads, pythonpath = (tmp_path / 'environment').read_text().splitlines()
        return recorded, threads, pythonpath

    call.python = str(python)
    return call


def test_dist_train_on_one_machine(record):
    arguments, threads, pythonpath = record('dist_train.sh', 'configs/a b.py', '2')
    assert arguments == [
        '-m',
        'torch.distributed.run',
        '--nnodes=1',
        '--nproc_per_node=2',
        '--node_rank=0',
        '--master_addr=127.0.0.1',
        '--master_port=29500',
        str(TOOLS / 'train.py'),
        'configs/a b.py',
        '--launcher',
        'pytorch',
    ]
    assert threads == '1'
    assert pythonpath == str(ROOT)


def test_dist_train_on_several_machines(record):
    arguments, threads, pythonpath = record(
        'dist_train.sh',
        'c.py',
        '8',
        '--cfg-options',
        'work dir=x y',
        'a=[1,*]',
        NNODES='4',
        NODE_RANK='3',
        PORT='12345',
        MASTER_ADDR='10.0.0.1',
        OMP_NUM_THREADS='6',
        PYTHONPATH='/elsewhere',
    )
    assert arguments[2:7] == [
        '--nnodes=4',
        '--nproc_per_node=8',
        '--node_rank=3',
        '--master_addr=10.0.0.1',
        '--master_port=12345',
    ]
    # Neither split at spaces nor expanded.
    assert arguments[-3:] == ['--cfg-options', 'work dir=x y', 'a=[1,*]']
    assert threads == '6'
    assert pythonpath == f'{ROOT}:/elsewhere'


def test_dist_train_with_restarts(record):
    arguments, _, _ = record('dist_train.sh', 'c.py', '8', MAX_RESTARTS='3', PORT='12345')
    assert arguments[2:8] == [
        '--nnodes=1',
        '--nproc_per_node=8',
        '--max_restarts=3',
        '--rdzv_backend=c10d',
        '--rdzv_endpoint=127.0.0.1:12345',
        '--rdzv_id=mmgradaug',
    ]


def test_dist_test(record):
    arguments, _, _ = record('dist_test.sh', 'c.py', 'w d/epoch_1.pth', '2', '--out', 'r.pkl')
    assert arguments == [
        '-m',
        'torch.distributed.run',
        '--nnodes=1',
        '--nproc_per_node=2',
        '--node_rank=0',
        '--master_addr=127.0.0.1',
        '--master_port=29500',
        str(TOOLS / 'test.py'),
        'c.py',
        'w d/epoch_1.pth',
        '--launcher',
        'pytorch',
        '--out',
        'r.pkl',
    ]


@pytest.mark.parametrize(
    ('tool', 'script', 'last', 'expected'),
    [
        ('slurm_train.sh', 'train.py', 'w d/run', ['c.py', '--work-dir=w d/run']),
        ('slurm_test.sh', 'test.py', 'w d/e.pth', ['c.py', 'w d/e.pth']),
    ],
)
def test_slurm(record, tool, script, last, expected):
    arguments, _, pythonpath = record(tool, 'gpu', 'my job', 'c.py', last, '--amp', 'x y')
    assert arguments == [
        '-p',
        'gpu',
        '--job-name=my job',
        '--gres=gpu:8',
        '--ntasks=8',
        '--ntasks-per-node=8',
        '--cpus-per-task=5',
        '--kill-on-bad-exit=0',
        '--wait=120',
        '--signal=USR1@120',
        record.python,
        '-u',
        str(TOOLS / script),
        *expected,
        '--launcher=slurm',
        '--amp',
        'x y',
    ]
    assert pythonpath == str(ROOT)


@pytest.mark.parametrize('tool', ['slurm_train.sh', 'slurm_test.sh'])
def test_slurm_environment(record, tool):
    arguments, _, _ = record(
        tool,
        'gpu',
        'job',
        'c.py',
        'last',
        '--resume',
        GPUS='16',
        GPUS_PER_NODE='4',
        CPUS_PER_TASK='3',
        SRUN_ARGS='--quotatype=spot --time=10',
        PY_ARGS='--amp --seed 1',
    )
    assert arguments[3:12] == [
        '--gres=gpu:4',
        '--ntasks=16',
        '--ntasks-per-node=4',
        '--cpus-per-task=3',
        '--kill-on-bad-exit=0',
        '--wait=120',
        '--signal=USR1@120',
        '--quotatype=spot',
        '--time=10',
    ]
    assert arguments[-4:] == ['--amp', '--seed', '1', '--resume']


def test_a_small_slurm_job_does_not_ask_for_a_whole_node(record):
    arguments, _, _ = record('slurm_train.sh', 'gpu', 'job', 'c.py', 'w', GPUS='2')
    assert arguments[3:6] == ['--gres=gpu:2', '--ntasks=2', '--ntasks-per-node=2']


SRUN_OF_A_PREEMPTED_JOB = """#!/usr/bin/env bash
echo "srun ${SLURM_RESTART_COUNT:-0}" >> calls
[[ $(wc -l < calls) -gt $INTERRUPTIONS ]] || exit 75
exit $LAST
"""


@pytest.mark.parametrize(('interruptions', 'last'), [(0, 0), (0, 1), (2, 0), (1, 3)])
def test_a_preempted_slurm_training_is_queued_again(tmp_path, interruptions, last):
    write_script(tmp_path / 'bin' / 'srun', SRUN_OF_A_PREEMPTED_JOB)
    done = run(
        [TOOLS / 'slurm_train.sh', 'gpu', 'job', 'c.py', 'w'],
        cwd=tmp_path,
        PATH=f'{tmp_path / "bin"}{os.pathsep}{os.environ["PATH"]}',
        INTERRUPTIONS=str(interruptions),
        LAST=str(last),
    )
    assert done.returncode == last
    calls = (tmp_path / 'calls').read_text().splitlines()
    # The count is what tells tools/train.py to go on where it was.
    assert calls == [f'srun {count}' for count in range(interruptions + 1)]


def test_a_preempted_batch_job_is_left_to_slurms_requeue(tmp_path):
    write_script(tmp_path / 'bin' / 'srun', SRUN_OF_A_PREEMPTED_JOB)
    write_script(tmp_path / 'bin' / 'scontrol', '#!/usr/bin/env bash\necho "$@" >> calls\n')
    done = run(
        [TOOLS / 'slurm_train.sh', 'gpu', 'job', 'c.py', 'w'],
        cwd=tmp_path,
        PATH=f'{tmp_path / "bin"}{os.pathsep}{os.environ["PATH"]}',
        INTERRUPTIONS='1',
        SLURM_JOB_ID='17',
    )
    assert done.returncode == 75
    assert (tmp_path / 'calls').read_text().splitlines() == ['srun 0', 'requeue 17']


SRUN_WITH_A_TIME_LIMIT = """#!/usr/bin/env bash
while [[ $1 != "$PYTHON" ]]; do shift; done
"$@" > "$FOLDER/said" 2>&1 &
if [[ ${SLURM_RESTART_COUNT:-0} == 0 ]]; then
    until grep -q asleep "$FOLDER/said"; do kill -0 $! || exit 1; sleep 0.05; done
    kill -USR1 $!
    touch "$FOLDER/signalled"
fi
wait $!
"""


def test_a_training_that_slurm_signals_and_queues_again_ends_as_if_left_alone(tmp_path):
    """The real script and a real training: SIGUSR1 before the time limit, a requeue, the rest of it."""
    sleeps = dict(type='SleepsAt', iteration=5, until=str(tmp_path / 'signalled'))
    config = toy_config(tmp_path / 'run', signals=True, hooks=[sleeps])
    config.custom_imports = dict(imports=['resumable'], allow_failed_imports=False)
    config.dump(tmp_path / 'config.py')
    write_script(tmp_path / 'bin' / 'srun', SRUN_WITH_A_TIME_LIMIT)
    write_script(
        tmp_path / 'bin' / 'scontrol', '#!/usr/bin/env bash\necho "$@" >> "$FOLDER/requeued"\n'
    )

    def batch_job(**environment):
        done = run(
            [TOOLS / 'slurm_train.sh', 'gpu', 'job', tmp_path / 'config.py', tmp_path / 'run'],
            PATH=f'{tmp_path / "bin"}{os.pathsep}{os.environ["PATH"]}',
            FOLDER=str(tmp_path),
            PYTHON=sys.executable,
            PYTHONPATH=str(ROOT / 'tests'),
            OMP_NUM_THREADS='1',  # as here, where the other one runs
            PY_ARGS='--launcher none',  # MMEngine's Slurm asks for a GPU
            SLURM_JOB_ID='17',
            **environment,
        )
        return done.returncode, (tmp_path / 'said').read_text()

    code, said = batch_job()
    assert code == 75, said
    assert (tmp_path / 'requeued').read_text() == 'requeue 17\n'
    assert (tmp_path / 'run' / 'last_checkpoint').read_text() == 'interrupted.pth'
    code, said = batch_job(SLURM_RESTART_COUNT='1')  # as Slurm starts it the second time
    assert code == 0 and f'path: {tmp_path}/run/interrupted.pth' in said, said
    train(tmp_path / 'alone')
    states = [final_state(tmp_path / name, 'epoch_3.pth') for name in ('alone', 'run')]
    assert not differences(*states)


def test_a_signal_reaches_the_slurm_job(tmp_path):
    """And the launcher waits until the job has saved."""
    srun = (
        '#!/usr/bin/env bash\n'
        'trap "sleep 0.5; echo saved >> calls; exit 3" TERM\n'
        'echo started >> calls\n'
        'while :; do sleep 0.1; done\n'
    )
    write_script(tmp_path / 'bin' / 'srun', srun)
    environment = {**os.environ, 'PATH': f'{tmp_path / "bin"}{os.pathsep}{os.environ["PATH"]}'}
    launcher = subprocess.Popen(
        [TOOLS / 'slurm_train.sh', 'gpu', 'job', 'c.py', 'w'], cwd=tmp_path, env=environment
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / 'calls').exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    launcher.terminate()
    assert launcher.wait(timeout=30) == 3
    assert (tmp_path / 'calls').read_text().split() == ['started', 'saved']


@pytest.mark.parametrize('tool', LAUNCHERS)
def test_launchers_take_the_environment_of_the_checkout(record, tmp_path, tool):
    """Without PYTHON it is .venv's if there is one, else the python on PATH."""
    checkout = tmp_path / 'check out'
    shutil.copytree(TOOLS, checkout / 'tools')
    arguments = {'dist_train.sh': ('c.py', '2'), 'dist_test.sh': ('c.py', 'e.pth', '2')}
    given = arguments.get(tool, ('p', 'j', 'c.py', 'last'))
    is_slurm = tool.startswith('slurm')
    # On a PATH where `python` is another recorder.
    write_script(tmp_path / 'bin' / 'python', '#!/usr/bin/env bash\nexec srun from-path "$@"\n')
    recorded, _, _ = record(tool, *given, root=checkout, PYTHON='')
    assert ('python' if is_slurm else 'from-path') in recorded
    write_script(
        checkout / '.venv' / 'bin' / 'python', '#!/usr/bin/env bash\nexec srun from-venv "$@"\n'
    )
    recorded, _, _ = record(tool, *given, root=checkout, PYTHON='')
    assert (f'{checkout}/.venv/bin/python' if is_slurm else 'from-venv') in recorded


@pytest.mark.parametrize(
    ('tool', 'arguments'),
    [
        ('dist_train.sh', []),
        ('dist_train.sh', ['c.py']),
        ('dist_train.sh', ['c.py', '--resume']),
        ('dist_train.sh', ['c.py', '0']),
        ('dist_test.sh', ['c.py', '8']),
        ('dist_test.sh', ['c.py', '8', 'epoch_1.pth']),
        ('slurm_train.sh', ['gpu', 'job', 'c.py']),
        ('slurm_test.sh', ['gpu', 'job', 'c.py']),
    ],
)
def test_missing_arguments(tool, arguments):
    result = run([TOOLS / tool, *arguments], PYTHON='/bin/false')
    assert result.returncode == 2
    assert result.stderr.startswith(f'usage: tools/{tool} ')
    assert result.stdout == ''


@pytest.mark.parametrize('tool', LAUNCHERS)
@pytest.mark.parametrize('flag', ['-h', '--help'])
def test_help(tool, flag):
    result = run([TOOLS / tool, flag], PYTHON='/bin/false')
    assert result.returncode == 0
    assert result.stdout.startswith(f'usage: tools/{tool} ')


@pytest.mark.parametrize('path', [*(TOOLS / tool for tool in LAUNCHERS), ROOT / '.ci' / 'run'])
def test_scripts_are_executable(path):
    assert path.stat().st_mode & stat.S_IXUSR


# The set-up. A stand-in for pip records its calls and fails on demand.

READY = 'environment ready: .venv (delete it to start afresh)'


FALLBACK = ['mmcv_ext_fallback/pyproject.toml', 'mmcv_ext_fallback/mmcv/_ext.py']


class Checkout:
    def __init__(self, folder):
        self.folder = folder
        (folder / 'tools').mkdir(parents=True)
        shutil.copy(ROOT / 'Makefile', folder / 'Makefile')
        for name in ('requirements.txt', 'pyproject.toml', 'tools/setup_env.sh', 'tools/onedl.txt'):
            shutil.copy(ROOT / name, folder / name)
        for name in FALLBACK:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        self.calls = folder / 'calls'
        self.pip = write_script(
            folder / 'fake-pip',
            f'#!/usr/bin/env bash\necho "$@" >> "{self.calls}"\n[[ ! -e "{folder}/fail" ]]\n',
        )
        # As `python -m venv` leaves it, as far as the script looks.
        write_script(
            folder / '.venv' / 'bin' / 'python', f'#!/bin/sh\nexec "{sys.executable}" "$@"'
        )

    def setup(self, *command, **environment):
        before = self.installs()
        environment.setdefault('PIP', str(self.pip))
        result = run(command or ['make', 'setup'], cwd=self.folder, **environment)
        return result, self.installs() - before

    def installs(self):
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path / 'checkout')


def test_setup_installs_once(checkout):
    result, installs = checkout.setup()
    assert (result.returncode, installs) == (0, 2)
    assert checkout.calls.read_text().splitlines() == [
        'install -r requirements.txt',
        'install --no-build-isolation -r requirements.txt -e .[dev,quickstart]',
    ]
    result, installs = checkout.setup()
    assert (result.returncode, installs) == (0, 0)
    assert result.stdout == READY + '\n'


def test_setup_goes_by_content_not_by_time(checkout):
    checkout.setup()
    os.utime(checkout.folder / 'requirements.txt', (2**31, 2**31))
    os.utime(checkout.folder / 'pyproject.toml', (1, 1))
    assert checkout.setup()[1] == 0


@pytest.mark.parametrize('name', ['requirements.txt', 'pyproject.toml', *FALLBACK])
def test_setup_again_when_what_it_is_made_from_changes(checkout, name):
    checkout.setup()
    with open(checkout.folder / name, 'a') as stream:
        stream.write('# changed\n')
    assert checkout.setup()[1] == 2
    assert checkout.setup()[1] == 0


def test_setup_again_when_the_checkout_was_moved(checkout):
    """The editable install would point to where it was."""
    checkout.setup()
    moved = checkout.folder.with_name('moved')
    checkout.folder.rename(moved)
    result = run(['make', 'setup'], cwd=moved, PIP=str(moved / 'fake-pip'))
    assert 'installing into .venv' in result.stdout


def test_a_half_done_install_is_not_taken_for_a_finished_one(checkout):
    checkout.setup()
    (checkout.folder / 'requirements.txt').write_text('torch\n')
    (checkout.folder / 'fail').touch()
    result, installs = checkout.setup()
    assert result.returncode != 0
    assert installs == 1
    assert 'error: pip stopped' in result.stderr
    # Even with what the last finished install was made from.
    shutil.copy(ROOT / 'requirements.txt', checkout.folder / 'requirements.txt')
    (checkout.folder / 'fail').unlink()
    assert checkout.setup()[1] == 2
    assert checkout.setup()[0].stdout == READY + '\n'


def test_targets_that_need_an_environment_set_it_up_first(checkout):
    (checkout.folder / 'fail').touch()
    for target in ('test', 'lint', 'format', 'quickstart'):
        result, installs = checkout.setup('make', target)
        assert (target, result.returncode != 0, installs) == (target, True, 1)


def test_setup_without_a_fitting_python(checkout, tmp_path):
    shutil.rmtree(checkout.folder / '.venv')
    old = write_script(
        tmp_path / 'python3.8',
        '#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.8.18" && exit\n[ "$2" = "" ]\n',
    )
    result, installs = checkout.setup(PYTHON=str(old))
    assert (result.returncode != 0, installs) == (True, 0)
    assert f'PYTHON={old} is Python 3.8.18' in result.stderr
    assert 'make setup PYTHON=/path/to/python3.11' in result.stderr
    result, _ = checkout.setup(PYTHON=str(tmp_path / 'nowhere'))
    assert f'PYTHON={tmp_path}/nowhere does not run' in result.stderr
    assert not (checkout.folder / '.venv').exists()


def test_setup_makes_the_environment_with_the_given_python(checkout, tmp_path):
    shutil.rmtree(checkout.folder / '.venv')
    # A Python whose `-m venv` is quick: without pip.
    python = write_script(
        tmp_path / 'quick',
        '#!/bin/sh\n'
        '[ "$1 $2" = "-m venv" ] && set -- -m venv --without-pip "$3"\n'
        f'exec "{sys.executable}" "$@"\n',
    )
    result, installs = checkout.setup(PYTHON=str(python))
    assert (result.returncode, installs) == (0, 2), result.stderr
    assert (checkout.folder / '.venv' / 'pyvenv.cfg').exists()


def test_the_forks_environment_has_nothing_of_the_official_packages(checkout):
    shutil.copytree(checkout.folder / '.venv', checkout.folder / '.venv-onedl')
    result, installs = checkout.setup('tools/setup_env.sh', '--onedl')
    assert (result.returncode, installs) == (0, 2), result.stderr
    assert checkout.calls.read_text().splitlines() == [
        'install -r .venv-onedl/requirements.txt',
        'install --no-build-isolation --no-deps -e .',  # whose dependencies are the official ones
    ]
    wanted = (checkout.folder / '.venv-onedl' / 'requirements.txt').read_text()
    names = {line.split('=')[0] for line in wanted.splitlines() if '==' in line}
    assert not names & {'mmengine', 'mmcv-lite', 'mmcv', 'mmdet', 'mmpretrain', 'openmim'}
    assert {'torch', 'onedl-mmengine', 'onedl-mmdetection', 'pytest'} <= names
    with open(checkout.folder / 'tools' / 'onedl.txt', 'a') as stream:
        stream.write('# changed\n')
    assert checkout.setup('tools/setup_env.sh', '--onedl')[1] == 2
    assert checkout.setup('tools/setup_env.sh', '--onedl')[1] == 0


def test_make_alone_lists_the_targets():
    result = run(['make'], cwd=ROOT)
    for target in ('setup', 'quickstart', 'test', 'lint', 'format', 'doctor', 'clean'):
        assert f'make {target} ' in result.stdout
