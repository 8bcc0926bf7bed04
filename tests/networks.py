"""Which networks GradAug trains: every backbone of MMPretrain, detectors of MMDetection, torchvision, timm.

``python tests/networks.py`` tries them all and writes docs/networks.md; tests/test_networks.py holds that page
against what happens. Each network is planned, narrowed, and trained for one iteration at one width (detectors are
planned).
"""

import argparse
import copy
import importlib.util
import sys
import warnings
from pathlib import Path
from typing import Any, Callable, Optional

import torch
from torch import nn

from mmgradaug import GradAug, Identity, SlimmingError, plan_channels
from mmgradaug.slimming import residual_blocks, subnetwork

PAGE = Path(__file__).parents[1] / 'docs' / 'networks.md'
WIDTH = 0.5

CSP = dict(
    in_channels=[32, 64], out_channels=[64, 128], num_blocks=[1, 2], expand_ratio=[2, 1],
    bottle_ratio=[0.5, 1], has_downsampler=True, down_growth=True,
)  # fmt: skip
# The smallest form of each class of mmpretrain.models.backbones; `pixels` is the size of its images.
MMPRETRAIN: dict[str, dict[str, Any]] = dict(
    AlexNet={}, BEiTViT=dict(arch='base'), CSPDarkNet=dict(depth=53), CSPNet={}, CSPResNeXt=dict(depth=50),
    CSPResNet=dict(depth=50), Conformer=dict(arch='tiny'), ConvMixer=dict(arch='768/32'),
    ConvNeXt=dict(arch='atto'), DaViT=dict(arch='tiny'), DeiT3=dict(arch='s'), DenseNet=dict(arch='121'),
    DistilledVisionTransformer=dict(arch='deit-tiny'), EdgeNeXt=dict(arch='xxsmall'),
    EfficientFormer=dict(arch='l1'), EfficientNet=dict(arch='b0'), EfficientNetV2=dict(arch='s'),
    HRNet=dict(arch='w18'), HiViT=dict(arch='tiny'), HorNet=dict(arch='tiny'), InceptionV3={}, LeNet5={},
    LeViT=dict(arch='128s'), MViT=dict(arch='tiny'), MixMIMTransformer=dict(arch='base'),
    MlpMixer=dict(arch='small'), MobileNetV2={}, MobileNetV3={}, MobileOne=dict(arch='s0'),
    MobileViT=dict(arch='xx_small'), PCPVT=dict(arch='small'), PoolFormer=dict(arch='s12'),
    PyramidVig=dict(arch='tiny'), RIFormer=dict(arch='s12'), RegNet=dict(arch='regnetx_400mf'),
    RepLKNet=dict(arch='31B'), RepMLPNet=dict(arch='base', img_size=256), RepVGG=dict(arch='A0'),
    Res2Net=dict(depth=50), ResNeSt=dict(depth=50), ResNeXt=dict(depth=50), ResNet=dict(depth=18),
    ResNetV1c=dict(depth=50), ResNetV1d=dict(depth=50), ResNet_CIFAR=dict(depth=18),
    RevVisionTransformer=dict(arch='deit-tiny'), SEResNeXt=dict(depth=50), SEResNet=dict(depth=50),
    SVT=dict(arch='small'), ShuffleNetV1={}, ShuffleNetV2={}, SparseConvNeXt=dict(arch='atto'),
    SparseResNet=dict(depth=50), SwinTransformer=dict(arch='tiny'),
    SwinTransformerV2=dict(arch='tiny', img_size=256), T2T_ViT={}, TIMMBackbone=dict(model_name='resnet18'),
    TNT=dict(arch='small'), TinyViT=dict(arch='5m'), VAN=dict(arch='tiny'),
    VGG=dict(depth=11, num_classes=10), ViTEVA02=dict(arch='tiny'), ViTSAM=dict(arch='base'), Vig=dict(arch='tiny'),
    VisionTransformer=dict(arch='deit-tiny'), XCiT=dict(patch_size=16, embed_dims=64, depth=2, num_heads=4),
)  # fmt: skip
# Names of MMDetection's configs, by detector.
MMDET = {
    'ATSS': 'atss/atss_r50_fpn_1x_coco',
    'Cascade R-CNN': 'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco',
    'Cascade Mask R-CNN': 'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco',
    'CondInst': 'condinst/condinst_r50_fpn_ms-poly-90k_coco_instance',
    'DETR': 'detr/detr_r50_8xb2-150e_coco',
    'Faster R-CNN': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco',
    'Faster R-CNN, C4': 'faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco',
    'FCOS': 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco',
    'FreeAnchor': 'free_anchor/freeanchor_r50_fpn_1x_coco',
    'GFL': 'gfl/gfl_r50_fpn_1x_coco',
    'Mask R-CNN': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco',
    'PAA': 'paa/paa_r50_fpn_1x_coco',
    'RetinaNet': 'retinanet/retinanet_r50_fpn_1x_coco',
    'RTMDet': 'rtmdet/rtmdet_tiny_8xb32-300e_coco',
    'SOLO': 'solo/solo_r50_fpn_1x_coco',
    'SSD': 'ssd/ssd300_coco',
    'TOOD': 'tood/tood_r50_fpn_1x_coco',
    'YOLOF': 'yolof/yolof_r50-c5_8xb8-1x_coco',
    'YOLOv3': 'yolo/yolov3_d53_8xb8-320-273e_coco',
    'YOLOX': 'yolox/yolox_tiny_8xb8-300e_coco',
}  # fmt: skip
# One of each family of torchvision's classifiers.
TORCHVISION = (
    'alexnet', 'convnext_tiny', 'densenet121', 'efficientnet_b0', 'efficientnet_v2_s', 'googlenet', 'inception_v3',
    'maxvit_t', 'mnasnet0_5', 'mobilenet_v2', 'mobilenet_v3_small', 'regnet_x_400mf', 'regnet_y_400mf', 'resnet18',
    'resnext50_32x4d', 'shufflenet_v2_x0_5', 'squeezenet1_1', 'swin_t', 'swin_v2_t', 'vgg11', 'vgg11_bn',
    'vit_b_16', 'wide_resnet50_2',
)  # fmt: skip
TIMM = (
    'convnext_atto', 'deit_tiny_patch16_224', 'efficientnet_b0', 'efficientnet_lite0', 'mobilenetv3_small_100',
    'regnety_002', 'resnet18', 'resnetv2_50', 'tf_efficientnet_b0', 'vit_tiny_patch16_224',
)  # fmt: skip


class Classifier(nn.Module):
    """A backbone, the mean over positions or tokens of its last output, and a linear layer."""

    def __init__(self, backbone: nn.Module, images: torch.Tensor) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Identity()
        with torch.no_grad():
            try:  # shapes alone
                features = copy.deepcopy(self).to('meta')(images.to('meta')).shape[1]
            except NotImplementedError:
                features = self(images).shape[1]
        self.head = nn.Linear(features, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        y = self.backbone(images)
        while isinstance(y, (list, tuple)):
            y = y[-1]
        if y.dim() > 2:
            y = y.mean((2, 3)) if y.dim() == 4 else y.mean(1)
        return self.head(y)


def mmpretrain_network(name: str) -> tuple[nn.Module, torch.Tensor]:
    from mmengine.registry import DefaultScope
    from mmpretrain.models import backbones
    from mmpretrain.models.backbones.cspnet import DarknetBottleneck

    config = dict(MMPRETRAIN[name])
    if name == 'CSPNet':
        config = dict(
            arch=dict(CSP, block_fn=DarknetBottleneck), stem_fn=lambda c: nn.Conv2d(3, 32, 3)
        )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        backbone = getattr(backbones, name)(**config)
    if name.startswith('Sparse'):  # outside of its pre-training nothing is masked
        from mmpretrain.models.utils import sparse_modules

        sparse_modules.SparseHelper._cur_active = torch.ones(2, 1, 7, 7)
    images = torch.randn(
        2, *((1, 32, 32) if name == 'LeNet5' else (3, *[config.get('img_size', 224)] * 2))
    )
    return Classifier(backbone, images), images


def torchvision_network(name: str) -> tuple[nn.Module, torch.Tensor]:
    from torchvision import models

    options = dict(init_weights=False) if name in ('googlenet', 'inception_v3') else {}
    size = 299 if name == 'inception_v3' else 224
    model = getattr(models, name)(weights=None, num_classes=10, **options)
    return model, torch.randn(2, 3, size, size)


def timm_network(name: str) -> tuple[nn.Module, torch.Tensor]:
    import timm

    return timm.create_model(name, num_classes=10), torch.randn(2, 3, 224, 224)


def mmdet_network(name: str) -> nn.Module:
    """The detector of that config, as a GradAug model; which plans it."""
    import mmdet
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    import mmgradaug.models  # noqa: F401
    from mmgradaug.registry import MODELS

    register_all_modules(init_default_scope=True)
    config = Config.fromfile(
        Path(mmdet.__file__).parent / '.mim' / 'configs' / f'{MMDET[name]}.py'
    ).model
    config.backbone.init_cfg = None
    transforms = dict(type='RandomScale', factors=[1.0, 0.857])
    gradaug = dict(num_subnets=1, min_width=WIDTH, transforms=transforms)
    detector = f'mmdet.{config.pop("type")}'
    return MODELS.build(
        dict(type='mmgradaug.GradAugDetector', detector=detector, gradaug=gradaug, **config)
    )


def share_of_parameters(model: nn.Module, part: nn.Module) -> float:
    """Of ``part``, the share that the sub-network of half the width has."""
    full = sum(p.numel() for p in part.parameters())
    with subnetwork(model, WIDTH):
        return sum(p.numel() for p in part.parameters()) / full


def try_network(build: Callable[[str], Any], name: str, train: bool = True) -> dict[str, Any]:
    """How one network does: the share of parameters at half the width and the number of blocks, or an error.

    Args:
        build: makes it.
        name: of the network.
        train: do an iteration; without, it is planned alone.
    """
    torch.manual_seed(0)
    try:
        if build is mmdet_network:
            model = build(name)
            part = model.backbone
        else:
            model, images = build(name)
            part = model.backbone if isinstance(model, Classifier) else model
            within = ['backbone'] if isinstance(model, Classifier) else None
            if not train:
                plan_channels(model, images, within=within)
            elif not trains(model, images, within):
                return dict(error='its gradients are not finite')
        return dict(share=share_of_parameters(model, part), blocks=len(residual_blocks(model)))
    except (SlimmingError, ImportError, NotImplementedError) as error:
        return dict(error=str(error).split(' Say what it accepts')[0].replace('\n', ' ')[:300])


def trains(model: nn.Module, images: torch.Tensor, within: Optional[list[str]]) -> bool:
    """One iteration on two images; whether all gradients are finite."""
    gradaug = GradAug(
        model, 1, WIDTH, Identity(), smallest_if_single=True, example_input=images, within=within, logits=first
    )  # fmt: skip
    gradaug.backward(
        images,
        torch.tensor([1, 3]),
        lambda outputs, t: nn.functional.cross_entropy(first(outputs), t),
    )
    gradients = [p.grad for p in gradaug.network.parameters() if p.grad is not None]
    return all(bool(gradient.isfinite().all()) for gradient in gradients)


def first(outputs: Any) -> torch.Tensor:
    return outputs if isinstance(outputs, torch.Tensor) else outputs[0]


SECTIONS: dict[str, tuple[str, Callable[[str], Any], Any]] = {
    'mmpretrain': ('Backbones of MMPretrain', mmpretrain_network, MMPRETRAIN),
    'mmdet': ('Detectors of MMDetection', mmdet_network, MMDET),
    'torchvision': ('Classifiers of torchvision', torchvision_network, TORCHVISION),
    'timm': ('Classifiers of timm', timm_network, TIMM),
}


def row(name: str, result: dict[str, Any]) -> str:
    if 'error' in result:
        return f'| {name} | refused | | {result["error"].replace("|", "/")} |'
    return f'| {name} | trains | {100 * result["share"]:.0f}% | {result["blocks"] or ""} |'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--only', nargs='*', help='networks by name, printed and not written')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    lines = [HEAD]
    for key, (title, build, names) in SECTIONS.items():
        if key == 'timm' and importlib.util.find_spec('timm') is None:
            continue
        rows = []
        for name in names:
            if args.only is None or name in args.only:
                rows.append(row(name, try_network(build, name)))
                print(rows[-1], file=sys.stderr, flush=True)
        trained = sum('| trains |' in each for each in rows)
        head = '| network | | parameters at width 0.5 | residual blocks, or the reason |\n|---|---|---|---|'
        lines.append(
            f'## {title}\n\n{trained} of {len(rows)} train.\n\n{head}\n' + '\n'.join(rows) + '\n'
        )
    if args.only is None:
        PAGE.write_text('\n'.join(lines))


HEAD = """# Which networks GradAug trains

Made by `python tests/networks.py`; `tests/test_networks.py` holds it against what happens. Each network was planned
(`plan_channels`), and trained for one iteration with one sub-network of half the width on two random images; detectors
were planned with their neck, and heads where there is no neck. "Parameters at width 0.5" is what of the backbone's (of
torchvision's: of the network's) parameters that sub-network has: 25% where every layer is narrowed freely, more where
channels exist as a few heads or groups only. A number of residual blocks means that random depth
(`survival_prob`) works too. What is refused is refused when the model is built. (TOOD's head needs operators of a
compiled mmcv to run.)
"""

if __name__ == '__main__':
    main()
