"""Several devices: a process for each, started here or by torchrun, which share one copy of the data."""

import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TypeVar

import torch
from torch import distributed

from stn_runtime import InputError
from stn_runtime.machine.signals import StopSignals

_GRACE_SECONDS = 20.0
_POLL_SECONDS = 0.1
_LEFT_ALONE = 3
"""Exit status of a process that ended because another had."""

_Made = TypeVar("_Made")


def world() -> tuple[int, int]:
    """Return this process's number and how many train together, as torchrun's variables of the environment say."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def is_launched() -> bool:
    """Return whether this process is one of several that train together."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def training_device() -> torch.device:
    """Return where this process trains: on its GPU, the first where there is one process, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def launch(words: Sequence[str], devices: int) -> int:
    """Run a command in a process for each device, and return its exit status.

    Args:
        words: The command, such as ``["train", "mnist", ...]``.
        devices: How many.

    Raises:
        InputError: There are not as many GPUs, or a process was killed.
    """
    if torch.cuda.is_available() and torch.cuda.device_count() < devices:
        raise InputError(f"--devices {devices}: this machine has {torch.cuda.device_count()} GPUs; ask for fewer")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": devices, "LOCAL_WORLD_SIZE": devices, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared["OMP_NUM_THREADS"] = max(1, torch.get_num_threads() // devices)
    processes: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        stack.enter_context(StopSignals())
        said = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(devices)]
        for rank in range(devices):
            own = {name: str(value) for name, value in (shared | {"RANK": rank, "LOCAL_RANK": rank}).items()}
            heard = said[rank] if rank else None  # the first speaks for all
            command = [sys.executable, "-m", "stn_runtime", *words]
            processes.append(
                subprocess.Popen(command, env=os.environ | own, stdin=subprocess.PIPE, stdout=heard, stderr=heard)
            )
            stack.callback(processes[-1].kill)
        return _status_of(processes, said)


def _status_of(processes: Sequence[subprocess.Popen[bytes]], said: Sequence[IO[bytes]]) -> int:
    """Wait for all processes, after a failure only for a while; return the exit status of the first.

    Raises:
        InputError: One was killed, or failed where the first did not.
    """
    patience = math.inf
    while True:
        codes = [process.poll() for process in processes]
        for rank, code in enumerate(codes):
            if code is not None and code < 0:
                raise InputError(
                    f"the process of device {rank} was killed ({signal.Signals(-code).name}); its run can go on with "
                    "--resume"
                )
        if any(codes):
            patience = min(patience, time.monotonic() + _GRACE_SECONDS)
        if None not in codes or time.monotonic() > patience:
            break
        time.sleep(_POLL_SECONDS)
    if codes[0] not in (None, _LEFT_ALONE):
        return codes[0] or 0
    for rank, code in enumerate(codes):
        if code not in (0, None, _LEFT_ALONE):
            said[rank].seek(0)
            last = said[rank].read().decode(errors="replace").strip().rpartition("\n")[2]
            raise InputError(f"the process of device {rank} failed: {last or f'exit status {code}'}")
    raise InputError("the processes lost each other; the run can go on with --resume")


def _is_ours() -> bool:
    """Return whether ``launch`` started this process, and not torchrun."""
    return "TORCHELASTIC_RUN_ID" not in os.environ


def _end_with_parent() -> None:
    """Wait for the end of the standard input, which ``launch`` holds open, and end this process."""
    while os.read(0, 1):
        pass
    os._exit(_LEFT_ALONE)


@contextmanager
def joined() -> Iterator[None]:
    """Connect the processes that train together while the block runs; nothing where there is one."""
    if not is_launched():
        yield
        return
    if _is_ours():
        threading.Thread(target=_end_with_parent, daemon=True).start()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend)
    try:
        yield
    except RuntimeError as error:
        is_of_another = any(mark in str(error) for mark in ("closed by peer", "reset by peer", "gloo"))
        if not is_of_another and not isinstance(error, distributed.DistBackendError):
            raise
        if _is_ours():  # launch tells of the process that ended
            os._exit(_LEFT_ALONE)
        raise InputError("a process that trained with this one has ended; its run can go on with --resume") from error
    finally:
        distributed.destroy_process_group()


def shared(make: Callable[[], _Made], folder: Path) -> _Made:
    """Return what the first process makes, in every one; tensors lie in one file that is mapped into memory.

    Args:
        make: Makes anything that torch.save takes.
        folder: Where the file lies until all have opened it.

    Raises:
        InputError: Making raised it; then in every process.
    """
    rank, ranks = world()
    if ranks == 1:
        return make()
    message = ["", ""]
    if not rank:
        try:
            made = make()
            descriptor, message[0] = tempfile.mkstemp(".shared", dir=folder)
            os.close(descriptor)
            torch.save(made, message[0])
        except InputError as error:
            message[1] = str(error)
    distributed.broadcast_object_list(message, src=0)
    path, fault = message
    if fault:
        raise InputError(fault)
    opened: _Made = torch.load(path, mmap=True, weights_only=False)  # written above, by this program
    distributed.barrier()
    if not rank:
        os.unlink(path)
    return opened
