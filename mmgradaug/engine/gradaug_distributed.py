"""Distributed data parallel training with GradAug."""

from typing import Any, Optional

from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import nn

from mmgradaug.registry import MODEL_WRAPPERS

from .gradaug_model import GradAugMixin
from .gradaug_step import gradaug_step


@MODEL_WRAPPERS.register_module()
class GradAugDistributedDataParallel(MMDistributedDataParallel):
    """MMEngine's distributed wrapper around a GradAug model: one gradient exchange per iteration.

    In a config: ``model_wrapper_cfg = dict(type='mmgradaug.GradAugDistributedDataParallel')``. It does
    nothing in a single process. MMEngine's plain wrapper never calls a model's ``train_step`` and
    would train without sub-networks; :class:`GradAugHook` refuses that.

    Args:
        module: a GradAug model, on its device.
        device_ids: MMEngine sets it; dropped for a model on the CPU, where DDP wants none.
        broadcast_buffers: as in DDP; False by default, as in MMEngine.
        find_unused_parameters: as in DDP; None, the default, is what the model needs.
        **kwargs: DDP's.

    Raises:
        TypeError: ``module`` is not a GradAug model.
        ValueError: ``detect_anomalous_params`` or ``static_graph`` is set: both take one pass for the
            whole iteration; or the model has SyncBatchNorm on the CPU.
    """

    def __init__(
        self,
        module: nn.Module,
        device_ids: Any = None,
        broadcast_buffers: bool = False,
        find_unused_parameters: Optional[bool] = None,
        detect_anomalous_params: bool = False,
        **kwargs: Any,
    ) -> None:
        if not isinstance(module, GradAugMixin):
            raise TypeError(
                f'GradAugDistributedDataParallel wraps GradAug models, not {type(module).__name__}. '
                "Write type='mmgradaug.GradAugClassifier', 'mmgradaug.GradAugMaskRCNN' or "
                "'mmgradaug.GradAugDetector' for the model, or remove model_wrapper_cfg to train without "
                'GradAug'
            )
        if detect_anomalous_params:
            raise ValueError(
                'detect_anomalous_params would see the last sub-network only: leave it out, or look '
                'for unused parameters in the plain model'
            )
        if kwargs.get('static_graph'):
            raise ValueError(
                'static_graph means the same graph in every pass, which sub-networks have not: leave it out'
            )
        if find_unused_parameters is None:
            find_unused_parameters = module.leaves_parameters_unused
        if module.leaves_parameters_unused and not find_unused_parameters:
            raise ValueError(
                f'sub-networks of this {type(module).__name__} leave parameters without gradient, for '
                'which DDP would wait: write find_unused_parameters=True, or leave it out'
            )
        if next(module.parameters()).device.type == 'cpu':
            device_ids = None
            if any(isinstance(m, nn.SyncBatchNorm) for m in module.modules()):
                raise ValueError(
                    'SyncBatchNorm needs GPUs, PyTorch has none for the CPU: without GPUs leave sync_bn '
                    "out of the config, and write norm_cfg=dict(type='BN')"
                )
        super().__init__(
            module=module,
            device_ids=device_ids,
            broadcast_buffers=broadcast_buffers,
            find_unused_parameters=find_unused_parameters,
            **kwargs,
        )

    def train_step(self, data: dict[str, Any], optim_wrapper: OptimWrapper) -> dict[str, Any]:
        """One GradAug iteration over all ranks; see :func:`gradaug_step`."""
        return gradaug_step(self.module, self, data, optim_wrapper)
