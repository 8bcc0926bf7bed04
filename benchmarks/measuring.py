"""What the benchmarks share: time, FLOPs and peak memory of a piece of work, on a GPU or on the CPU."""

import os
import statistics
import time
from collections.abc import Iterable, Sequence
from typing import Any, Callable

# The profiler says a lot on the C++ side; it reads these when it is loaded.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')
os.environ.setdefault('TORCH_CPP_LOG_LEVEL', 'ERROR')

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count


def milliseconds(work: Callable[[], Any], device: str) -> float:
    """From an idle device to an idle device; on a GPU by its own clock.

    On a CPU the processor's time of this process, which others do not change; with one thread it is the time.
    """
    if device == 'cpu':
        start = time.process_time()
        work()
        return 1000 * (time.process_time() - start)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and number of measurements."""
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return dict(median=statistics.median(values), low=low, high=high, number=len(values))


def flops(work: Callable[[], Any]) -> int:
    """As PyTorch counts them: a multiply-add is two. But convolutions in groups go backward in groups.

    PyTorch's own formula takes the weights' gradient for that of a dense convolution, which makes the
    depthwise ones of EfficientNet-B0 cost more than all the rest.
    """
    mapping = {torch.ops.aten.convolution_backward: _convolution_backward}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        work()
    return counter.get_total_flops()


def _convolution_backward(  # type: ignore[no-untyped-def]
    grad_out, inputs, weight, _bias, _stride, _padding, _dilation, transposed, *args, **_
) -> int:
    """Each of the two gradients takes as many multiplications as the forward pass."""
    output_mask = args[2]  # after the output's padding and the groups
    return sum(output_mask[:2]) * conv_flop_count(inputs, weight, grad_out, transposed)


def peak_bytes(work: Callable[[], Any], before: Iterable[Tensor]) -> int:
    """Most bytes of tensors alive at once during the work; ``before`` were alive before and count too."""
    held = sum(tensor.numel() * tensor.element_size() for tensor in before)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        others = torch.cuda.memory_allocated() - held  # another model may be there too
        work()
        return torch.cuda.max_memory_allocated() - others
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == '[memory]']
    alive, peak = 0, 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return held + peak


def held_tensors(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Parameters, buffers and the optimizer's state."""
    state = [value for each in optimizer.state.values() for value in each.values()]
    return [
        *model.parameters(),
        *model.buffers(),
        *(value for value in state if isinstance(value, Tensor)),
    ]
