"""Checking of what a config says."""

import difflib
import inspect
from collections.abc import Iterable, Sequence
from typing import Any, Callable, Optional, Union


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> Optional[str]:
    """What is likely meant by a misspelt name; None if nothing is like it."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def shown(names: Sequence[Any], most: int = 5) -> str:
    """The first of a list, and how many more there are."""
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(map(str, names[:most])) + more


def refuse_unknown_keys(
    what: str, given: Iterable[str], known: Union[Callable[..., Any], Sequence[str]]
) -> None:
    """Compare the keys of a config with those that are known, or the arguments of a function.

    Raises:
        TypeError: a key is unknown; the message lists the known ones.
    """
    if callable(known):
        parameters = inspect.signature(known).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return
        known = [parameter.name for parameter in parameters]
    unknown = sorted(set(given) - set(known))
    if unknown:
        near = nearest(str(unknown[0]), known)
        hint = f'. Do you mean {near}?' if near else ''
        raise TypeError(f'{what} has unknown keys {unknown}; it takes {known}{hint}')
