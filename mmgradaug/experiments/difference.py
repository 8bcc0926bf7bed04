"""Whether one method is better than another, by the same seeds of both."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional


@dataclass(frozen=True)
class Difference:
    """The mean of one method minus another's, over their common seeds if there are any.

    Args:
        error: standard error of the paired difference; None for one pair or none.
    """

    mean: float
    error: Optional[float]
    pairs: int
    better: int  # of the pairs

    def __str__(self) -> str:
        error = '' if self.error is None else f' ({self.error:.1f})'
        return f'{self.mean:+.1f}{error}'

    @property
    def is_certain(self) -> bool:
        """Whether it is beyond two standard errors, which takes three pairs at least.

        Of three pairs chance does as much in one case of five, of five in one of nine (Student's t).
        """
        # One image more or less makes ratios of exactly two, which rounding must not lift over it.
        return (
            self.error is not None
            and self.pairs > 2
            and abs(self.mean) > 2 * self.error * (1 + 1e-5)
        )


def paired(
    one: Mapping[Any, float], other: Mapping[Any, float], sign: int = 1
) -> Optional[Difference]:
    """Seed by seed; None where they have no seed in common.

    Args:
        one, other: values by seed.
        sign: -1 where less is better.
    """
    each = [one[seed] - other[seed] for seed in one if seed in other]
    if not each:
        return None
    error = statistics.stdev(each) / math.sqrt(len(each)) if len(each) > 1 else None
    return Difference(statistics.fmean(each), error, len(each), sum(sign * d > 0 for d in each))
