"""Batches of labelled and unlabelled images."""

from typing import Any, Optional

from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import MultiTaskDataSample
from torch import Tensor

from mmgradaug.registry import MODELS


@MODELS.register_module()
class SemiClsDataPreprocessor(ClsDataPreprocessor):
    """MMPretrain's preprocessor for batches in which some images have no label.

    In training the images whose data samples have neither ``gt_label`` nor ``gt_score`` come out apart,
    under ``unlabelled``: a tensor (M, C, H', W'), normalised like the others, of a size of their own;
    Mixup and CutMix are for labelled images alone. A batch without unlabelled images comes out as from
    the stock class, and so does a batch for the test.

    Images of several sizes need ``collate_fn=dict(type='pseudo_collate')`` in the data loader.

    Example:
        >>> import torch
        >>> from mmgradaug.models import SemiClsDataPreprocessor
        >>> from mmpretrain.structures import DataSample
        >>> samples = [DataSample().set_gt_label(0), DataSample(), DataSample()]
        >>> data = dict(inputs=torch.zeros(3, 3, 32, 32), data_samples=samples)
        >>> seen = SemiClsDataPreprocessor()(data, training=True)
        >>> len(seen['inputs']), len(seen['unlabelled'])
        (1, 2)

    Raises:
        ValueError: in training, no image of a batch has a label.
    """

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        samples = data.get('data_samples')
        if not training or not samples:
            return super().forward(data, training)
        unlabelled = [i for i, sample in enumerate(samples) if not _is_labelled(sample)]
        if not unlabelled:
            return super().forward(data, training)
        labelled = [i for i, sample in enumerate(samples) if _is_labelled(sample)]
        if not labelled:
            raise ValueError(
                f'none of the {len(samples)} images of a batch has a label. A sampler that puts both '
                "kinds into each batch: sampler=dict(type='mmdet.MultiSourceSampler', batch_size=2, "
                "source_ratio=[1, 1]), with dataset=dict(type='mmgradaug.LabelledSplit', part='both', "
                '...)'
            )

        def images(indices: list[int]) -> Any:
            inputs = data['inputs']
            return inputs[indices] if isinstance(inputs, Tensor) else [inputs[i] for i in indices]

        result = super().forward(
            dict(inputs=images(labelled), data_samples=[samples[i] for i in labelled]), True
        )
        result['unlabelled'] = super().forward(dict(inputs=images(unlabelled)), False)['inputs']
        return result


def _is_labelled(sample: BaseDataElement) -> bool:
    return 'gt_label' in sample or 'gt_score' in sample or isinstance(sample, MultiTaskDataSample)


class SemiSupervisedMixin(BaseModel):
    """A classifier that gets unlabelled images beside labelled ones; comes first among the bases.

    Raises:
        TypeError: its preprocessor is one that takes unlabelled images for labelled ones.
    """

    def __init__(
        self, *args: Any, data_preprocessor: Optional[dict[str, Any]] = None, **kwargs: Any
    ) -> None:
        if data_preprocessor is None or isinstance(data_preprocessor, dict):
            data_preprocessor = {
                'type': 'mmgradaug.SemiClsDataPreprocessor',
                **(data_preprocessor or {}),
            }
        super().__init__(*args, data_preprocessor=data_preprocessor, **kwargs)
        if not isinstance(self.data_preprocessor, SemiClsDataPreprocessor):
            raise TypeError(
                f'{type(self.data_preprocessor).__name__} does not know of unlabelled images: write '
                "data_preprocessor=dict(type='mmgradaug.SemiClsDataPreprocessor', ...), or leave the "
                'type out'
            )
        self._warned = False

    def warn_without_unlabelled(self) -> None:
        """Say once that a batch had no unlabelled image, so that nothing semi-supervised is trained."""
        if not self._warned:
            self._warned = True
            MMLogger.get_current_instance().warning(
                f'{type(self).__name__} got a batch without unlabelled images and learns from the '
                "labelled ones alone. To have both in each batch: dataset=dict(type='mmgradaug."
                "LabelledSplit', part='both', ...) with sampler=dict(type='mmdet.MultiSourceSampler', "
                'batch_size=2, source_ratio=[1, 1])'
            )
