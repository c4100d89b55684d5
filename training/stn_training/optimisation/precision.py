"""Choice of the arithmetic's precision, by a short measurement on the network itself."""

import contextlib
import copy
import logging
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

PRECISIONS = ("auto", "32", "16-mixed", "bf16-mixed")

_ROUNDS = 4
_LEAST_GAIN = 1.1
"""By which bfloat16 must be faster to be worth its eight bits of mantissa."""


def choose_precision(step: Callable[[nn.Module], Tensor], model: nn.Module, device: torch.device) -> str:
    """Return ``bf16-mixed`` where a training step is faster with it, else ``32``.

    Forward and backward passes are timed in turns, on a copy of the network; each precision counts its fastest.

    Args:
        step: Maps a network to a loss, on a batch such as training has.
        model: The network, on ``device``; it is left as it is.
        device: Where training runs.
    """
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "32"
    trial = copy.deepcopy(model).train()
    seconds: dict[bool, float] = {False: float("inf"), True: float("inf")}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for number in range(_ROUNDS):
            for mixed in (False, True):
                elapsed = _timed(step, trial, device, mixed)
                if number:  # the first round warms up
                    seconds[mixed] = min(seconds[mixed], elapsed)
    gain = seconds[False] / seconds[True]
    chosen = "bf16-mixed" if gain >= _LEAST_GAIN else "32"
    log.info("a step with bfloat16 is %.2f times as fast as with float32 here: precision %s", gain, chosen)
    return chosen


def _timed(step: Callable[[nn.Module], Tensor], model: nn.Module, device: torch.device, mixed: bool) -> float:
    autocast = torch.autocast(device.type, torch.bfloat16) if mixed else contextlib.nullcontext()
    started = time.perf_counter()
    model.zero_grad()
    with autocast:
        loss = step(model)
    loss.backward()  # type: ignore[no-untyped-call]
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
