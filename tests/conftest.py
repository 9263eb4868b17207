"""What tests share: hypothesis profiles, a small space, strategies, and tools that may be absent."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os

if "PYTEST_XDIST_WORKER" in os.environ:  # two processes with a pool of two threads each wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import re
import shutil
import signal
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from filelock import FileLock
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.profile.protocol import PROTOCOLS
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space, parse_space

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a shell's background job: children would ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

# the command line, which does not change, is built once: that takes longer than most commands
typer.testing._get_command = functools.cache(typer.testing._get_command)

GOLDEN = Path(__file__).parent / "golden"

_slow = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile(
    "default", deadline=None, max_examples=60, derandomize=True, suppress_health_check=_slow
)
settings.register_profile("fuzz", deadline=None, max_examples=2000, suppress_health_check=_slow)
settings.load_profile(os.environ.get("NASVIT_EDGE_HYPOTHESIS", "default"))

TINY = """
schema = 1
name = "tiny"
resolutions = [8, 12]
classes = 4
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
[attention]
window = 4
[stem]
width = [8]
kernel_size = 3
stride = 1
[[stage]]
name = "mb1"
kind = "mbconv"
width = [8, 16]
depth = [1, 2]
kernel_size = [3, 5]
expand_ratio = [1]
se = false
stride = 2
[[stage]]
name = "mb2"
kind = "hybrid"
width = [16, 24]
depth = [1, 2, 3]
kernel_size = [3]
expand_ratio = [2, 3]
se = true
stride = 2
[head]
width = [16, 32]
expand_ratio = 2
"""


PROMISED = (  # what needs nothing that only Linux has
    *("tests/choosing", "tests/latency", "tests/searching", "tests/benchmark", "tests/report"),
    *("tests/test_ops.py", "tests/test_paired.py", "tests/test_records.py", "tests/test_sizes.py"),
    *("tests/test_space.py", "tests/test_units.py", "tests/systems/test_here.py"),
)
LINUX_ONLY = ("test_images.py", "test_bench_session.py", "test_history.py")  # kill, links, permissions


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The marker `promised`, by the file."""
    listed = [Path(__file__).parents[1] / path for path in PROMISED]
    for item in items:
        path = item.path
        if path.name not in LINUX_ONLY and any(path == one or one in path.parents for one in listed):
            item.add_marker("promised")


def require_tool(name: str, present: bool) -> None:
    """Skip where a tool is absent, unless everything is required: there an absent tool is a failure."""
    if present:
        return
    if os.environ.get("NASVIT_EDGE_REQUIRE_ALL") == "1":
        pytest.fail(f"{name} is required here (NASVIT_EDGE_REQUIRE_ALL=1) and absent")
    pytest.skip(f"{name} is absent")


def require_program(name: str) -> str:
    """The path of a program."""
    path = shutil.which(name)
    require_tool(name, path is not None)
    return str(path)


def require_module(name: str) -> Any:
    """A module that loads; one that is installed but broken counts as absent."""
    module = None
    try:
        module = importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 - a torchvision of another torch fails with a RuntimeError
        reason = (str(error).splitlines() or [""])[0]
        require_tool(f"{name} ({reason})", False)
    return module


def one_line(error: BaseException | pytest.ExceptionInfo[BaseException]) -> str:
    """The text of a user-facing error, checked to be one clear line."""
    value = error.value if isinstance(error, pytest.ExceptionInfo) else error
    assert isinstance(value, NasvitEdgeError)
    text = str(value)
    assert text.strip()
    assert "\n" not in text
    return text


def only_user_errors(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """The result, or the line of the user-facing error; anything else is raised, and so is a bug."""
    try:
        return function(*arguments, **options)
    except NasvitEdgeError as error:
        return one_line(error)


def configs(space: SearchSpace) -> st.SearchStrategy[SubnetConfig]:
    """Any subnet of a space, shrinking to the smallest."""
    return st.tuples(*(st.sampled_from(gene.choices) for gene in space.genes)).map(
        lambda values: space.from_choices(space.rising(values))
    )


def space_of(text: str) -> SearchSpace:
    """The space of a TOML text."""
    return parse_space(tomllib.loads(text), Path("test.toml"))


def edited(text: str, *pairs: tuple[str, str]) -> str:
    """`text` with replacements, each of which must occur."""
    for old, new in pairs:
        assert re.search(re.escape(old), text), old
        text = text.replace(old, new)
    return text


TINIER = edited(  # 18 ops and 32 subnets, for what is measured or converted whole
    TINY,
    ("resolutions = [8, 12]", "resolutions = [8]"),
    ("kernel_size = [3, 5]", "kernel_size = [3]"),
    ("depth = [1, 2, 3]", "depth = [1, 2]"),
    ("width = [16, 32]", "width = [16]"),
)


def shared(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` fills once for all of pytest's processes; a test that changes what is in it copies it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared-{name}"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            unfinished = folder.with_name(f"{folder.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """Tensors at random are the same in every run: what fails once can be looked into.

    A test that trained leaves its threads to none behind it: two processes with two threads each wait for each other.
    """
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
        if "PYTEST_XDIST_WORKER" in os.environ:
            torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The key of seals and devices of tests stay out of the developer's settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _brief_measurements() -> Iterator[None]:
    """What tests profile with `quick` is measured for a moment, and not again where the machine is busy."""
    quick = PROTOCOLS["quick"]
    brief = dataclasses.replace(quick, seconds=0.0, precision=1.0, drift=100.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROTOCOLS, "quick", brief)
        yield


@pytest.fixture(scope="session")
def tiny() -> SearchSpace:
    """A hybrid space whose largest subnet takes well under a millisecond."""
    return space_of(TINY)


@pytest.fixture(scope="session")
def nano() -> SearchSpace:
    return load_space("nano")


@pytest.fixture(scope="session")
def nasvit() -> SearchSpace:
    return load_space("nasvit")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tiny steps gain nothing from threads and wait for them where other programs run."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def few_batches(request: pytest.FixtureRequest) -> Iterator[None]:
    """Statistics are estimated on fewer batches, but in a module that says `ALL_BATCHES = True`: how good they are is tested there."""
    if "torch" not in sys.modules or getattr(request.module, "ALL_BATCHES", False):
        yield
        return
    from nasvit_edge.train import calibration

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "BATCHES", 4)
        patch.setattr(calibration, "SCENE_BATCHES", 3)
        yield


@pytest.fixture(scope="module")
def pair() -> Iterator[Any]:
    """Two processes that train together."""
    from ranks import ranks

    with ranks(2) as started:
        yield started


@pytest.fixture(scope="module")
def three() -> Iterator[Any]:
    """Three processes that train together."""
    from ranks import ranks

    with ranks(3) as started:
        yield started
