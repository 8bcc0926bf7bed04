"""GradAug for any classifier of timm, on scikit-learn's digits made larger.

    pip install timm                                      # whichever version; no package of OpenMMLab
    python examples/timm_model.py                         # resnet10t, 32 x 32 pixels
    python examples/timm_model.py --model convnext_atto   # timm.list_models() has a thousand more

Nothing of the model changes: its checkpoint is timm's. Weights are random unless --pretrained.

Prints the losses of every tenth iteration, then the test accuracy (82.81%). Takes 50 s of one CPU thread.
"""

import argparse

import timm
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from mmgradaug import GradAug, RandomScale, SlimmingError

parser = argparse.ArgumentParser()
parser.add_argument('--model', default='resnet10t')
parser.add_argument('--pretrained', action='store_true', help='download weights of ImageNet')
parser.add_argument('--pixels', type=int, default=32)
parser.add_argument('--iterations', type=int, default=40)
parser.add_argument('--threads', type=int, default=1)
args = parser.parse_args()
torch.manual_seed(0)
torch.set_num_threads(args.threads)

images, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
images = F.interpolate(images.float().view(-1, 1, 8, 8) / 8 - 1, size=args.pixels, mode='bilinear')
images = images.expand(-1, 3, -1, -1)

model = timm.create_model(args.model, pretrained=args.pretrained, num_classes=10)
# Most networks with position embeddings accept the size that they were built for and no other:
# transforms=Identity(), or RandomRotate90() where rotation keeps the meaning, would do for them.
try:
    gradaug = GradAug(
        model,
        num_subnets=3,
        min_width=0.9,
        transforms=RandomScale([1, 0.75, 0.5]),
        example_input=images[:2],
    )
except SlimmingError as error:
    raise SystemExit(f'{args.model}: {error}') from error
print(f'{args.model}: {gradaug.sampler.describe()}')
optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)

for iteration in range(args.iterations):
    batch = torch.randperm(1000)[:32]
    losses = gradaug.backward(images[batch], labels[batch], F.cross_entropy)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    optimizer.zero_grad()
    if (iteration + 1) % 10 == 0:
        shown = {name: round(float(value), 3) for name, value in losses.items()}
        print(f'iteration {iteration + 1}: {shown}')

model.eval()
with torch.no_grad():
    found = torch.cat([model(part).argmax(1) for part in images[1000:].split(100)])
print(f'test accuracy {100 * (found == labels[1000:]).double().mean().item():.2f}%')
