"""The training step of GradAug under MMEngine, for every task, single process or distributed."""

from typing import TYPE_CHECKING, Any

from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmgradaug.training import LogValues, Pass, run_passes

if TYPE_CHECKING:
    from .gradaug_model import GradAugMixin


def gradaug_step(
    model: 'GradAugMixin', run: nn.Module, data: dict[str, Any], optim_wrapper: OptimWrapper
) -> LogValues:
    """One iteration: the passes of :func:`~mmgradaug.training.run_passes`, then one update.

    To everything outside the n + 1 passes are one backward: gradient accumulation counts one, clipping
    and EMA see the sum, and gradients are exchanged between ranks in the last pass alone.

    Args:
        model: the GradAug model; says what its passes are.
        run: what is called for a forward pass: ``model`` itself, or the distributed wrapper around
            it, whose forward must not be bypassed.
        data: a batch from the data loader.
        optim_wrapper: with its amp, accumulation and clipping.

    Returns:
        Values for the log.
    """
    subnets = model.draw_subnets()
    recorded: dict[str, Any] = {}

    def forward(each: Pass) -> tuple[Tensor, dict[str, Tensor]]:
        optim_wrapper.current_pass = each.subnet  # for NonFiniteHook's message
        with optim_wrapper.optim_context(run):
            if each.subnet is None:
                recorded['batch'] = model.make_batch(**model.data_preprocessor(data, True))
                losses, recorded['outputs'] = run(
                    recorded['batch'], mode='full_pass', record=bool(subnets)
                )
            else:
                seen, chosen = each.subnet.see(recorded['batch'])
                outputs = recorded['outputs']
                if chosen is not None and outputs is not None:
                    outputs = model.select_recorded(outputs, chosen)
                losses = run(seen, mode='subnet_pass', recorded=outputs)
        return model.parse_losses(losses)

    def backward(loss: Tensor, each: Pass) -> None:
        if each.last:
            optim_wrapper.update_params(loss)
        else:
            _backward_uncounted(optim_wrapper, loss)

    return run_passes(model, model.channel_plan, run, subnets, forward, backward)


def _backward_uncounted(optim_wrapper: OptimWrapper, loss: Tensor) -> None:
    """A backward pass that the optimizer wrapper does not take for an iteration.

    ``OptimWrapper.backward`` counts its calls, and from the count follow loss scaling, the moment of
    the update, gradient sync and the size of the last accumulation window.
    """
    count = optim_wrapper._inner_count
    optim_wrapper.backward(optim_wrapper.scale_loss(loss))
    optim_wrapper._inner_count = count
