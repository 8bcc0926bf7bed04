"""The training step of GradAug, written once for every task, single process or distributed."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Union

from mmengine.optim import OptimWrapper
from torch import Tensor, nn

if TYPE_CHECKING:
    from .gradaug_model import GradAugMixin


def gradaug_step(
    model: 'GradAugMixin', run: nn.Module, data: dict[str, Any], optim_wrapper: OptimWrapper
) -> dict[str, Union[Tensor, float]]:
    """One iteration: the full network, then each sub-network, then one update (Algorithm 1).

    Each of the n + 1 passes goes forward and backward on its own and gradients add up (Eq. 4: a sum,
    not a mean), so no two passes' activations are alive together. To everything outside they are one
    backward: gradient accumulation counts one, clipping and EMA see the sum, and gradients are
    exchanged between ranks in the last pass alone.

    Args:
        model: the GradAug model; says what its passes are.
        run: what is called for a forward pass: ``model`` itself, or the distributed wrapper around
            it, whose forward must not be bypassed.
        data: a batch from the data loader.
        optim_wrapper: with its amp, accumulation and clipping.

    Returns:
        Values for the log: ``loss`` (the sum), ``loss_full`` and the full pass's own parts,
        ``loss_subnet{i}`` and what describes the sub-network, such as ``width_subnet{i}``.
    """
    subnets = model.draw_subnets()
    log_vars: dict[str, Union[Tensor, float]] = {}
    soft_labels = None
    for index, subnet in enumerate([None, *subnets]):
        last = index == len(subnets)
        optim_wrapper.current_pass = subnet  # for NonFiniteHook's message
        # The backward pass too belongs inside the sub-network: with_cp computes layers again there.
        with ExitStack() as stack:
            if subnet is not None:
                stack.enter_context(subnet.enter(model))
            if not last and hasattr(run, 'no_sync'):
                stack.enter_context(run.no_sync())
            with optim_wrapper.optim_context(run):
                if subnet is None:
                    data = model.data_preprocessor(data, True)
                    losses, soft_labels = run(
                        **data, mode='full_pass', give_soft_labels=bool(subnets)
                    )
                else:
                    losses = run(
                        **data,
                        mode='subnet_pass',
                        transform=subnet.transform,
                        soft_labels=soft_labels,
                    )
            loss, parts = model.parse_losses(losses)
            if last:
                optim_wrapper.update_params(loss)
            else:
                _backward_uncounted(optim_wrapper, loss)
        # Detached, or the log would keep the pass's graph alive through the next one.
        if subnet is None:
            log_vars['loss'] = log_vars['loss_full'] = loss.detach()
            log_vars.update({k: v.detach() for k, v in parts.items() if k != 'loss'})
        else:
            log_vars['loss'] = log_vars['loss'] + loss.detach()
            log_vars[f'loss_subnet{index - 1}'] = loss.detach()
            for name, value in subnet.log_values().items():
                log_vars[f'{name}_subnet{index - 1}'] = value
        del losses, loss, parts
    return log_vars


def _backward_uncounted(optim_wrapper: OptimWrapper, loss: Tensor) -> None:
    """A backward pass that the optimizer wrapper does not take for an iteration.

    ``OptimWrapper.backward`` counts its calls, and from the count follow loss scaling, the moment of
    the update, gradient sync and the size of the last accumulation window.
    """
    count = optim_wrapper._inner_count
    optim_wrapper.backward(optim_wrapper.scale_loss(loss))
    optim_wrapper._inner_count = count
