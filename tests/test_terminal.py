"""What a wrong configuration shows on the terminal: a short error, last of all; the rest is in the log file."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import ROOT, run_tool
from mmengine.registry import Registry

from mmgradaug.files import UserError
from mmgradaug.launch import parse_options, read_config
from mmgradaug.terminal import Terminal

CONFIG = 'configs/quickstart/digits_gradaug.py'


def train(work_dir, *options):
    # A name of its own: that of another training of the same second would log to that one's file.
    name = f'experiment_name={Path(work_dir).name}'
    given = [name, 'train_cfg.max_iters=2', 'train_cfg.val_interval=2', *options]
    return run_tool('train', CONFIG, '--work-dir', work_dir, '--cfg-options', *given)


def log_of(work_dir):
    return next(Path(work_dir).glob('*/*.log')).read_text()


# What to write wrongly, where it is said to be, what is said of it, and the error that it was.
WRONG = [
    ('model.gradaug.min_width=2', 'model (GradAugClassifier)', 'min_width is a share', 'ValueError'),
    ('model.gradaug.min_widht=0.8', 'model (GradAugClassifier)', 'Do you mean min_width?', 'TypeError'),
    ('model.backbone.depht=18', 'model.backbone (ResNet_CIFAR)', 'do you mean depth?', 'TypeError'),
    ('model.backbone.type=ResNeet', 'model.backbone (ResNeet)', 'do you mean ResNet?', 'KeyError'),
    ('custom_hooks.0.type=GradAugHok', 'custom_hooks.0 (GradAugHok)', 'do you mean GradAugHook?', 'KeyError'),
    ('train_dataloader.batch_size=x', 'train_dataloader', 'but got batch_size=x', 'ValueError'),
    ('train_dataloader.sampler.type=Default', 'train_dataloader.sampler (Default)', 'do you mean', 'KeyError'),
    ('optim_wrapper.optimizer.momentum=0', 'optim_wrapper.optimizer (SGD)', 'Nesterov', 'ValueError'),
    ('model.head.num_classes=5', '', 'write num_classes=10', 'ValueError'),
]  # fmt: skip


@pytest.mark.parametrize(('option', 'where', 'says', 'kind'), WRONG, ids=[w[0] for w in WRONG])
def test_a_wrong_setting_is_told_last_and_shortly(option, where, says, kind, tmp_path):
    code, output = train(tmp_path, option)
    assert code == 1
    empty, first, said, last = output.splitlines()[-4:]
    assert not empty and first == f'{CONFIG}{where and ", "}{where}:'
    assert said.startswith('  ') and says in said
    assert re.fullmatch(rf'\({kind}; the traceback is in {tmp_path}\S+\.log\)', last)
    assert 'Traceback' not in output and len(output.splitlines()) < 15
    log = log_of(tmp_path)
    assert log.rstrip().splitlines()[-1].startswith(kind) and 'Traceback' in log


def test_the_config_and_the_machine_are_described_in_the_log_file_alone(tmp_path):
    code, output = train(tmp_path)
    assert code == 0, output
    log = log_of(tmp_path)
    for title, line in (
        ('System environment', '    PyTorch: '),
        ('Config', "'mmgradaug.GradAugClassifier'"),
        ('Hooks will be executed in the following order', '(LOW         ) RunRecordHook'),
    ):
        assert re.search(rf'INFO - {title}: \d+ lines in {tmp_path}\S+\.log\n', output)
        assert line in log and line not in output
    # What comes later is as long as it likes.
    assert 'accuracy/top1' in output and 'Saving checkpoint at 2 iterations' in output


def test_data_that_are_elsewhere(tmp_path):
    code, output = run_tool(
        'train', 'configs/gradaug_r50_imagenet.py', '--work-dir', tmp_path,
        '--cfg-options', 'train_dataloader.dataset.data_root=no/such', 'model.backbone.depth=18',
        'model.head.in_channels=512',
    )  # fmt: skip
    assert code == 1 and output.splitlines()[-4:-1] == [
        'configs/gradaug_r50_imagenet.py, train_dataloader.dataset (ImageNet):',
        '  No such file or directory: no/such/train',
        '  Write where the data are on this machine, for instance '
        '--cfg-options train_dataloader.dataset.data_root=FOLDER',
    ]


def test_a_bug_in_a_step_keeps_its_traceback(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError('a matrix of the wrong shape')

    monkeypatch.setattr('torch.optim.SGD.step', broken)
    code, output = train(tmp_path)
    assert code == 1 and 'in broken' in output
    assert output.rstrip().splitlines()[-1] == 'RuntimeError: a matrix of the wrong shape'


def test_numbers_that_are_not_finite_are_told_without_a_traceback(tmp_path):
    code, output = train(tmp_path, 'optim_wrapper.optimizer.lr=1e38')
    assert code == 1 and 'Traceback' not in output
    assert output.splitlines()[-1].startswith('(NonFiniteError; the traceback is in ')
    assert '  not finite: the loss of the full network in iteration 1 is nan' in output


def error_of(error, log):
    terminal = Terminal({}, 'mine.py')
    terminal.log_file = str(log)
    with pytest.raises(SystemExit) as stopped:
        with terminal.short_error():
            raise error
    return str(stopped.value).splitlines()[1:]


def test_a_long_error_is_cut_in_its_middle_and_a_workers_told_by_its_last_line(tmp_path):
    lines = error_of(ValueError('\n'.join(f'line {i}' for i in range(100))), tmp_path / 'x.log')
    assert lines[1:-2] == [
        '  ValueError: line 0', *(f'  line {i}' for i in range(1, 6)), '  ...',
        *(f'  line {i}' for i in range(94, 100)),
    ]  # fmt: skip
    # This file is no library's.
    assert re.fullmatch(r'  at .*test_terminal.py, line \d+, in error_of: raise error', lines[-2])
    caught = (
        'Caught OSError in DataLoader worker process 0.\n'
        'Original Traceback (most recent call last):\n  File "a.py", line 3\nOSError: gone\n'
    )
    assert error_of(ValueError(caught), tmp_path / 'x.log')[1] == '  OSError: gone'


MINE = """
import torch
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS, TRANSFORMS


@MODELS.register_module(force=True)
class Mine(BaseModule):
    def __init__(self, early=False):
        super().__init__()
        if early:
            {}['missing']
        self.layer = torch.nn.Conv2d(1, 8, 3)

    def forward(self, x):
        return {}['missing']


@TRANSFORMS.register_module(force=True)
class Broken:
    def __call__(self, results):
        results['img_label'] = int('abc')
"""


@pytest.mark.parametrize(
    ('options', 'says', 'line'),
    [
        (['model.backbone.early=True'], "KeyError: 'missing'", 12),
        ([], 'could not be tried out, since it accepts no batch', 16),
        (['pipeline'], "ValueError: invalid literal for int() with base 10: 'abc'", 22),
    ],
    ids=['when it is made', 'when it is tried out', 'in a worker'],
)
def test_an_error_in_the_users_own_code_names_the_place(options, says, line, tmp_path, monkeypatch):
    (tmp_path / 'my_code.py').write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'my_code', raising=False)
    model = "model = dict(backbone=dict(_delete_=True, type='Mine'))"
    if options == ['pipeline']:
        options = ['train_dataloader.num_workers=1', 'train_dataloader.persistent_workers=False']
        model = "train_dataloader = dict(dataset=dict(pipeline=[dict(type='Broken'), dict(type='PackInputs')]))"
    (tmp_path / 'mine.py').write_text(
        f"_base_ = '{ROOT / CONFIG}'\ncustom_imports = dict(imports=['my_code'])\n{model}\n"
    )
    name = f'experiment_name={tmp_path.name}'
    given = [name, 'train_cfg.max_iters=2', 'train_cfg.val_interval=2', *options]
    code, output = run_tool(
        'train', tmp_path / 'mine.py', '--work-dir', tmp_path / 'run', '--cfg-options', *given
    )
    assert code == 1 and 'Traceback' not in output
    told = '\n'.join(output.splitlines()[-6:])
    assert says in told
    assert re.search(rf'at {tmp_path}/my_code.py, line {line}, in ', told), told


def test_a_process_with_workers_ends_after_an_error(tmp_path):
    """Workers outlive the one SIGTERM by which Python ends them at its exit."""
    (tmp_path / 'my_code.py').write_text(MINE)
    (tmp_path / 'mine.py').write_text(
        f"_base_ = '{ROOT / CONFIG}'\ncustom_imports = dict(imports=['my_code'])\n"
        'train_dataloader = dict(num_workers=2, persistent_workers=True, '
        "dataset=dict(pipeline=[dict(type='Broken'), dict(type='PackInputs')]))\n"
    )
    done = subprocess.run(
        [sys.executable, ROOT / 'tools' / 'train.py', tmp_path / 'mine.py', '--work-dir', 'run'],
        cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(tmp_path)}, capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    last = done.stderr.rstrip().splitlines()[-3:]
    assert 'my_code.py, line 22, in __call__' in last[1], done.stderr
    assert last[2].startswith('(RuntimeError; the traceback is in ')


def test_a_part_of_the_config_that_cannot_be_compared_hides_nothing(tmp_path):
    lines = error_of(ValueError('the reason'), tmp_path / 'x.log')
    assert lines[1] == '  ValueError: the reason'
    terminal = Terminal(dict(model=dict(type='A', value=np.ones(2))), 'mine.py')
    terminal.log_file = str(tmp_path / 'x.log')
    registry = Registry('things', locations=['test_terminal'])

    @registry.register_module()
    class A:
        def __init__(self, value):
            raise ValueError('the reason')

    with pytest.raises(SystemExit, match='the reason'), terminal.short_error():
        registry.build(dict(type='A', value=np.ones(2)))


def test_what_the_users_code_says_of_an_error_counts_more_than_its_cause(tmp_path):
    terminal = Terminal({}, 'mine.py')
    terminal.log_file = str(tmp_path / 'x.log')
    with pytest.raises(SystemExit) as stopped, terminal.short_error():
        try:
            {}['missing']
        except KeyError as error:
            raise ValueError('write width') from error
    assert str(stopped.value).splitlines()[2] == '  ValueError: write width'


def test_a_slip_of_this_package_in_a_step_keeps_its_traceback(tmp_path):
    terminal = Terminal({}, 'mine.py')
    terminal.log_file = str(tmp_path / 'x.log')
    scope = {}
    slip = "def run_iter(losses):\n    return losses['loss']\n"
    exec(compile(slip, str(ROOT / 'mmgradaug' / 'slip.py'), 'exec'), scope)
    with pytest.raises(KeyError), terminal.short_error():
        scope['run_iter']({})


def test_a_layer_that_is_no_part_of_the_model_is_told_by_its_class(tmp_path):
    terminal = Terminal({}, 'mine.py')
    terminal.log_file = str(tmp_path / 'x.log')
    other = torch.nn.Linear(7, 2)

    class Model(torch.nn.Module):
        def forward(self, images):
            return other(images)

    with pytest.raises(SystemExit, match="'Linear' takes 7 features and is given 5"):
        with terminal.short_error():
            Model()(torch.zeros(1, 5))


def test_without_a_log_file_the_traceback_stays(tmp_path):
    terminal = Terminal({}, 'mine.py')
    with pytest.raises(ValueError, match='wrong'), terminal.short_error():
        raise ValueError('wrong')
    terminal.log_file = str(tmp_path / 'gone' / 'x.log')
    with pytest.raises(ValueError, match='wrong'), terminal.short_error():
        raise ValueError('wrong')


FILES = [
    ('x = dict(', "{0}/mine.py, line 1: '(' was never closed"),
    ("_base_ = 'nothere.py'", 'there is no file {0}/nothere.py; _base_ names it'),
    (
        "_base_ = 'configs/finetune/gradaug_r50.py'",
        "there is no file {0}/configs/finetune/gradaug_r50.py; _base_ names it. Of this package's configs write the "
        f"whole path: '{ROOT}/configs/finetune/gradaug_r50.py'",
    ),
    ("_base_ = 'base.py'", '{0}/base.py, line 2: unterminated string literal'),
    (
        "custom_imports = dict(imports=['not_here'], allow_failed_imports=False)",
        "No module named 'not_here', which the config or a module of custom_imports needs; install it",
    ),
]


@pytest.mark.parametrize(('text', 'says'), FILES)
def test_a_config_that_cannot_be_read(text, says, tmp_path):
    (tmp_path / 'base.py').write_text("a = 1\nb = 'open\n")
    (tmp_path / 'mine.py').write_text(text)
    code, output = run_tool('train', tmp_path / 'mine.py', '--work-dir', tmp_path / 'run')
    assert code == 1 and 'Traceback' not in output
    first, second = output.splitlines()[-2:]
    assert first == f'{tmp_path}/mine.py cannot be read:'
    assert second.strip().startswith(says.format(tmp_path))


def test_a_config_that_does_not_fit_its_base(tmp_path):
    (tmp_path / 'base.py').write_text('model = dict(backbone=dict(init_cfg=None))\n')
    text = "_base_ = 'base.py'\nmodel = dict(backbone=dict(init_cfg=dict(type='Pretrained')))\n"
    (tmp_path / 'mine.py').write_text(text)
    with pytest.raises(UserError, match=r'mine.py cannot be read:\n.*init_cfg.*_delete_=True'):
        read_config(tmp_path / 'mine.py')


def test_white_space_in_options_is_not_taken_out_in_silence():
    for option in ('work_dir=my runs', 'a=[/data/my files/x.pth]', 'a=(x,my runs)'):
        with pytest.raises(UserError, match='MMEngine takes white space out'):
            parse_options([option])
    given = ['a=[1, 2]', 'b= 3', 'c=1, 2', 'd="[1, 2]"', 'e=[(1, 2), 3]']
    assert parse_options(given) == dict(a=[1, 2], b=3, c=[1, 2], d=[1, 2], e=[(1, 2), 3])
    with pytest.raises(UserError, match="takes KEY=VALUE, got 'max_iters'"):
        parse_options(['max_iters'])


def test_a_file_that_a_config_opens_is_not_told_as_its_base(tmp_path):
    (tmp_path / 'base.py').write_text("table = open('labels.json').read()\n")
    (tmp_path / 'mine.py').write_text("_base_ = 'base.py'\n")
    with pytest.raises(FileNotFoundError, match='labels.json'):
        read_config(tmp_path / 'mine.py')


FOUND_BEFORE = [
    (['--resume', 'no/such.pth'], 'no such checkpoint: no/such.pth'),
    (['--cfg-options', 'load_from=no/such.pth'], 'load_from=no/such.pth is not there'),
    (
        ['--cfg-options', 'optim_wrapper.optimizer.type=SDG'],
        'there is no optimizer SDG: do you mean SGD?',
    ),
]


def test_a_head_of_the_wrong_width_is_named(tmp_path):
    options = [f'experiment_name={tmp_path.name}', 'model.head.in_channels=7']
    plain = CONFIG.replace('gradaug', 'baseline')
    code, output = run_tool('train', plain, '--work-dir', tmp_path, '--cfg-options', *options)
    assert code == 1 and 'Traceback' not in output
    assert (
        "the model's 'head.fc' takes 7 features and is given 64 (is head.in_channels wrong?)"
        in output
    )


def test_a_damaged_file_to_resume_from_is_told_with_the_way_to_the_newest_whole_one(tmp_path):
    (tmp_path / 'cut.pth').write_bytes(b'PK\x03\x04' + bytes(100))
    code, output = run_tool(
        'train', CONFIG, '--work-dir', tmp_path / 'run', '--resume', tmp_path / 'cut.pth'
    )
    assert (
        code == 1 and 'cut.pth is cut off' in output and '--resume without a file takes' in output
    )
    (tmp_path / 'folder.pth').mkdir()
    code, output = run_tool('train', CONFIG, '--cfg-options', f'load_from={tmp_path}/folder.pth')
    assert code == 1 and f'load_from={tmp_path}/folder.pth is a folder' in output


@pytest.mark.parametrize(('arguments', 'says'), FOUND_BEFORE)
def test_found_before_anything_is_built(arguments, says, tmp_path):
    code, output = run_tool('train', CONFIG, '--work-dir', tmp_path, *arguments)
    assert code == 1 and says in output and len(output.splitlines()) <= 2
    assert not any(tmp_path.iterdir())
