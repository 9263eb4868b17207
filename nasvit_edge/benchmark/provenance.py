"""Which run this is: when, of which code, by which job of which CI."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import subprocess
import uuid
from collections.abc import Callable

from nasvit_edge.benchmark.result import BenchmarkRun


def this_run() -> BenchmarkRun:
    """Of now, in this working directory; outside a repository without a commit."""
    sha = _git("rev-parse", "HEAD")
    return BenchmarkRun(
        uuid=str(uuid.uuid4()),
        utc=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        tool_version=importlib.metadata.version("nasvit-edge"),
        git_sha=sha or None,
        git_dirty=bool(_git("status", "--porcelain", "--untracked-files=no")) if sha else None,
        ci_url=_ci_url(os.environ.get),
    )


def _git(*words: str) -> str:
    """What git says of the working directory; empty where it says nothing."""
    try:
        process = subprocess.run(
            ["git", *words], capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout.strip() if process.returncode == 0 else ""


def _ci_url(get: Callable[[str], str | None]) -> str | None:
    """The page of the CI job: of GitHub Actions, or GitLab's."""
    server, repository, run = map(get, ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID"))
    return f"{server}/{repository}/actions/runs/{run}" if server and repository and run else get("CI_JOB_URL")
