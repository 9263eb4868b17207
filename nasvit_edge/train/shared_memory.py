"""Shared memory for the batches of worker processes: how much they take, and whether there is as much."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from nasvit_edge.errors import DataError
from nasvit_edge.units import show_bytes

FOLDER = Path("/dev/shm")  # where Linux keeps it; other systems set no such limit


def check(
    batch_bytes: int, batches: int, folder: Path = FOLDER, environment: Mapping[str, str] = os.environ
) -> None:
    """DataError where shared memory has no room for so many batches of every process that trains on this machine."""
    if not folder.is_dir():
        return
    local = environment.get("LOCAL_WORLD_SIZE", "")  # torchrun's
    needed = batch_bytes * batches * (int(local) if local.isascii() and local.isdigit() else 1)
    usage = shutil.disk_usage(folder)
    if needed > usage.free:
        raise DataError(
            f"worker processes need {show_bytes(needed)} of shared memory for {batches} batches of "
            f"{show_bytes(batch_bytes)}; {str(folder)!r} has {show_bytes(usage.free)} free: {ways_out(needed + usage.used)}"
        )


def ways_out(needed: int) -> str:
    """What to do, where so many bytes have to fit."""
    gigabytes = max(1, math.ceil(1.25 * needed / 2**30))
    return f"use --workers 0, or give a container more: docker run --shm-size={gigabytes}g"
