"""The OpenMMLab side of gpu_checks.py: the quick start as a user runs it, resuming, AMP, a detector."""

import copy
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
HALF = 12  # iterations
# Every operation that has a deterministic form takes it, so that runs can be compared bit for bit.
DETERMINISTIC = ['randomness.seed=0', 'randomness.deterministic=True']


def command(tool: str, *arguments: str) -> str:
    """Run a tool of the repository; its output."""
    done = subprocess.run(
        [sys.executable, f'tools/{tool}.py', *arguments], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f'{tool} {" ".join(arguments)}: {(done.stderr or done.stdout)[-400:]}')
    return done.stdout


def train(folder: Path, iterations: int, *flags: str) -> Path:
    options = [
        f'train_cfg.max_iters={iterations}',
        f'train_cfg.val_interval={HALF}',
        f'default_hooks.checkpoint.interval={HALF}',
        'default_hooks.checkpoint.max_keep_ckpts=-1',
        *DETERMINISTIC,
    ]
    config = 'configs/quickstart/digits_gradaug.py'
    command('train', config, '--work-dir', str(folder), *flags, '--cfg-options', *options)
    return folder / f'iter_{iterations}.pth'


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, map_location='cpu', weights_only=True)['state_dict']


def resumed_is_uninterrupted(folder: Path) -> dict[str, Any]:
    """2 N iterations at once, and N and then N more; twice the first, to see whether anything repeats at all."""
    whole = weights(train(folder / 'whole', 2 * HALF))
    again = weights(train(folder / 'again', 2 * HALF))
    train(folder / 'parts', HALF)
    parts = weights(train(folder / 'parts', 2 * HALF, '--resume'))
    differing = [k for k in whole if not torch.equal(whole[k], parts[k])]
    repeats = all(torch.equal(whole[k], again[k]) for k in whole)
    found = command(
        'test',
        'configs/quickstart/digits_gradaug.py',
        str(folder / 'parts' / f'iter_{2 * HALF}.pth'),
        '--work-dir',
        str(folder / 'test'),
    )
    return dict(ok=not differing and 'accuracy' in found, repeats=repeats, differing=len(differing))


def amp_training(folder: Path) -> dict[str, Any]:
    values = weights(train(folder / 'amp', HALF, '--amp'))
    finite = all(v.isfinite().all() for v in values.values() if v.is_floating_point())
    changed = any(
        'running_var' in k and not torch.equal(v, torch.ones_like(v)) for k, v in values.items()
    )
    return dict(ok=bool(finite and changed))


def amp_wrapper(device: str) -> dict[str, Any]:
    """One update under AmpOptimWrapper against one in single precision, by the change of the weights."""
    from mmengine.optim import AmpOptimWrapper, OptimWrapper
    from step_time import build

    model, batch = classifier(build, device)
    start = copy.deepcopy(model.state_dict())

    def change(wrapper: type, **options: Any) -> torch.Tensor:
        model.load_state_dict(start)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        model.announce_iteration(0, 3, active=True)
        model.train_step(copy.copy(batch), wrapper(optimizer=optimizer, **options))
        parts = [(p.detach() - start[name]).reshape(-1) for name, p in model.named_parameters()]
        return torch.cat(parts).double()

    wanted = change(OptimWrapper)
    found = {
        'bf16': change(AmpOptimWrapper, dtype='bfloat16', loss_scale=1.0),
        'fp16': change(AmpOptimWrapper, dtype='float16', loss_scale=1024.0),
        'fp16_dynamic': change(AmpOptimWrapper, dtype='float16', loss_scale=dict(init_scale=64.0)),
    }
    cosines = {k: float(torch.cosine_similarity(v, wanted, dim=0)) for k, v in found.items()}
    norms = {f'{k}_norm': float(v.norm() / wanted.norm()) for k, v in found.items()}
    scale = float((found['fp16'] - found['fp16_dynamic']).norm() / wanted.norm())
    ok = min(cosines.values()) > 0.95 and max(abs(v - 1) for v in norms.values()) < 0.1
    return dict(ok=ok and scale < 0.1, **cosines, **norms, scale_matters=scale)


def classifier(build: Any, device: str) -> tuple[Any, dict[str, Any]]:
    """The quick start's model, in training on the device, and a batch as a data loader gives it."""
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmpretrain.structures import DataSample

    config = Config.fromfile(ROOT / 'configs' / 'quickstart' / 'digits_gradaug.py')
    init_default_scope('mmpretrain')
    settings = {**config.model, 'data_preprocessor': config.get('data_preprocessor')}
    torch.manual_seed(0)
    _, model = build(settings, device)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8, generator=generator)
    labels = [DataSample().set_gt_label(i % 10) for i in range(32)]
    return model, dict(inputs=images.to(device), data_samples=[each.to(device) for each in labels])


def detector(folder: Path, tiny: bool) -> dict[str, Any]:
    """Mask R-CNN of the main config; time, FLOPs and memory beside plain training."""
    import step_time

    size, iterations = (('96', '64'), '1') if tiny else (('640', '384'), '6')
    file = folder / 'detector.json'
    options = ['--config', str(ROOT / 'configs' / 'mask_rcnn_gradaug.py'), '--image-size', *size]
    step_time.main(
        [*options, '--batch', '1' if tiny else '2', '--iterations', iterations, '--json', str(file)]
    )
    found = json.loads(file.read_text())
    keys = ('time_ratio', 'flops_ratio', 'overhead', 'peak_ratio', 'plain_peak_mib')
    values = {key: found[key] for key in keys}
    return dict(ok=all(math.isfinite(value) for value in values.values()), **values)


def main(report: Any, device: str, tiny: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(1 if tiny else 2)
    try:
        import mmdet.models
        import mmengine
        import mmpretrain  # noqa: F401
    except Exception as error:
        report.add(check='import', ok=None, why=f'{type(error).__name__}: {error}'[:300])
        return
    report.add(check='import', ok=True, mmengine=mmengine.__version__, mmdet=mmdet.__version__)
    from concurrent.futures import ThreadPoolExecutor

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ThreadPoolExecutor() as pool:  # processes of their own, beside what runs here
            # On the CPU there is no --amp, and no cores to spare.
            runs = [pool.submit(report.check, 'resume, test', resumed_is_uninterrupted, folder)]
            if device == 'cuda':
                runs.append(pool.submit(report.check, '--amp', amp_training, folder))
                report.check('AmpOptimWrapper', amp_wrapper, device)
            report.check('Mask R-CNN', detector, folder, tiny)
            while not all(run.done() for run in runs) and report.left > 0:
                time.sleep(0.2)
