"""The processes that train together: one alone, or several started by torchrun.

Collectives that move tensors of the model go over nccl on GPUs, everything else over gloo. When a
process is lost, the others stop with one line that says which.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nasvit_edge.errors import NasvitEdgeError, TrainingError
from nasvit_edge.train.stopping import AFTER_STOP_S, LOOK_S, CalledAway, Leave

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

TIMEOUT_S = 600.0  # how long a process waits for another: longer than writing a checkpoint may take
_BUCKET_BYTES = 32 << 20  # what one all-reduce carries: a second copy of the gradients, a piece at a time
_BROKEN = ("gloo", "pair closure", "connection", "timed out", "nccl")  # what a lost rank's errors speak of
_ASK_S = 3.0  # how long the others are asked who is still there


@dataclass(eq=False)
class World:
    """This process among those that train together.

    Every method but `close` is a collective: all ranks call it, in the same order. Alone it costs nothing.

    Attributes:
        rank, size: this process, from 0, and how many there are.
        device: where its tensors live: its own GPU, or the CPU.
        lost: what is said when another rank is lost.
        stop: whether a signal asks this process to end; it then waits for the others no longer than a few seconds.

    Raises:
        TrainingError: from any collective, when another rank is lost or does not answer in time.
        CalledAway: from any collective, when `stop` says so and the others do not come.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    store: Store | None = None
    stop: Callable[[], bool] = lambda: False
    lost: str = "training stopped: {}; continue with --resume"
    _gave_up: bool = False

    def averaged(self, gradient: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The mean over ranks of a list of gradients, each in its own memory format; None stays None.

        Raises:
            TrainingError: another rank has its None at other places, so it trains other subnets.
        """
        if self.size == 1:
            return list(gradient)
        places = bytes(g is not None for g in gradient)
        self._same(places, "train different subnets")
        means = iter(self._means([g for g in gradient if g is not None]))
        return [None if g is None else next(means) for g in gradient]

    def mean(self, values: Tensor) -> Tensor:
        """The mean over ranks of a small tensor of floats."""
        return self.total(values) / self.size

    def total(self, values: Tensor) -> Tensor:
        """The sum over ranks of a small tensor."""
        if self.size == 1:
            return values
        summed = values.detach().clone(memory_format=torch.contiguous_format)
        with self._together():
            self._await(dist.all_reduce(summed, async_op=True), summed)
        return summed

    def gathered(self, values: Tensor) -> Tensor:
        """(n,) of every rank -> (size, n), by rank."""
        if self.size == 1:
            return values[None]
        buffer = values.new_empty((self.size, *values.shape))
        with self._together():
            self._await(dist.all_gather(list(buffer.unbind()), values.contiguous(), async_op=True), buffer)
        return buffer

    def agreed(self, flag: bool) -> bool:
        """Whether any rank says so: a signal that one rank got stops all at the same step."""
        return bool(self.total(torch.tensor(int(flag))) > 0)

    def same_start(self, module: nn.Module) -> None:
        """Give every rank rank 0's parameters and buffers, in place.

        Raises:
            TrainingError: the ranks hold modules of different shapes.
        """
        if self.size == 1:
            return
        tensors = [t.detach() for t in (*module.parameters(), *module.buffers())]
        self._same(repr([(t.shape, t.dtype) for t in tensors]).encode(), "hold different models")
        with torch.no_grad(), self._together():
            for bucket in _buckets(tensors):
                flat = torch.cat([t.reshape(-1) for t in bucket])
                self._await(dist.broadcast(flat, src=0, async_op=True), flat)
                torch._foreach_copy_(bucket, _apart(flat, bucket))

    def barrier(self) -> None:
        """Wait for all."""
        self.agreed(False)

    def close(self, error: BaseException | None = None) -> None:
        """Leave; the error that ended this rank (else: the one being handled) is named by the others."""
        error = error or sys.exc_info()[1]
        if self.store is None or not dist.is_initialized():
            return
        if self._gave_up:
            error = error or CalledAway("it was asked to end")
        try:
            if error is None:
                self.barrier()  # rank 0 may keep the store: it leaves last
            elif not isinstance(error, LostError):
                _bounded(lambda: self._tell(_reason(error)))
        finally:
            if not self._gave_up:  # else it would wait for the others to the end
                with contextlib.suppress(RuntimeError):
                    dist.destroy_process_group()

    def _tell(self, reason: str) -> None:
        assert self.store is not None
        with contextlib.suppress(RuntimeError):
            self.store.set(f"ended/{self.rank}", reason)

    def __enter__(self) -> World:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        self.close(error)

    def __deepcopy__(self, _: object) -> World:
        return self  # a copied supernet lives in the same world

    def _means(self, tensors: list[Tensor]) -> Iterator[Tensor]:
        with self._together():
            sent = []
            for bucket in _buckets(tensors):
                flat = torch.cat([t.reshape(-1) for t in bucket])
                sent.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
            for bucket, flat, work in sent:
                self._await(work, flat)
                means = [torch.empty_like(t) for t in bucket]
                torch._foreach_copy_(means, _apart(flat.div_(self.size), bucket))
                yield from means

    def _await(self, work: dist.Work | None, tensor: Tensor) -> None:
        """Wait for a collective, and hear signals meanwhile."""
        assert work is not None
        if tensor.is_cuda:
            work.wait()  # it only takes its place in the stream
            return
        leave = Leave(self.stop, AFTER_STOP_S)
        while True:
            try:
                work.wait(timedelta(seconds=LOOK_S))
                return
            except RuntimeError:
                if work.is_completed():
                    work.wait()  # it just was, or raises what went wrong
                    return
            try:
                leave.check()
            except CalledAway:
                self._gave_up = True
                raise

    def _same(self, content: bytes, trouble: str) -> None:
        """Check that all ranks have the same content."""
        sums = self.gathered(torch.tensor([zlib.crc32(content), len(content)])).tolist()
        other = next((rank for rank, each in enumerate(sums) if each != sums[0]), None)
        if other is not None:
            raise TrainingError(
                f"ranks 0 and {other} {trouble}; start every process with the same options, seed and version"
            )

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, dist.DistError) and not any(w in str(error).lower() for w in _BROKEN):
                raise  # a bug of ours
            raise LostError(self.lost.format(self._blame())) from None

    def _blame(self) -> str:
        """Which rank is lost: the ones that are left say so in the store."""
        answer: list[str] = []
        _bounded(lambda: answer.append(self._asked()))
        return (
            answer[0]
            if answer
            else f"rank 0 of {self.size}, which keeps the processes together, no longer answers"
        )

    def _asked(self) -> str:
        assert self.store is not None
        try:
            self.store.set(f"left/{self.rank}", "")
            return self._found(self.store)
        except RuntimeError:
            return f"rank 0 of {self.size}, which keeps the processes together, is gone"

    def _found(self, store: Store) -> str:
        deadline, missing = time.monotonic() + _ASK_S, list(range(self.size))
        while missing and time.monotonic() < deadline:
            for rank in missing:
                if store.check([f"ended/{rank}"]):
                    return f"rank {rank} of {self.size} stopped ({store.get(f'ended/{rank}').decode()})"
            missing = [rank for rank in missing if not store.check([f"left/{rank}"])]
            time.sleep(0.05)
        if not missing:
            return f"the connection between the {self.size} ranks broke"
        names = f"rank{'s' * (len(missing) > 1)} {', '.join(map(str, missing))} of {self.size}"
        return f"{names} no longer answer{'s' * (len(missing) == 1)} (killed, out of memory or stuck)"


class LostError(TrainingError):
    """Another rank is lost; not what ended this one."""


def world(timeout_s: float = TIMEOUT_S, environment: Mapping[str, str] = os.environ) -> World:
    """The world that torchrun's variables describe (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT).

    Without them, or with a WORLD_SIZE of 1, this process is alone. Enter it (`with world() as ranks:`)
    or close it, so that the others learn of an error at once.

    Args:
        timeout_s: seconds to wait for another rank before it counts as lost.

    Raises:
        NasvitEdgeError: variables that make no sense, or more processes than GPUs.
        TrainingError: the others were not found in time.
    """
    if not {"RANK", "WORLD_SIZE"} & environment.keys():
        return World(device=_device(0))
    size = _number(environment, "WORLD_SIZE", 1, 1_000_000)
    rank = _number(environment, "RANK", 0, size - 1)
    device = _device(_number(environment, "LOCAL_RANK", 0, size - 1) if "LOCAL_RANK" in environment else 0)
    if size == 1:
        return World(device=device)
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    wait = timedelta(seconds=timeout_s)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, _, _ = next(iter(rendezvous("env://", rank, size, timeout=wait)))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=wait)
    except (RuntimeError, ValueError) as error:
        where = ":".join(environment.get(key, "?") for key in ("MASTER_ADDR", "MASTER_PORT"))
        raise TrainingError(
            f"rank {rank} of {size} did not meet the others at {where} within {timeout_s:g} s: {_reason(error)}; start all of them with torchrun"
        ) from None
    return World(rank, size, device, PrefixStore("nasvit-edge", store))


def _number(environment: Mapping[str, str], name: str, low: int, high: int) -> int:
    text = environment.get(name)
    if text is None or not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        problem = "is not set" if text is None else f"is {text!r}"
        raise NasvitEdgeError(
            f"the variable {name} {problem}; it must be {low} to {high}: start with torchrun, or unset RANK and WORLD_SIZE"
        )
    return int(text)


def _device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise NasvitEdgeError(
            f"LOCAL_RANK is {local_rank}, but this machine has {count} GPUs; use --nproc-per-node {count}"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """`tensors` in order, in runs of one dtype and of at most `_BUCKET_BYTES` (or one tensor)."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.nbytes > _BUCKET_BYTES or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket


def _apart(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Views of `flat` with the shapes of `like`."""
    pieces = torch.split(flat, [t.numel() for t in like])
    return [piece.view(t.shape) for piece, t in zip(pieces, like, strict=True)]


def _bounded(ask: Callable[[], None]) -> None:
    """Ask the store, which keeps us waiting where it is that of a rank that is stuck."""
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(2 * _ASK_S)


def _reason(error: BaseException) -> str:
    """The first line of an error."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
