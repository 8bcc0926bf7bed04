"""In which part of a training sub-networks are trained."""

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Schedule:
    """From ``begin`` on, to before ``end``; iterations or epochs, counted from 0.

    Example:
        >>> from mmgradaug.subnets import Schedule
        >>> [epoch for epoch in range(10) if epoch in Schedule(begin=2, end=5)]
        [2, 3, 4]

    Args:
        begin: >= 0.
        end: greater than ``begin``; None for the end of training.
        owner: whose arguments they are, for the error message.

    Raises:
        ValueError: it is empty, or not of whole numbers.
    """

    begin: int = 0
    end: Optional[int] = None
    owner: str = 'GradAug'

    def __post_init__(self) -> None:
        for value in (self.begin, 0 if self.end is None else self.end):
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(
                    f'{self.owner}: begin={self.begin!r}, end={self.end!r} must be whole numbers; end may '
                    'be None for the end of training'
                )
        if self.begin < 0 or (self.end is not None and self.end <= self.begin):
            raise ValueError(
                f'{self.owner}: begin={self.begin}, end={self.end} is an empty schedule; begin counts '
                'from 0 and end must be greater, or None for the end of training'
            )

    def __contains__(self, now: int) -> bool:
        return self.begin <= now and (self.end is None or now < self.end)
