"""GradAug under DistributedDataParallel: each rank trains on its own part of scikit-learn's digits.

    torchrun --nproc_per_node 2 examples/ddp.py

One process a GPU, or any number of processes on the CPU where there are no GPUs. Ranks draw the same
sub-networks without talking to each other, and exchange gradients once an iteration, in its last pass.

Prints the loss of each epoch, the test accuracy (94.98%), and that all ranks have the same weights.
Takes 16 s of CPU time in each of two processes.
"""

import argparse
import os

import torch
import torch.distributed as dist
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from mmgradaug import GradAug, RandomResize

parser = argparse.ArgumentParser()
parser.add_argument('--epochs', type=int, default=5)
args = parser.parse_args()

gpus = torch.cuda.is_available()
dist.init_process_group('nccl' if gpus else 'gloo')
rank = dist.get_rank()
device = torch.device('cuda', int(os.environ['LOCAL_RANK'])) if gpus else torch.device('cpu')
if gpus:
    torch.cuda.set_device(device)
torch.manual_seed(0)

images, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
images = images.float().view(-1, 1, 8, 8) / 8 - 1
dataset = TensorDataset(images[:1000], labels[:1000])
sampler = DistributedSampler(dataset)
loader = DataLoader(dataset, batch_size=25, sampler=sampler)

network = nn.Sequential(
    *(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
    *(nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
    *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
).to(device)
model = DistributedDataParallel(network, device_ids=[device] if gpus else None)
# Of all ranks one seed, or their sub-networks would differ.
gradaug = GradAug(model, 3, 0.8, RandomResize([8, 7, 6]), seed=0)
optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9, nesterov=True, weight_decay=5e-4)

for epoch in range(args.epochs):
    sampler.set_epoch(epoch)
    for batch_images, batch_labels in loader:
        losses = gradaug.backward(batch_images.to(device), batch_labels.to(device), F.cross_entropy)
        optimizer.step()
        optimizer.zero_grad()
    if rank == 0:
        print(f'epoch {epoch + 1}: loss {losses["loss"]:.3f} on rank 0')

# Of what each rank has, the largest and the smallest are the same.
weights = nn.utils.parameters_to_vector(network.parameters()).detach()
largest, smallest = weights.clone(), weights.clone()
dist.all_reduce(largest, dist.ReduceOp.MAX)
dist.all_reduce(smallest, dist.ReduceOp.MIN)
if not torch.equal(largest, smallest):
    raise SystemExit(f'rank {rank}: the ranks have different weights')
if rank == 0:
    network.eval()
    with torch.no_grad():
        found = network(images[1000:].to(device)).argmax(1).cpu()
    print(f'test accuracy {100 * (found == labels[1000:]).double().mean().item():.2f}%')
    print(f'{dist.get_world_size()} ranks agree: {len(weights)} equal weights')
dist.destroy_process_group()
