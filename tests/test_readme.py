"""Commands of the README and of docs/reproduce.md, and the README's config, are run: on tiny data, two iterations."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import MMGRADAUG, ROOT, SMALL, TINY_MASK_RCNN, options, run, run_tool
from mmengine.config import Config
from PIL import Image

README = (ROOT / 'README.md').read_text()
REPRODUCE = (ROOT / 'docs' / 'reproduce.md').read_text()
COMMANDS = [
    line
    for block in re.findall(r'```bash\n(.*?)```', README + REPRODUCE, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
(CONFIG,) = re.findall(r'```python\n(_base_.*?)```', README, re.DOTALL)


@pytest.fixture(scope='module')
def user(imagenet, shapes, pretrained, tmp_path_factory):
    """A folder like a checkout, with the data in place, a pretrained backbone, the README's config."""
    folder = tmp_path_factory.mktemp('user')
    for name in ('configs', 'tools', 'Makefile'):
        (folder / name).symlink_to(ROOT / name)
    (folder / 'data').mkdir()
    (folder / 'data' / 'imagenet').symlink_to(imagenet)
    (folder / 'data' / 'coco').symlink_to(shapes)
    (folder / 'epoch_120.pth').symlink_to(pretrained)
    for split in ('train', 'test'):
        for label in range(100):
            (folder / 'cifar' / split / f'{label:02d}').mkdir(parents=True)
            image = Image.new('RGB', (32, 32), (label, 2 * label, 128))
            image.save(folder / 'cifar' / split / f'{label:02d}' / '0.png')
    for split, number in (('train', 26), ('test', 1)):
        for label in range(10):
            (folder / 'cifar10' / split / str(label)).mkdir(parents=True)
            for i in range(number):
                image = Image.new('RGB', (32, 32), (label, 2 * label, i))
                image.save(folder / 'cifar10' / split / str(label) / f'{i}.png')
    for label in range(4):
        place = folder / 'imagenet-c' / 'fog' / '1' / f'n{label}'
        place.mkdir(parents=True)
        Image.new('RGB', (32, 32), (label, 0, 0)).save(place / '0.png')
    (folder / 'my_config.py').write_text(CONFIG)
    return folder


def run_small(command, user, imagenet):
    """A training or testing command with tiny settings at its end, and 2 processes instead of 8."""
    parts = shlex.split(re.sub(r'epoch_\d+.pth', 'epoch_1.pth', command))
    parts = ['2' if part == '8' else part for part in parts]
    if parts[0] in ('python', 'mim'):
        parts[0] = str(Path(sys.executable).parent / parts[0])
    if parts[0] == 'mmgradaug':
        parts[:1] = MMGRADAUG
    if 'digits' in command and ' sweep ' in command:
        settings = [
            '--seeds',
            '1',
            '--cfg-options',
            'train_cfg.max_iters=2',
            'train_cfg.val_interval=2',
        ]
        return run(*parts, *settings, cwd=user)
    if 'my_config.py' in command:  # MMPretrain's own tools keep workers that are not there
        more = [f'{name}_dataloader.persistent_workers=False' for name in ('train', 'val')]
    else:
        more = [f'work_dir={user}/work_dirs/gradaug_r50_imagenet']
    if ' report ' in command:
        settings = ['--out', user / 'work_dirs' / 'report']
    elif 'table10' in command:
        parts[parts.index('--seeds') + 1] = '1'
        parts[parts.index('250 labels')] = (
            'cifar10 Baseline'  # the one row with the config's labels
        )
        small = ['model.backbone.depth=10', 'model.backbone.widen_factor=1']
        small += ['model.head.in_channels=64', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2']
        small += ['train_dataloader.batch_size=4', 'default_hooks.logger.interval=1']
        for name in ('train', 'val', 'test'):
            small += [f'{name}_dataloader.num_workers=0']
            small += [f'{name}_dataloader.persistent_workers=False']
        settings = ['--cfg-options', *small, '--work-dir', user / 'work_dirs' / 'low_data']
    elif 'table4' in command or 'cifar' in command:
        small = [
            'model.backbone.depth=10',
            'model.backbone.widen_factor=1',
            'model.head.in_channels=64',
        ]
        small += ['train_cfg.max_epochs=1', 'train_dataloader.dataset.indices=8']
        small += ['val_dataloader.dataset.indices=8', 'train_dataloader.batch_size=4']
        for name in ('train', 'val', 'test'):
            small += [f'{name}_dataloader.num_workers=0']
            small += [f'{name}_dataloader.persistent_workers=False']
        settings = ['--cfg-options', *small]
        if 'table4' in command:
            parts[parts.index('--seeds') + 1] = '1'
            settings = [
                '--only',
                'randscale',
                '--work-dir',
                user / 'work_dirs' / 'sweep',
                *settings,
            ]
        else:
            settings += ['default_hooks.logger.interval=1', f'work_dir={user}/work_dirs/cifar']
    elif 'mask_rcnn' in command:
        # SyncBN needs GPUs in several processes.
        settings = ['--cfg-options', *TINY_MASK_RCNN, 'model.backbone.norm_cfg.type=BN']
        settings += [f'model.backbone.init_cfg.checkpoint={user}/epoch_120.pth']
        settings += ['train_cfg.max_epochs=1', f'work_dir={user}/work_dirs/mask_rcnn_gradaug']
    else:
        settings = options(imagenet, *SMALL, *more)
        if 'my_config.py' in command:  # it scales by factors
            settings.remove('model.gradaug.transforms.sizes=[64,48]')
    places = {f'CIFAR{n}_FOLDER': str(user / name) for n, name in ((100, 'cifar'), (10, 'cifar10'))}
    if parts[1].startswith('tools/'):  # here, which spares the imports
        return run_tool(Path(parts[1]).stem, *parts[2:], *settings, cwd=user, **places)
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    return run(*parts, *settings, cwd=user, PATH=path, PORT='29641', **places)


def test_there_are_commands():
    assert len(COMMANDS) == 19, COMMANDS


@pytest.mark.parametrize('command', [c for c in COMMANDS if c.startswith('make ')])
def test_make_targets_exist(command):
    """What they do is tested by the quick start's own test, and by this very run."""
    done = subprocess.run([*command.split(), '--dry-run'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and '.venv/bin/python' in done.stdout, done.stderr


@pytest.mark.parametrize('command', [c for c in COMMANDS if not c.startswith('make ')])
def test_command_runs(command, user, imagenet):
    """In the README's order: testing finds the checkpoint that training left."""
    code, output = run_small(command, user, imagenet)
    assert code == 0, output[-3000:]
    if ' sweep ' in command:
        assert 'mmgradaug report' in output and 'final weights' in output.lower()
        return
    if ' report ' in command:
        page = (user / 'work_dirs' / 'report' / 'index.html').read_text()
        assert '82.27' in page or 'your own setting' in page
        return
    assert ('coco/segm_mAP' if 'mask_rcnn' in command else 'accuracy/top1') in output
    if 'train' in command:
        assert 'loss_subnet2' in output


def test_lines_that_add_gradaug_are_five():
    """custom_imports, type, gradaug, custom_hooks, model_wrapper_cfg."""
    body = CONFIG.split('\n\n', 1)[1]
    assert len([line for line in body.splitlines() if line not in ('model = dict(', '')]) == 5


def test_linked_files_exist_and_every_config_is_named():
    for file in (ROOT / 'README.md', *(ROOT / 'docs').rglob('*.md')):
        links = re.findall(r'\]\((?!https?:|#)([^)#]+)', file.read_text())
        assert [link for link in links if not (file.parent / link).exists()] == [], file
    configs = {p for name in ('imagenet', 'coco') for p in (ROOT / 'configs' / name).glob('*.py')}
    configs |= {ROOT / 'configs/gradaug_r50_imagenet.py', ROOT / 'configs/mask_rcnn_gradaug.py'}
    assert [p.name for p in configs if f'](../{p.relative_to(ROOT)})' not in REPRODUCE] == []


def test_figures_of_the_table_are_those_of_the_config_headers():
    rows = re.findall(r'\| \[[^]]+\]\(\.\./(configs/[^)]+)\) \|[^|]*\| ([\d.]+) / ', REPRODUCE)
    rows = [row for row in rows if 'mask_rcnn' not in row[0]]
    assert len(rows) == 20
    for path, top1 in rows:
        assert f'{top1} top-1' in (ROOT / path).read_text(), path
        Config.fromfile(ROOT / path)
    rows = re.findall(
        r'\]\(\.\./(configs/[^)]*mask_rcnn[^)]*)\) \|[^|]*\| ([\d.]+) / ([\d.]+)', REPRODUCE
    )
    assert len(rows) == 5
    for path, box, mask in rows:
        assert f'{box} box AP, {mask} mask AP' in (ROOT / path).read_text(), path


def test_figures_of_few_labels_are_those_of_the_config_headers():
    rows = [line for line in REPRODUCE.splitlines() if line.startswith('|') and 'low_data/' in line]
    assert len(rows) == 4
    for row in rows:
        (path,) = re.findall(r'\(\.\./(configs/low_data/[^)]+)\)', row)
        headers = (ROOT / path).read_text() + (ROOT / path.replace('cifar10', 'stl10')).read_text()
        figures = re.findall(r'\d\d\.\d\d', row)
        assert len(figures) >= 3 and all(f'{figure} +-' in headers for figure in figures), row
