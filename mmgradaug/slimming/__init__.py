"""What a sub-network is: which channels of a network it has, narrowing by views, depth, taking one out.

This package needs PyTorch and numpy alone.
"""

from .axes import Axis, Choice
from .depth import Depth, WithoutBlocks, residual_blocks, without_blocks
from .errors import SlimmingError
from .extract import (
    Smaller,
    extract_subnetwork,
    recalibrate_statistics,
    shrink,
    smaller_network,
)
from .narrowing import buffers_kept, is_narrowed
from .operations import Call, operation_rule
from .plan import ChannelPlan, kept_channels
from .planning import plan_channels, plan_of, remember_plan
from .rules import layer_rule
from .width import AtWidth, Width, subnetwork

__all__ = [
    'AtWidth',
    'Axis',
    'Call',
    'ChannelPlan',
    'Choice',
    'Depth',
    'SlimmingError',
    'Smaller',
    'Width',
    'WithoutBlocks',
    'buffers_kept',
    'extract_subnetwork',
    'is_narrowed',
    'kept_channels',
    'layer_rule',
    'operation_rule',
    'plan_channels',
    'plan_of',
    'recalibrate_statistics',
    'remember_plan',
    'residual_blocks',
    'shrink',
    'smaller_network',
    'subnetwork',
    'without_blocks',
]
