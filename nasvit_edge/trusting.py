"""Which programs of others may be run: those that the user named, and never one that a file alone asks for.

A space of one network says who makes it: timm, or a function `module:function`, which can do whatever its user can. Files
travel, so the function is run only where it was named on the command line.
"""

from __future__ import annotations

import os

TRUSTED = "NASVIT_EDGE_TRUST_CODE"  # of the environment, so that processes that are started know it, too
TIMM = "timm:"


def trust(source: str) -> None:
    """From here on, also in processes that this one starts, the program of this source may be run."""
    listed = os.environ.get(TRUSTED, "").split()
    if source not in listed:
        os.environ[TRUSTED] = " ".join([*listed, source])


def is_trusted(source: str) -> bool:
    """Whether a source is timm's, or a program that the user named."""
    return source.startswith(TIMM) or source in os.environ.get(TRUSTED, "").split()
