"""What a sweep trains: rows of tables or configs by path, an overlay on top, options."""

import ast
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from mmgradaug.config_types import counts_epochs, short_name, trains_by_gradaug
from mmgradaug.evaluation.main_metric import main_metric
from mmgradaug.files import UserError, short, write_whole
from mmgradaug.resources import CONFIGS, find_config

from .runs import read_config
from .tables import EQUAL_COST, OTHER_COMMANDS, TABLES, TOP1, Row, own_key

OTHERS = 'configs'  # as a table's name: configs given by path
# Overrides of these go to the models that have them alone; the longest first.
METHOD_SETTINGS = ('model.gradaug.unlabelled', 'model.gradaug', 'model.mean_teacher')
# Of datasets that draw their images: the seed of a run is theirs too.
DATASET_SEEDS = ('label_seed', 'split_seed', 'image_seed')


@dataclass(frozen=True)
class Overlay:
    """A small config file that is put on top of every config.

    Args:
        body: without comments and without ``scale``, so that another wording is no other setting.
        scale: the sentence that says at which scale it runs.
    """

    body: str
    scale: Optional[str]

    @property
    def name(self) -> str:
        return hashlib.sha256(self.body.encode()).hexdigest()[:8]


@dataclass(eq=False)
class Item:
    """What is trained once for each seed, wherever it stands in the tables.

    Args:
        row: of one of the tables, or made for a config given by path.
        tables: by name, those asked for that have it.
        config: the file that is trained: the row's, or one generated from it.
        cfg: what it says, options included; None while its config does not exist.
        options: of each run, but for the seed's.
        plain: of a training at equal cost: the item whose cost is made equal.
        partner: of a training at equal cost: the GradAug item that it is as expensive as, where that plain
            training has several.
        metric: what it is compared by, as MMEngine logs it.
    """

    row: Row
    tables: list[str] = field(default_factory=list)
    config: Path = CONFIGS
    cfg: Any = None
    options: list[str] = field(default_factory=list)
    plain: Optional['Item'] = None
    partner: Optional['Item'] = None
    metric: str = TOP1

    @property
    def key(self) -> str:
        of = f'+as_{self.partner.key}' if self.partner else ''
        return self.row.key + of + EQUAL_COST if self.plain else self.row.key

    @property
    def label(self) -> str:
        to = f' to {self.partner.label}' if self.partner else ''
        return f'{self.row.label}, equal cost{to}' if self.plain else self.row.label

    @property
    def base(self) -> Path:
        return CONFIGS / self.row.config  # a config elsewhere has an absolute path

    @property
    def length(self) -> tuple[str, int]:
        """'epochs' or 'iterations', and how many."""
        loop = self.cfg.train_cfg
        name, key = ('epochs', 'max_epochs') if counts_epochs(loop) else ('iterations', 'max_iters')
        if key not in loop:
            raise UserError(f'{short(self.base)}: its train_cfg has no {key}')
        return name, loop[key]

    @property
    def is_gradaug(self) -> bool:
        return trains_by_gradaug((self.cfg or {}).get('model'))

    @property
    def phase(self) -> Optional[Any]:
        """The GradAugHook's config, if only a part of the training has sub-networks.

        The beginning of such a training does not tell its cost.
        """
        hooks = [h for h in self.cfg.get('custom_hooks') or () if short_name(h) == 'GradAugHook']
        found = [hook for hook in hooks if hook.get('begin') or hook.get('end') is not None]
        return found[0] if found and self.is_gradaug else None


def select(names: Sequence[str], only: Sequence[str] = ()) -> list[Item]:
    """The rows of tables, and configs by path, each training once.

    Args:
        only: parts of keys, labels, networks or data sets; rows that have none are left out.

    Raises:
        UserError: there is no such table or config, or nothing is left.
    """
    tables = {table.name: table for table in TABLES}
    items: dict[str, Item] = {}
    left_out = []
    for name in names:
        if name in tables:
            chosen = [(row, name) for row in tables[name].rows]
        elif name in OTHER_COMMANDS:
            raise UserError(
                f'{name} is about trained networks: train the rows of table1, then '
                f'{OTHER_COMMANDS[name]}'
            )
        elif (path := find_config(name)) is not None:
            chosen = [(_row_of(path), OTHERS)]
        else:
            raise UserError(
                f'{name} is neither a table nor a config file. Tables: {", ".join(tables)}; '
                'a config by its path, configs/imagenet/baseline_r50.py for instance'
            )
        for row, table in chosen:
            described = f'{row.key} {row.label} {row.network} {row.dataset}'
            if only and not any(part in described for part in only):
                left_out.append(row.key)
                continue
            item = items.setdefault(row.key, Item(row))
            if item.base != CONFIGS / row.config:
                raise UserError(
                    f'{short(item.base)} and {short(CONFIGS / row.config)} have the same name, by '
                    'which results are told apart: rename one, or use another --work-dir'
                )
            if table not in item.tables:
                item.tables.append(table)
    if not items:
        raise UserError(f'--only {" ".join(only)} leaves nothing of: {", ".join(left_out)}')
    return list(items.values())


def _row_of(path: Path) -> Row:
    """A table's, if one has it without options."""
    for row in (row for table in TABLES for row in table.rows):
        if not row.options and (CONFIGS / row.config).resolve() == path:
            return row
    name = str(path.relative_to(CONFIGS)) if path.is_relative_to(CONFIGS) else str(path)
    key = own_key(path)
    return Row(key, name, '', '', name=key)


def read_overlay(file: Optional[Path]) -> Optional[Overlay]:
    """Raises UserError if it is no config, or one with bases."""
    if file is None:
        return None
    if not file.is_file():
        raise UserError(f'--overlay: no such file: {file}')
    try:
        tree = ast.parse(file.read_text())
    except SyntaxError as error:
        raise UserError(f'--overlay {file}, line {error.lineno}: {error.msg}') from error
    scale, body = None, []
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if '_base_' in names:
            raise UserError(
                f"--overlay {file}: it is put on top of each row's config, which is its base; "
                'leave _base_ out'
            )
        if names == ['scale'] and isinstance(statement, ast.Assign):
            try:
                scale = str(ast.literal_eval(statement.value))
            except ValueError:
                raise UserError(
                    f'--overlay {file}: scale must be a plain string, as in '
                    "scale = 'CIFAR-100, 4,000 images, 20 epochs'"
                ) from None
        else:
            body.append(statement)
    return Overlay(ast.unparse(ast.Module(body, [])), scale)


def prepare(
    items: Sequence[Item], overlay: Optional[Overlay], options: Sequence[str], work_dir: Path
) -> None:
    """Fill in ``config``, ``cfg`` and ``options``; write the configs that the overlay asks for.

    Raises:
        UserError: a config is missing or cannot be read.
    """
    missing = dict.fromkeys(short(item.base) for item in items if not item.base.is_file())
    if missing:
        raise UserError(
            f'no such config: {", ".join(missing)}. To train the other rows, name them with --only'
        )
    for item in items:
        item.config = item.base
        if overlay is not None:
            # By what the overlay says: never over a config that something was trained with.
            item.config = work_dir / 'configs' / overlay.name / f'{item.base.stem}.py'
            text = f'_base_ = {str(item.base)!r}\n\n{overlay.body}\n'
            if not item.config.is_file() or item.config.read_text() != text:
                write_whole(item.config, text)
        try:
            cfg = read_config(item.config)
            if overlay and trains_by_gradaug(cfg.get('model')) and not has_gradaug(item):
                raise ValueError(
                    'model.gradaug makes GradAug of a plain training. Leave it out: as --cfg-options it goes to the '
                    'models with GradAug alone'
                )
            chosen = [o for o in options if concerns(o, cfg.get('model'))]
            merge(cfg, [*item.row.options, *chosen])
        except Exception as error:
            where = f'{short(item.base)}{" with the overlay" if overlay else ""}'
            hint = (
                '. A new-style config, of imported classes, takes --cfg-options in place of --overlay'
                if overlay and 'inheritance chain' in str(error)
                else ''
            )
            raise UserError(f'{where}: {error}{hint}') from error
        own = {option.split('=')[0] for option in item.row.options}
        for option in chosen:
            if option.split('=')[0] in own:
                raise UserError(
                    f'--cfg-options {option} would make another row of {item.row.key}: leave it out'
                )
        item.cfg = cfg
        item.options = [*item.row.options, *chosen]
        hooks = cfg.get('default_hooks') or {}
        if 'run_record' not in hooks:
            item.options.append('default_hooks.run_record.type=mmgradaug.RunRecordHook')
        # A stock config keeps the checkpoint of every epoch, and a sweep has many runs.
        checkpoint = hooks.get('checkpoint')
        if checkpoint and 'max_keep_ckpts' not in checkpoint:
            item.options.append('default_hooks.checkpoint.max_keep_ckpts=2')


def has_gradaug(item: Item) -> bool:
    """By its config, without overlay and options."""
    if not item.base.is_file():
        return False
    return trains_by_gradaug(read_config(item.base).get('model'))


def ask_for_metrics(items: Sequence[Item]) -> None:
    """Fill in ``metric`` of prepared items.

    Raises:
        UserError: a config has no result that can be compared: better said before the training than after it.
    """
    for item in items:
        try:
            item.metric = main_metric(item.cfg)
        except ValueError as error:
            raise UserError(f'{short(item.base)}: {error}') from error


def concerns(option: str, model: Any) -> bool:
    """Whether an override is for this model: those of a method are for models that have it."""
    for part in METHOD_SETTINGS:
        if option.startswith((f'{part}.', f'{part}=')):
            for key in part.split('.')[1:]:
                model = model.get(key) or {}
            return bool(model)
    return True


def merge(cfg: Any, options: Sequence[str]) -> None:
    """Put KEY=VALUE on top of a config."""
    from mmgradaug.launch import merge_options, parse_options

    merge_options(cfg, parse_options(options))
