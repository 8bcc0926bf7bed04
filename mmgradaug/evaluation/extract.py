"""``mmgradaug extract``: a sub-network of a trained classifier as a smaller network, for stock MMPretrain."""

import argparse
import inspect
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from rich.progress import track
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from mmgradaug.config_types import default_scope
from mmgradaug.files import UserError, short, write_json, write_whole
from mmgradaug.grids import Grid, show
from mmgradaug.models import GradAugClassifier, SubnetworkClassifier
from mmgradaug.slimming import (
    ChannelPlan,
    SlimmingError,
    Smaller,
    extract_subnetwork,
    plan_channels,
    recalibrate_statistics,
    shrink,
    smaller_network,
)

from .trained_classifier import (
    CONSOLE,
    SCOPE,
    TrainedClassifier,
    load_classifier,
    stock_config,
)

NAME = 'subnetwork'  # of the files
REPEATS = 50  # for the latency; in turns, so that both networks meet the same machine
IMPORT_FROM_HERE = f"""import sys

# {NAME}_classifier.py lies beside this file.
sys.path.insert(0, r'{{{{ fileDirname }}}}')

"""
MODULE = '''"""A classifier with fewer channels than its config says, for MMPretrain.

Written by mmgradaug extract; it needs MMPretrain alone.
"""

from typing import Any

from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS
from torch import nn


{}

{}'''


def plan(classifier: TrainedClassifier, images: Tensor) -> ChannelPlan:
    """Find out which sub-networks a stock classifier has: those that GradAug trains.

    Raises:
        UserError: it has none.
    """
    try:
        return plan_channels(classifier.model, images[:2], within=GradAugClassifier.narrowed_parts)
    except SlimmingError as error:
        raise UserError(str(error)) from error


def take_out(classifier: TrainedClassifier, width: float) -> nn.Module:
    """The sub-network of ``width`` of a planned classifier, as a network of its own.

    Raises:
        UserError: it cannot be taken out.
    """
    try:
        return extract_subnetwork(classifier.model, width)
    except SlimmingError as error:
        raise UserError(str(error)) from error


@torch.no_grad()
def average_statistics(
    target: nn.Module, width: float, others: dict[float, nn.Module], channels: ChannelPlan
) -> None:
    """Running statistics as means over sub-networks of greater widths, of the channels they share."""
    for name, norm in target.named_modules():
        if not isinstance(norm, _BatchNorm):
            continue
        for key in ('running_mean', 'running_var'):
            values = []
            for other_width, other in others.items():
                value = getattr(other.get_submodule(name), key)
                for _, selection in channels.selections.get(f'{name}.{key}', ()):
                    kept, theirs = (
                        channels.kept(each).mask(selection) for each in (width, other_width)
                    )
                    value = value[torch.from_numpy(kept[theirs]).to(value.device)]
                values.append(value)
            getattr(norm, key).copy_(torch.stack(values).mean(0))


@torch.no_grad()
def complexity(model: nn.Module, image: Tensor) -> dict[str, float]:
    """Parameters; multiply-accumulates in convolutions and linear layers of one image, and FLOPs, twice as many."""
    with FlopCounterMode(display=False) as counter:
        model(image)
    flops = counter.get_total_flops()
    parameters = sum(p.numel() for p in model.parameters())
    return dict(parameters=parameters, macs=flops / 2, flops=flops)


@torch.no_grad()
def latency(models: Sequence[nn.Module], images: Tensor) -> list[float]:
    """Median milliseconds a batch, of each."""

    def run(model: nn.Module) -> float:
        start = time.perf_counter()
        model(images)
        if images.is_cuda:
            torch.cuda.synchronize()
        return 1000 * (time.perf_counter() - start)

    for model in [*models, *models]:  # the first runs make buffers
        run(model)
    rounds = track(range(REPEATS), 'latency', console=CONSOLE)
    times = [[run(model) for model in models] for _ in rounds]
    return [statistics.median(column) for column in zip(*times)]


def build_files(classifier: TrainedClassifier, smaller: Smaller, width: float) -> dict[str, str]:
    """The config that builds the sub-network, and the module that it needs, if MMPretrain alone will do."""
    cfg = classifier.cfg
    whole = {'data_preprocessor': cfg.get('data_preprocessor'), **cfg.model.to_dict()}
    model = stock_config(whole)
    # It would be loaded once more, at full width; and what only training needs.
    for key in ('init_cfg', 'pretrained', 'train_cfg'):
        model.pop(key, None)
        model['backbone'].pop(key, None)
    if isinstance(model['data_preprocessor'], dict):
        model['data_preprocessor'].pop('batch_augments', None)
    stock = 'mmgradaug.' not in repr(model)
    model['type'] = SubnetworkClassifier.__name__ if stock else 'mmgradaug.SubnetworkClassifier'
    model['shapes'] = {name: list(shape) for name, shape in smaller.shapes.items()}
    model['attributes'] = smaller.attributes
    test = {
        key: cfg[key] for key in ('test_dataloader', 'test_evaluator', 'test_cfg') if key in cfg
    }
    test = Config(test).to_dict()
    imports = [f'{NAME}_classifier'] if stock else []
    our_data = 'mmgradaug.' in repr(test)
    if not stock or our_data:
        imports.append('mmgradaug')
    content = dict(
        default_scope=default_scope(cfg, SCOPE),
        # Where only the test set is one of ours, the network loads without it.
        custom_imports=dict(imports=imports, allow_failed_imports=stock and our_data),
        model=model,
        **test,
    )
    header = (
        f'# Sub-network of width {width:g} of {classifier.config} with {classifier.checkpoint}.\n'
    )
    if stock:
        header += IMPORT_FROM_HERE
    files = {f'{NAME}.py': header + Config(content).pretty_text}
    if stock:
        sources = [inspect.getsource(part) for part in (shrink, SubnetworkClassifier)]
        files[f'{NAME}_classifier.py'] = MODULE.format(*sources)
    return files


def export_onnx(model: nn.Module, images: Tensor, file: Path) -> float:
    """Write (N, C, H, W), preprocessed, -> (N, classes), any N; the greatest difference to PyTorch.

    Raises:
        UserError: onnxruntime computes something else, or a package is missing.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise UserError(
            f'--onnx needs {error.name}: pip install onnx onnxscript onnxruntime'
        ) from error
    with torch.no_grad():
        torch.onnx.export(
            model,
            (images[:2],),
            str(file),
            input_names=['images'],
            output_names=['logits'],
            dynamic_shapes=({0: torch.export.Dim('batch')},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
        worst = scale = 0.0
        for batch in (images[:1], images[:3]):
            expected = model(batch).cpu()
            (found,) = session.run(None, {'images': batch.cpu().numpy()})
            worst = max(worst, float((torch.from_numpy(found) - expected).abs().max()))
            scale = max(scale, float(expected.abs().max()))
    if not worst <= 1e-3 * max(scale, 1.0):
        raise UserError(f'onnxruntime differs from PyTorch by {worst:g}; no ONNX file was kept')
    return worst


def checkpoint_size(state: dict[str, Any], file: Path) -> float:
    """Save weights; megabytes."""
    torch.save(state, file)
    return file.stat().st_size / 1e6


def run(args: argparse.Namespace) -> None:
    """The command. Raises UserError if it cannot be done."""
    for width in args.average_widths or ():
        if width < args.width:
            raise UserError(
                f'--average-widths: {width:g} has fewer channels than --width {args.width:g}: '
                'leave it out, or lower --width'
            )
    classifier = load_classifier(args, stock=True)
    out = args.out or Path('work_dirs') / 'extracted' / f'{classifier.name}_w{args.width:g}'
    if (out / f'{NAME}.json').exists() and not args.overwrite:
        raise UserError(
            f'{short(out)} has a sub-network already: use another --out, or --overwrite'
        )
    full = classifier.model
    images = classifier.training_images(args.recalibrate)
    channels = plan(classifier, images[0])
    smaller = smaller_network(full, args.width)
    small = take_out(classifier, args.width)
    loader = None if args.no_test else classifier.loader(classifier.test_set())
    top1: dict[str, Optional[float]] = dict.fromkeys(('full', 'extracted', 'recalibrated'))
    if loader is not None:
        top1['full'] = classifier.accuracy(full, loader, 'test, full')
        top1['extracted'] = classifier.accuracy(small, loader, 'test, before recalibration')
    number = sum(len(batch) for batch in images)
    if args.average_widths:
        others = {}
        for width in args.average_widths:
            others[width] = take_out(classifier, width)
            recalibrate_statistics(
                others[width], track(images, f'statistics, {width:g}', console=CONSOLE)
            )
        average_statistics(small, args.width, others, channels)
    else:
        recalibrate_statistics(small, track(images, 'statistics', console=CONSOLE))
    if loader is not None:
        top1['recalibrated'] = classifier.accuracy(small, loader, 'test, recalibrated')

    networks = [full, small]
    sizes = [complexity(network, images[0][:1]) for network in networks]
    batch = images[0][: args.latency_batch]
    times = latency(networks, batch)
    with tempfile.TemporaryDirectory(prefix='subnetwork-') as folder:
        work = Path(folder)
        meta = dict(width=args.width, config=args.config, checkpoint=args.checkpoint)
        loaded = CheckpointLoader.load_checkpoint(args.checkpoint, map_location='cpu')
        if 'dataset_meta' in loaded.get(
            'meta', {}
        ):  # the classes' names, for MMPretrain's inference
            meta['dataset_meta'] = loaded['meta']['dataset_meta']
        megabytes = [
            checkpoint_size(dict(state_dict=network.state_dict(), meta=meta), work / f'{i}.pth')
            for i, network in enumerate(networks)
        ]
        difference = None
        if args.onnx:
            difference = export_onnx(small, images[0], work / f'{NAME}.onnx')
        files = build_files(classifier, smaller, args.width)
        out.mkdir(parents=True, exist_ok=True)
        (work / '1.pth').rename(work / f'{NAME}.pth')
        for name in [f'{NAME}.pth', *([f'{NAME}.onnx'] if args.onnx else [])]:
            write_whole(out / name, (work / name).read_bytes())
    for name, text in files.items():
        write_whole(out / name, text)
    result = dict(
        kind='extracted',
        model=classifier.identity,
        width=args.width,
        training_images=number,
        average_widths=args.average_widths,
        top1=top1,
        full=dict(sizes[0], megabytes=megabytes[0], latency_ms=times[0]),
        subnetwork=dict(sizes[1], megabytes=megabytes[1], latency_ms=times[1]),
        latency=dict(batch=len(batch), device=str(batch.device), threads=torch.get_num_threads()),
        input_shape=list(images[0].shape[1:]),
        onnx_difference=difference,
    )
    write_json(out / f'{NAME}.json', result)
    show(comparison(result))
    print(f'\nWritten to {short(out)}: {", ".join(sorted(path.name for path in out.iterdir()))}')
    if f'{NAME}_classifier.py' in files:
        print(
            f'MMPretrain alone loads {NAME}.py and {NAME}.pth; keep {NAME}_classifier.py beside them.'
        )
    else:
        print(f'{NAME}.py needs mmgradaug for its backbone; the ONNX file (--onnx) does not.')


def comparison(result: dict[str, Any]) -> Grid:
    """The full network and the extracted one, side by side."""
    full, small, top1 = result['full'], result['subnetwork'], result['top1']

    def line(what: str, key: str, unit: float, digits: int) -> tuple[str, ...]:
        a, b = full[key] / unit, small[key] / unit
        return what, f'{a:.{digits}f}', f'{b:.{digits}f}', f'{b / a:.2f}'

    head = ['', 'full network', f'sub-network, width {result["width"]:g}', 'ratio']
    lines = [
        line('parameters (millions)', 'parameters', 1e6, 3),
        line('checkpoint (MB)', 'megabytes', 1, 2),
        line('GMACs', 'macs', 1e9, 4),
        line('GFLOPs (2 x MACs)', 'flops', 1e9, 4),
        line(f'latency, batch {result["latency"]["batch"]} (ms)', 'latency_ms', 1, 2),
    ]
    if top1['full'] is not None:
        lines.append(('top-1 %', f'{top1["full"]:.2f}', f'{top1["recalibrated"]:.2f}', ''))
        lines.append(("  with the full network's statistics", '', f'{top1["extracted"]:.2f}', ''))
    conditions = result['latency']
    notes = [
        f'MACs and FLOPs of one image of {"x".join(map(str, result["input_shape"]))}, in convolutions and '
        'linear layers.',
        f'Latency: median of {REPEATS}, in turns, on {conditions["device"]}, {conditions["threads"]} threads.',
        f'Batch norm statistics: measured on {result["training_images"]} training images'
        + (
            f', mean over the widths {", ".join(f"{w:g}" for w in result["average_widths"])}.'
            if result['average_widths']
            else '.'
        ),
    ]
    if result['onnx_difference'] is not None:
        notes.append(
            f'ONNX: onnxruntime differs from PyTorch by {result["onnx_difference"]:.1e} at most.'
        )
    return Grid('', head, lines, '\n'.join(notes))
