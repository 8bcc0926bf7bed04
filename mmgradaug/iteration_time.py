"""How long an iteration takes, from the windows of ``run.json``."""

import statistics
from collections.abc import Iterable
from typing import Any, Optional


def seconds_per_iteration(windows: Iterable[dict[str, Any]]) -> Optional[float]:
    """Mean over the kinds of iterations, each by its median.

    A kind is plain iterations, or those with so many sub-networks. A training may have both (``every=2``, or
    ``begin``), and one median over all of them would be the time of one kind alone. Medians, because other
    programs slow an iteration now and then.

    Args:
        windows: as ``RunRecordHook`` writes them.

    Returns:
        Seconds; None without windows.

    Example:
        >>> from mmgradaug.iteration_time import seconds_per_iteration
        >>> windows = [{'by_subnets': {'0': {'iterations': 1, 'seconds': 0.1}, '1': {'iterations': 1, 'seconds': s}}}
        ...            for s in (0.3, 0.3, 9.0)]
        >>> round(seconds_per_iteration(windows), 6)
        0.2
    """
    medians: dict[str, list[float]] = {}
    counts: dict[str, int] = {}
    for window in windows:
        for kind, part in window['by_subnets'].items():
            if part['seconds'] is not None:
                medians.setdefault(kind, []).append(part['seconds'])
                counts[kind] = counts.get(kind, 0) + part['iterations']
    total = sum(counts.values())
    if not total:
        return None
    return sum(counts[kind] / total * statistics.median(medians[kind]) for kind in counts)
