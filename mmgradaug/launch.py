"""What training and testing share: OpenMMLab's flags, running without a GPU, strictness on checkpoints."""

import argparse
import os
import pickle
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import torch
import torch.distributed as dist
from mmengine.config import Config, DictAction
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import CheckpointLoader, Runner

from .arguments import nearest
from .checkpoint import absence_of, weights_of
from .config_types import settings_in
from .engine.config_check import ELSEWHERE, KNOWN, built_from, copies_of, problems_of
from .files import UserError
from .loading import loading_report, unwrapped
from .resources import find_config

# MMEngine's default hooks.
OWN_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')

# In our configs already; of anybody's config the data are checked too, and the report finds the run.
TRAINING_HOOKS = dict(
    data_check='mmgradaug.DataCheckHook',
    weights_check='mmgradaug.WeightsCheckHook',
    run_record='mmgradaug.RunRecordHook',
)


# By test-time augmentation and MMEngine's FlexibleRunner.
READ_TOO = ('tta_model', 'tta_pipeline', 'strategy')


# White space that is not beside a comma, a bracket or a quotation mark.
WITHIN_WORDS = re.compile(r"""[^\s,()\[\]{}'"]\s+[^\s,()\[\]{}'"]""")


class Options(DictAction):
    """MMEngine's KEY=VALUE, from which it would take white space in silence: 'my runs' would be 'myruns'."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        for option in values or ():
            _, equals, text = option.partition('=')
            if not equals:
                raise UserError(f'--cfg-options takes KEY=VALUE, got {option!r}')
            if WITHIN_WORDS.search(text):
                raise UserError(
                    f'--cfg-options {option!r}: MMEngine takes white space out of values. Write this one into the '
                    'config, or use a path without'
                )
        super().__call__(parser, namespace, values, option_string)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. --cfg-options train_dataloader.batch_size=128 '
        'model.gradaug.min_width=0.8; a list as key="[a,b]", without white space',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes of a distributed run are started (tools/dist_*.sh set it)',
    )
    # Older launchers pass it instead of setting LOCAL_RANK.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def load_config(
    name: str,
    options: Optional[dict[str, Any]] = None,
    stages: Sequence[str] = (),
    work_dir: Optional[str] = None,
    launcher: str = 'none',
) -> Config:
    """The config with the command line's settings: launcher, work dir, options, and what a CPU needs.

    Args:
        name: its path, or its path below configs/.
        options: as ``--cfg-options`` gives them.
        stages: 'train', 'val' or 'test', whose annotation files are looked at here.

    Raises:
        UserError: there is no such config, or something is wrong with it.
    """
    config = find_config(name)
    if config is None:
        raise UserError(f'{sys.argv[0]}: no such config: {name}')
    cfg = read_config(config)
    cfg.launcher = launcher
    merge_options(cfg, options or {})
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(name).stem)
    problems = problems_of(cfg, stages)
    if problems:
        raise UserError('\n'.join([f'{name}:', *(f'  {problem}' for problem in problems)]))
    cfg.default_hooks = cfg.get('default_hooks') or {}
    hooks = cfg.default_hooks
    if 'train' in stages:
        for name, hook in TRAINING_HOOKS.items():
            hooks.setdefault(name, dict(type=hook))
    for name in [name for name, hook in hooks.items() if hook is None and name not in OWN_HOOKS]:
        del hooks[name]  # of its own hooks alone MMEngine lets one be left out
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader: Any = cfg.get(name) or {}
        if loader.get('pin_memory') and not torch.cuda.is_available():
            loader.pin_memory = False
        if loader.get('persistent_workers') and loader.get('num_workers', 0) == 0:
            loader.persistent_workers = False  # PyTorch refuses it without workers
    return cfg


def read_config(config: Path, imports: bool = True) -> Config:
    """A config file with what it builds on.

    Raises:
        UserError: it, or one that it builds on, is missing or no Python, or a module it names is not installed.
    """
    try:
        return Config.fromfile(config, import_custom_modules=imports)
    except TypeError as error:
        if 'base config' not in str(error):
            raise
        raise UserError(
            f'{config} cannot be read:\n  {error}'
        ) from error  # MMEngine says what to write
    except (SyntaxError, FileNotFoundError, ImportError) as error:
        root: BaseException = error
        while type(root) is ImportError and (root.__cause__ or root.__context__):
            root = root.__cause__ or root.__context__ or root
        if isinstance(root, SyntaxError):
            if root.filename not in (None, '', '<unknown>', '<string>'):
                raise  # of an imported module
            reason = f'{_file_read(error) or config}, line {root.lineno}: {root.msg}'
        elif isinstance(root, FileNotFoundError) and root.filename:
            if str(root.filename) != _file_read(error):
                raise  # the config, or a module that it imports, opens a file
            reason = f'there is no file {root.filename}'
            if Path(root.filename) != config:
                reason += f'; _base_ names it{_own_config(root.filename)}'
        elif isinstance(root, ModuleNotFoundError):
            reason = (
                f'{root}, which the config or a module of custom_imports needs; install it, or put its folder '
                'into PYTHONPATH'
            )
        else:
            raise
        raise UserError(f'{config} cannot be read:\n  {reason}') from error


def _own_config(path: str) -> str:
    """What to write for a config of this package, whose path ends alike."""
    name = path.rpartition('configs/')[2]
    found = find_config(f'configs/{name}')
    return f". Of this package's configs write the whole path: '{found}'" if found else ''


def _file_read(error: BaseException) -> Optional[str]:
    """Which config MMEngine was reading: the one asked for or one of its ``_base_``."""
    files = [
        frame.f_locals.get('filename')
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename.endswith('config.py')
    ]
    return next((str(file) for file in reversed(files) if file), None)


def merge_options(cfg: Config, options: dict[str, Any]) -> None:
    """Put ``--cfg-options`` on top of a config.

    Raises:
        UserError: one would change nothing: it is of a variable that the config has already been put together from,
            or of a name that neither the config nor MMEngine has.
    """
    for option in options:
        name = option.split('.')[0]
        if name not in KNOWN and name not in cfg and name not in READ_TOO:
            raise UserError(
                f'--cfg-options {option}: the config has no {name}, so this would change nothing. {_meant(name, cfg)}'
            )
        places = copies_of(cfg, name) if name in cfg and name not in KNOWN else []
        if not places and name in ('train_pipeline', 'val_pipeline', 'test_pipeline'):
            places = [f'{name.split("_")[0]}_dataloader.dataset.pipeline']
        if not places and name not in KNOWN and name not in READ_TOO:
            print(
                f'--cfg-options {option}: {name} is a variable of the config. Unless code of your own reads it, this '
                'changes nothing',
                flush=True,
            )
        if places:
            written = [place + option[len(name) :] for place in places]
            more = f', and so in {len(written) - 3} more places' if len(written) > 3 else ''
            built = built_from(cfg, name)
            paths = f', and the paths below it: {", ".join(built[:3])}' if built else ''
            raise UserError(
                f'--cfg-options {option}: {name} is a variable that the config was put together from, so this would '
                f'change nothing. Write {" and ".join(written[:3])}{more}{paths}'
            )
    cfg.merge_from_dict(options)


def _meant(name: str, cfg: Config) -> str:
    """What to write instead of a name that is not at the top of a config."""
    if name in ELSEWHERE:
        return f'Write {ELSEWHERE[name]}, as --cfg-options a path with dots'
    known = settings_in({key: cfg[key] for key in cfg if key in KNOWN})
    places = sorted((where for where, key, _ in known if key == name), key=lambda p: p.count('.'))
    if places:
        more = f' or another of {len(places)}' if len(places) > 3 else ''
        return f'Do you mean {" or ".join(places[:3])}{more}?'
    near = nearest(name, [*KNOWN, *cfg])
    hint = f'Do you mean {near}? ' if near else ''
    return f'{hint}What is not in the config yet, write into the config'


def parse_options(options: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE, as ``--cfg-options`` takes them, for ``Config.merge_from_dict``."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='*', action=Options)
    return parser.parse_args(['--cfg-options', *options]).cfg_options or {}


def prepare_launch(cfg: Config, local_rank: int) -> None:
    """Make a distributed run work without a GPU too, and refuse more processes than GPUs."""
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    if cfg.launcher != 'pytorch':
        return
    processes = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    if torch.cuda.is_available():
        if processes > torch.cuda.device_count():
            raise UserError(
                f'{processes} processes were started on a machine with {torch.cuda.device_count()} '
                'GPUs: start one a GPU'
            )
        return
    # MMEngine would set a CUDA device before it starts the process group, and tell DDP of one.
    dist.init_process_group('gloo')
    cfg.model_wrapper_cfg = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel', broadcast_buffers=False
    )
    cfg.model_wrapper_cfg.device_ids = None


@contextmanager
def earlier_dump_kept(cfg: Config) -> Iterator[None]:
    """While a runner is made, which dumps its config: that of an earlier training belongs to its checkpoints.

    DumpConfigHook dumps this one once the training begins.
    """
    dump = Path(cfg.work_dir) / Path(cfg.filename).name
    earlier = dump.read_bytes() if is_main_process() and dump.is_file() else None
    yield
    if earlier is not None and is_main_process():  # before, all of Slurm's and MPI's were
        dump.write_bytes(earlier)


class DumpConfigHook(Hook):
    """Dumps the config to the work dir when nothing has been refused any more."""

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        runner.dump_config()


def require_checkpoint(checkpoint: str) -> None:
    """Raise UserError if there is no such file; of a URL nothing is known yet."""
    absence = absence_of(checkpoint)
    if absence is not None:
        there = sorted(Path(checkpoint).parent.glob('*.pth'), key=lambda file: file.stat().st_mtime)
        newest = f'; the newest one in this folder is {there[-1]}' if there else ''
        raise UserError(f'{sys.argv[0]}: no such checkpoint: {checkpoint} {absence}{newest}')


def accumulation(cfg: Config) -> int:
    """Iterations whose gradients make an optimizer step."""
    return int((cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1))


def warn_of_rates(cfg: Config, runner: Runner) -> None:
    """Warn of learning rates that are not what one may think: for another batch, or for parts that are not there."""
    scale = cfg.get('auto_scale_lr') or {}
    base, images = scale.get('base_batch_size'), cfg.train_dataloader.get('batch_size', 1)
    images *= runner.world_size * accumulation(cfg)
    accumulates = accumulation(cfg) != 1
    if base not in (None, images) and not scale.get('enable'):
        advice = '' if accumulates else 'add --auto-scale-lr, or '
        runner.logger.warning(
            f'the learning rate is for {base} images an optimizer step, here it is {images}: {advice}'
            'write the rate for this batch and auto_scale_lr.base_batch_size'
        )
    if scale.get('enable') and accumulates:
        runner.logger.warning(
            'auto_scale_lr does not count optim_wrapper.accumulative_counts: the learning rate is now for the images '
            'of an iteration. Write the rate for those of an optimizer step, and leave --auto-scale-lr out'
        )
    _warn_of_unused_keys(cfg, runner)


def _warn_of_unused_keys(cfg: Config, runner: Runner) -> None:
    """Parts that ``custom_keys`` gives a learning rate of their own, and that are in no parameter's name."""
    wrapper = cfg.get('optim_wrapper')
    keys = ((wrapper or {}).get('paramwise_cfg') or {}).get('custom_keys') or {}
    names = [name for name, _ in unwrapped(runner.model).named_parameters()]
    unused = [key for key in keys if not any(key in name for name in names)]
    if unused:
        runner.logger.warning(
            f"optim_wrapper.paramwise_cfg.custom_keys: {', '.join(unused)} is in no parameter's name, so it changes "
            f'nothing; parameters are named as {names[0]} and {names[-1]}'
        )


def check_fits(model: torch.nn.Module, checkpoint: str, config: str) -> None:
    """Raise UserError if a weight is missing, too many or of another shape; MMEngine would only warn of it.

    What counts is what loading reports, through wrappers for distribution and test-time augmentation.
    """
    try:
        loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(
            f'{checkpoint} is not a checkpoint that PyTorch can read: {error}'
        ) from error
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f'{checkpoint}: {error}') from error
    try:
        weights = weights_of(loaded)
    except ValueError as error:
        raise UserError(f'{checkpoint} {error}') from error
    wanted = unwrapped(model).state_dict()
    report = loading_report(model, weights)
    differing = sorted([*report.lacking, *report.unexpected])
    if not differing and not all(torch.isfinite(v).all() for v in weights.values()):
        names = [name for name, value in weights.items() if not torch.isfinite(value).all()]
        raise UserError(
            f'{checkpoint} holds weights that are not finite ({len(names)} of {len(weights)}, {names[0]} for '
            'instance): its training had gone wrong. Take an earlier one'
        )
    if differing:
        lines = [
            f'  {name}: {_shape(weights, name, "missing")} in the checkpoint, '
            f'{_shape(wanted, name, "unknown")} in the model'
            for name in differing[:5]
        ]
        if len(differing) > 5:
            lines.append(f'  ... and {len(differing) - 5} more')
        fitting = {*wanted} & {*weights} - {*differing}
        fits = 'the rest fits' if fitting else 'nothing in it fits'
        lines.insert(0, f'  {len(differing)} of {len({*wanted, *weights})} weights differ, {fits}')
        raise UserError('\n'.join([f'{checkpoint} is not a checkpoint of {config}:', *lines]))


def _shape(weights: Mapping[str, Any], name: str, otherwise: str) -> Any:
    return tuple(getattr(weights[name], 'shape', ())) if name in weights else otherwise
