"""What a sub-network is: slimmable layers, the dial of their width, conversion, depth, and taking one away."""

from .convert import convert_layers, make_slimmable, slimmable_layers, try_subnetworks
from .depth import residual_blocks, without_blocks
from .extract import extract_subnetwork, recalibrate_statistics, subnetwork_channels
from .layers import (
    SlimmableBatchNorm1d,
    SlimmableBatchNorm2d,
    SlimmableBatchNormXd,
    SlimmableConv2d,
    SlimmableConv2dAdaptivePadding,
    SlimmableLinear,
    SlimmableSyncBatchNorm,
    SlimmingError,
    WidthDial,
    kept_channels,
)
from .width import subnetwork

__all__ = [
    'SlimmableBatchNorm1d',
    'SlimmableBatchNorm2d',
    'SlimmableBatchNormXd',
    'SlimmableConv2d',
    'SlimmableConv2dAdaptivePadding',
    'SlimmableLinear',
    'SlimmableSyncBatchNorm',
    'SlimmingError',
    'WidthDial',
    'convert_layers',
    'extract_subnetwork',
    'kept_channels',
    'make_slimmable',
    'recalibrate_statistics',
    'residual_blocks',
    'slimmable_layers',
    'subnetwork',
    'subnetwork_channels',
    'try_subnetworks',
    'without_blocks',
]
