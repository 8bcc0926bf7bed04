"""Checking of what a config says."""

import difflib
import inspect
from collections.abc import Iterable, Sequence
from typing import Any, Callable, Union


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
        near = difflib.get_close_matches(str(unknown[0]), known, n=1)
        hint = f'. Do you mean {near[0]}?' if near else ''
        raise TypeError(f'{what} has unknown keys {unknown}; it takes {known}{hint}')
