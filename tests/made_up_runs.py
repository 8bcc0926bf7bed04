"""Records of trainings that never were, and a trainer that leaves such records in no time."""

import json

# In place of tools/train.py: reads a config of plain assignments, and behaves as a file beside it says.
TRAINER = """
import json, pathlib, re, sys
arguments = sys.argv[1:]
print('trainer', *arguments, flush=True)
work_dir = pathlib.Path(arguments[arguments.index('--work-dir') + 1])

def merge(base, new):
    if not isinstance(base, dict) or not isinstance(new, dict) or new.get('_delete_'):
        return {k: v for k, v in new.items() if k != '_delete_'} if isinstance(new, dict) else new
    return {**base, **{k: merge(base.get(k, {}), v) for k, v in new.items()}}

def load(file):
    found = {}
    exec(pathlib.Path(file).read_text(), found)
    found = {k: v for k, v in found.items() if not k.startswith('__')}
    base = found.pop('_base_', None)
    return {k: v for k, v in merge(load(base) if base else {}, found).items()}

config = load(arguments[0])
for option in arguments[arguments.index('--cfg-options') + 1:] if '--cfg-options' in arguments else ():
    if option == '--resume':
        continue
    key, value = option.split('=', 1)
    place = config
    *parts, last = key.split('.')
    for part in parts:
        place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
    try:
        value = json.loads(value)
    except ValueError:
        pass
    place[last] = value
seed = config['randomness']['seed']
fails = pathlib.Path(__file__).with_name('fails').read_text().split()
if f'{work_dir.parent.name}/{work_dir.name}' in fails:
    sys.exit('no more memory')
gradaug = 'gradaug' in config['model']
loop = config['train_cfg']
epochs = loop.get('max_epochs')
metric = config.get('logs', 'accuracy/top1')
length = 10 * epochs if epochs else loop['max_iters']
evaluations = [
    {'iteration': i, 'epoch': i // 10, 'metrics': {metric: 50.0 + seed + 10 * (i < length) + gradaug}}
    for i in range(10, length + 1, 10)
]
if evaluations[-1]['iteration'] != length:
    evaluations.append({**evaluations[-1], 'iteration': length})
last = evaluations[-1]['metrics']
batch = config['train_dataloader'].get('batch_size', 8)
seconds = (0.3 if gradaug else 0.1) * batch / 8
(work_dir / 'last_checkpoint').write_text('x')
record = dict(
    version=1, status='done', started='2026-01-01', updated='2026-01-02', config=config,
    config_file=arguments[0], seed=seed, commit='abc', dirty=False, versions={'torch': '2'}, device='CPU',
    world_size=1, unit='epoch' if epochs else 'iteration', length=epochs or length, max_iters=length,
    dataset_length=100, evaluations=evaluations, iterations=length, images_seen=length,
    training=[
        dict(iteration=i + 1, loss=1.0 / (i + 1), total_seconds=seconds,
             by_subnets={'1': dict(iterations=1, seconds=seconds)}) for i in range(length)
    ],
    last=last, best={metric: max(e['metrics'][metric] for e in evaluations)},
    seconds_per_iteration=seconds, train_seconds=length * seconds, peak_memory_mb=100.0, memory_of='process',
)
(work_dir / 'run.json').write_text(json.dumps(record))
"""

PLAIN = """
model = dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18))
train_dataloader = dict(batch_size=8, dataset=dict(type='mmgradaug.Digits', label_seed=0))
val_evaluator = dict(type='Accuracy', topk=(1, 5))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=20, val_interval=10)
param_scheduler = [
    dict(type='LinearLR', begin=0, end=4, by_epoch=False),
    dict(type='MultiStepLR', milestones=[10, 15], by_epoch=False),
]
randomness = dict(seed=0)
"""
GRADAUG = PLAIN.replace("type='ImageClassifier'", "type='x', gradaug=dict(num_subnets=3)")


def record(top1, seed=0, config=None, iterations=20, gradaug=False, seconds=0.1, **changes):
    """A run.json whose last evaluation is ``top1``."""
    model = {'type': 'ImageClassifier', 'backbone': {'type': 'ResNet', 'depth': 18}}
    if gradaug:
        model['gradaug'] = {'num_subnets': 3}
    evaluations = [
        {'iteration': i, 'epoch': 0, 'metrics': {'accuracy/top1': value}}
        for i, value in ((iterations // 2, top1 - 10.0), (iterations, top1))
    ]
    made = dict(
        version=1,
        status='done',
        started='2026-01-01',
        updated='2026-01-02',
        config=config
        or {
            'model': model,
            'train_dataloader': {'batch_size': 8, 'dataset': {'type': 'mmgradaug.Digits'}},
            'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': iterations},
        },
        config_file='my_gradaug.py' if gradaug else 'my_baseline.py',
        seed=seed,
        commit='abc',
        dirty=False,
        versions={'torch': '2'},
        device='CPU',
        world_size=1,
        unit='iteration',
        length=iterations,
        max_iters=iterations,
        dataset_length=100,
        evaluations=evaluations,
        iterations=iterations,
        images_seen=8 * iterations,
        training=[
            dict(
                iteration=i,
                loss=1.0 / i,
                total_seconds=seconds,
                by_subnets={'1': dict(iterations=1, seconds=seconds)},
            )
            for i in range(1, iterations + 1)
        ],
        last={'accuracy/top1': top1},
        best={'accuracy/top1': top1},
        seconds_per_iteration=seconds,
        train_seconds=iterations * seconds,
        peak_memory_mb=100.0,
        memory_of='process',
    )
    return {**made, **changes}


def write(folder, data):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'run.json').write_text(json.dumps(data))
