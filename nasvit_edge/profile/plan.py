"""What a profile is going to measure, and how."""

from __future__ import annotations

from dataclasses import dataclass

from nasvit_edge.profile.protocol import Protocol
from nasvit_edge.records import Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilePlan:
    """What is measured, and how; a journal of another plan is not continued."""

    device: str
    runtime: str
    runtime_version: str | None
    threads: int
    cores: tuple[int, ...]
    precision: str
    space: str
    protocol: Protocol
    seed: int
    fingerprint: dict[str, Fact]
    code: str
    program_sha256: str | None = None  # of a program of one's own on the device
