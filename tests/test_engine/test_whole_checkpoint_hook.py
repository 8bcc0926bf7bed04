"""Checkpoints after kills, damage and full disks: what a run finds and what it leaves."""

import errno
import json
import os
import random
import shutil
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from command_line import ROOT
from faults import ERRNO, HarmsTheDisk, file_too_large, removed_folder, zero, zero_a_tensor
from mmengine.config import Config
from mmengine.hooks import Hook
from resumable import differences, final_state, train

from mmgradaug.checkpoint import DamagedCheckpointError, damage_of, load_from_local
from mmgradaug.engine import RunRecordHook, whole_checkpoint_hook
from mmgradaug.files import beside_its_place, write_whole

PLAIN = dict(exact=False)


def names(folder):
    return sorted(path.name for path in Path(folder).glob('*.pth*'))


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp('finished')
    train(folder, **PLAIN, keep=3)
    return folder


@pytest.fixture
def work_dir(finished, tmp_path):
    shutil.copytree(finished, tmp_path / 'work_dir')
    return tmp_path / 'work_dir'


def test_it_keeps_what_mmengines_hook_keeps(tmp_path):
    """File by file and key by key, the best one too."""
    kept = {}
    for hook in ('CheckpointHook', 'mmgradaug.WholeCheckpointHook'):
        folder = tmp_path / hook
        train(folder, **PLAIN, epochs=4, keep=2, checkpoint=dict(type=hook))
        kept[hook] = names(folder)
        keys = torch.load(folder / 'epoch_4.pth', weights_only=True)
        kept[hook] += [*keys, *keys['meta'], *keys['message_hub']['runtime_info']]
    stock, ours = kept.values()
    assert stock == ours and stock[:2] == ['epoch_3.pth', 'epoch_4.pth']
    assert (
        tmp_path / 'mmgradaug.WholeCheckpointHook' / 'last_checkpoint'
    ).read_text() == 'epoch_4.pth'


@pytest.mark.parametrize(
    ('harm', 'says'),
    [
        (lambda path: path.write_bytes(b''), 'is empty'),
        (lambda path: os.truncate(path, path.stat().st_size // 2), 'is cut off'),
        (lambda path: os.truncate(path, path.stat().st_size - 1), 'is cut off'),
        (zero, 'is damaged: archive/data'),
        (lambda path: zero(path, 0.0), 'is not a file that torch.save writes'),
        (lambda path: path.write_text('a text'), 'is not a file that torch.save writes'),
        (lambda path: (path.unlink(), path.mkdir()), 'is a folder'),
    ],
)
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_taken(
    work_dir, harm, says, capfd
):
    path = work_dir / 'epoch_3.pth'
    harm(path)
    assert says in damage_of(path)
    with pytest.raises(DamagedCheckpointError, match=says):
        load_from_local(str(path))
    if path.is_dir():
        path.rmdir()  # nobody can write there
        return
    runner = train(work_dir, **PLAIN, keep=3, resume=True)
    assert runner._load_from == str(work_dir / 'epoch_2.pth')
    assert f'not resumed from: {path} {says}' in ''.join(capfd.readouterr())
    assert damage_of(path) is None  # written again


def test_torch_itself_loads_a_file_with_zeros_in_it(work_dir):
    """So the checksum is not checked twice."""
    zero_a_tensor(work_dir / 'epoch_3.pth')
    torch.load(work_dir / 'epoch_3.pth', weights_only=True)
    assert 'checksum' in damage_of(work_dir / 'epoch_3.pth')


def test_no_single_wrong_byte_goes_unnoticed(work_dir):
    """Either it is found, or it lies where nothing is read and the contents are the same."""
    path = work_dir / 'epoch_1.pth'
    good = path.read_bytes()
    whole = final_state(work_dir, path.name)
    rng = random.Random(0)
    found = 0
    for _ in range(300):
        data = bytearray(good)
        place = rng.randrange(len(data))
        data[place] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            load_from_local(str(path))
            assert not differences(whole, final_state(work_dir, path.name)), place
        except DamagedCheckpointError:
            found += 1
    assert found > 200


@pytest.mark.parametrize('last', [None, '', 'torn/pa', '/no/such/epoch_9.pth', 'epoch_1.pth'])
def test_what_last_checkpoint_says_does_not_matter(work_dir, last):
    if last is None:
        (work_dir / 'last_checkpoint').unlink()
    else:
        (work_dir / 'last_checkpoint').write_text(last)
    moved = work_dir.rename(work_dir.with_name('renamed'))
    assert train(moved, **PLAIN, resume=True)._load_from == str(moved / 'epoch_3.pth')


def test_an_earlier_run_in_the_same_folder_is_not_the_newest(tmp_path):
    """Its checkpoints have higher numbers."""
    train(tmp_path, **PLAIN, epochs=5)
    time.sleep(1.1)  # MMEngine dates by the second
    train(tmp_path, **PLAIN, epochs=5, stop_at=17)
    assert names(tmp_path) == ['epoch_1.pth', 'epoch_2.pth', 'epoch_4.pth', 'epoch_5.pth']
    runner = train(tmp_path, **PLAIN, epochs=5, resume=True)
    assert runner._load_from == str(tmp_path / 'epoch_2.pth')


def test_nothing_whole_is_no_reason_to_start_afresh(work_dir, capfd):
    for path in work_dir.glob('*.pth'):
        zero(path)
    with pytest.raises(FileNotFoundError, match='epoch_1.pth is damaged.*--from-scratch'):
        train(work_dir, **PLAIN, resume=True)
    assert train(work_dir, **PLAIN).iter == 24
    assert 'of an earlier run. This one begins afresh' in ''.join(capfd.readouterr())
    empty = train(work_dir.with_name('empty'), **PLAIN, resume=True)
    assert empty.iter == 24


def test_the_old_one_is_deleted_after_the_new_one_is_whole(tmp_path, monkeypatch):
    """Looked at from inside of every write."""
    seen = []

    def watched(file, content):
        seen.append(names(tmp_path))
        write_whole(file, content)

    monkeypatch.setattr(whole_checkpoint_hook, 'write_whole', watched)
    train(tmp_path, **PLAIN, keep=1)
    assert seen[2:] == [
        ['epoch_1.pth'], ['epoch_1.pth', 'epoch_2.pth'],
        ['epoch_2.pth'], ['epoch_2.pth', 'epoch_3.pth'],
    ]  # fmt: skip
    assert names(tmp_path) == ['epoch_3.pth']


class ScoresEachEpoch(Hook):
    """Stands in for a validation: its scores go up, then down."""

    def after_train_epoch(self, runner):
        score = [0.1, 0.3, 0.2][runner.epoch]
        hook = next(hook for hook in runner.hooks if hasattr(hook, 'save_best'))
        hook.after_val_epoch(runner, dict(accuracy=score))


def test_the_previous_best_too(tmp_path, monkeypatch):
    seen = []

    def watched(file, content):
        seen.append((file.name, [n for n in names(tmp_path) if n.startswith('best')]))
        write_whole(file, content)

    monkeypatch.setattr(whole_checkpoint_hook, 'write_whole', watched)
    options = dict(register=[ScoresEachEpoch()], checkpoint=dict(save_best='accuracy'))
    train(tmp_path, **PLAIN, **options)
    second = [found for name, found in seen if name == 'best_accuracy_epoch_1.pth']
    assert second == [['best_accuracy_epoch_0.pth']]
    assert [name for name in names(tmp_path) if 'best' in name] == ['best_accuracy_epoch_1.pth']


def test_a_kill_in_the_middle_of_a_write_loses_nothing(tmp_path):
    """The writing process is killed while half of the new file is on the disk."""
    process = os.fork()
    if not process:
        fsync = os.fsync

        def die(descriptor):
            path = os.readlink(f'/proc/self/fd/{descriptor}')
            if 'epoch_3.pth' in path:
                os.truncate(path, os.path.getsize(path) // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(descriptor)

        os.fsync = die
        train(tmp_path, exact=False, keep=1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    whole, half = names(tmp_path)
    assert whole == 'epoch_2.pth' and half.startswith('epoch_3.pth.') and half.endswith('.partial')
    assert (tmp_path / 'last_checkpoint').read_text() == 'epoch_2.pth'
    runner = train(tmp_path, **PLAIN, keep=1, resume=True)
    assert runner._load_from.endswith('epoch_2.pth')
    assert names(tmp_path) == ['epoch_3.pth']


def test_a_kill_before_the_old_one_is_deleted_leaves_none_over(tmp_path):
    train(tmp_path, **PLAIN, keep=1, epochs=2)
    third = tmp_path / 'third'
    train(third, **PLAIN, keep=2, epochs=2)  # as if killed in between: its list names both
    contents = torch.load(third / 'epoch_2.pth', weights_only=True)
    assert contents['message_hub']['runtime_info']['keep_ckpt_ids'] == [1, 2]
    train(third, **PLAIN, keep=1, resume=True)
    assert names(third) == ['epoch_3.pth']


@pytest.mark.parametrize('harm', ERRNO)
def test_a_disk_that_refuses_costs_a_warning_a_save_and_the_last_good_one_stays(
    tmp_path, capfd, harm
):
    options = dict(PLAIN, keep=1, by_epoch=False)
    tmp_path.chmod(0o755)
    stopped = train(tmp_path, [HarmsTheDisk(harm, 5, saves=2)], stop_at=6, **options)
    assert stopped.iter == 5 and names(tmp_path) == ['iter_4.pth']
    assert damage_of(tmp_path / 'iter_4.pth') is None
    said = ''.join(capfd.readouterr())
    for name in ('iter_5.pth', 'iter_6.pth'):
        assert said.count(f'{name} could not be saved (') == 1
    assert f'[Errno {ERRNO[harm]}] {os.strerror(ERRNO[harm])}' in said
    resumed = train(tmp_path, [HarmsTheDisk(harm, 9, saves=2)], resume=True, **options)
    assert resumed._load_from == str(tmp_path / 'iter_4.pth')
    assert resumed.iter == 24 and names(tmp_path) == ['iter_24.pth']


@contextmanager
def full_disk_for_the_logs(folder, name):
    (scalars,) = folder.glob('*/vis_data/scalars.json')
    scalars.unlink()
    scalars.symlink_to('/dev/full')
    beside_its_place(folder / 'run.json').symlink_to('/dev/full')
    yield


def test_a_full_disk_costs_the_logs_a_warning(tmp_path, capfd):
    hooks = [HarmsTheDisk(full_disk_for_the_logs, 9), RunRecordHook()]
    assert train(tmp_path, **PLAIN, register=hooks).iter == 24
    said = ''.join(capfd.readouterr())
    assert said.count('scalars are not logged while the disk refuses them') == 1
    assert said.count('run.json could not be written ([Errno 28]') == 1
    assert json.loads((tmp_path / 'run.json').read_text())['iterations'] == 24


def test_a_run_whose_last_state_cannot_be_saved_fails_and_goes_on_later(tmp_path, capfd):
    train(tmp_path, **PLAIN, keep=1, stop_at=17)
    with file_too_large(tmp_path, ''):
        with pytest.raises(RuntimeError, match='its result could not be saved'):
            train(tmp_path, **PLAIN, keep=1, resume=True)
    assert os.strerror(errno.EFBIG) in ''.join(capfd.readouterr())
    assert names(tmp_path) == ['epoch_2.pth'] and damage_of(tmp_path / 'epoch_2.pth') is None
    assert train(tmp_path, **PLAIN, keep=1, resume=True).iter == 24


def test_a_folder_that_was_removed_is_made_again(tmp_path):
    out = tmp_path / 'out'
    hook = HarmsTheDisk(lambda folder, name: removed_folder(out, name), 9)
    train(tmp_path / 'work', **PLAIN, register=[hook], checkpoint=dict(out_dir=str(out)))
    assert names(out / 'work') == ['epoch_2.pth', 'epoch_3.pth']
    runner = train(tmp_path / 'work', **PLAIN, resume=True, checkpoint=dict(out_dir=str(out)))
    assert runner._load_from == str(out / 'work' / 'epoch_3.pth')


def test_a_folder_that_cannot_be_written_to_fails_the_run_at_its_end_alone(tmp_path, capfd):
    out = tmp_path / 'out'
    out.write_text('')
    with pytest.raises(RuntimeError, match='its result could not be saved'):
        train(tmp_path / 'work', **PLAIN, checkpoint=dict(out_dir=str(out)))
    said = ''.join(capfd.readouterr())
    assert said.count('could not be saved (NotADirectoryError') == 3


def test_configs_save_by_it():
    for config in ('configs/gradaug_r50_imagenet.py', 'configs/quickstart/digits_gradaug.py'):
        assert Config.fromfile(ROOT / config).default_hooks.checkpoint.type.endswith(
            'WholeCheckpointHook'
        )
