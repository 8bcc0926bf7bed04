"""Detectors that train by GradAug; needs MMDetection."""

from .detection_batch import DetectionBatch, transform_batch
from .detection_soft_labels import DetectionSoftLabels
from .gradaug_detector import GradAugDetector, GradAugDetectorMixin
from .gradaug_mask_rcnn import GradAugMaskRCNN
from .resized_masks import ResizedBitmapMasks

__all__ = [
    'DetectionBatch',
    'DetectionSoftLabels',
    'GradAugDetector',
    'GradAugDetectorMixin',
    'GradAugMaskRCNN',
    'ResizedBitmapMasks',
    'transform_batch',
]
