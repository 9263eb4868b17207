"""Rules of the house: floors, light imports, short files, shipped data that parses."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import nasvit_edge
from nasvit_edge import files
from nasvit_edge.space import load_space

PACKAGE = Path(nasvit_edge.__file__).parent
FLOORS = [
    ["errors"],
    [
        "units",
        "paired",
        "files",
        "digests",
        "seals",
        "records",
        "hints",
        "processes",
        "toml_table",
        "specs",
        "space_parts",
        "preparation",
        "space",
    ],
    ["pixel_ops", "ops", "sizes"],
    ["latency", "device", "data_sets"],
    ["model"],
    ["export"],
    ["transport"],
    ["profile"],
    ["train"],
    ["searching"],
    ["benchmark"],
    ["report"],
    ["flows"],
    ["cli"],
]
ORDER = [unit for floor in FLOORS for unit in floor]  # on one floor, from left to right
HEAVY = (
    "torch",
    "torchvision",
    "onnx",
    "onnxruntime",
    "litert_torch",
    "ai_edge_litert",
    "coremltools",
    "tensorrt_rtx",
    "sklearn",
    "scipy",
    "altair",
    "vl_convert",
    "plotext",
)
TORCH_ALLOWED = ("model", "train")
MODULES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py") if "shipped" not in p.parts)
DATA_FOLDERS = [PACKAGE / "data", *(files.shipped(name) for name in ("devices", "export", "latency_tables"))]


def _unit(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def _imported_units(module: Path) -> set[str]:
    """The parts of our package that a module imports, anywhere in it."""
    units = set()
    for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "nasvit_edge":
            units |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nasvit_edge."):
            units.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            units |= {a.name.split(".")[1] for a in node.names if a.name.startswith("nasvit_edge.")}
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{module}: relative import"
    return units


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m.name != "__init__.py" or len(m.parts) > 1], ids=str
)
def test_a_module_imports_only_from_floors_below(module):
    unit = _unit(module)
    assert unit in ORDER, f"{unit} has no floor: give it one in this test"
    above = {u for u in _imported_units(module) - {unit} if u in ORDER and ORDER.index(u) > ORDER.index(unit)}
    assert not above


LIGHT = [m for m in MODULES if _unit(m) not in TORCH_ALLOWED]
FRESH = """
import json, os, sys
import numpy, rich, typer  # what any module may import, loaded once
heavy, names = json.loads(sys.argv[1])
for name in names:
    child = os.fork()  # an interpreter that has seen no other module of ours
    if child == 0:
        __import__(name)
        print(json.dumps([name, [m for m in heavy if m in sys.modules]]), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def _name(module: Path) -> str:
    return ".".join(["nasvit_edge", *module.with_suffix("").parts]).removesuffix(".__init__")


@pytest.fixture(scope="module")
def loaded():
    """Module -> what heavy it brings with it, each imported into an interpreter of its own."""
    asked = json.dumps([HEAVY, [_name(module) for module in LIGHT]])
    done = subprocess.run([sys.executable, "-c", FRESH, asked], capture_output=True, text=True, check=False)
    return dict(json.loads(line) for line in done.stdout.splitlines()), done.stderr


@pytest.mark.parametrize("module", LIGHT, ids=str)
def test_importing_a_module_imports_nothing_heavy(module, loaded):
    found, errors = loaded
    assert found.get(_name(module), errors) == []


def test_the_command_line_starts_without_numbers():
    """Numpy and what needs it takes longer to load than all else that `--help` needs."""
    code = "import sys, nasvit_edge.cli; print([m for m in ('numpy', 'PIL', 'rich.progress') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_taking_a_subnet_from_a_supernet_loads_no_compiler():
    """It takes two seconds, at the start of export, verify, evaluate, profile and search."""
    code = """
import sys
from nasvit_edge.model.subnet import fold, materialise
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import load_space
space = load_space("nano")
fold(materialise(Supernet(space), space.largest()))
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_no_module_is_longer_than_four_hundred_lines(module):
    lines = len((PACKAGE / module).read_text().splitlines())
    assert lines <= 400


def _shipped(suffix: str) -> list[Path]:
    return sorted(path for folder in DATA_FOLDERS for path in folder.rglob(f"*{suffix}"))


@pytest.mark.parametrize("path", _shipped(".toml"), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_shipped_toml_parses(path):
    assert files.read_toml(path, "shipped file")
    if path.parent.name == "spaces":
        assert load_space(path).name == path.stem


@pytest.mark.parametrize("path", _shipped(".json"), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_shipped_json_parses(path):
    assert files.read_json(path, "shipped file")


def test_shipped_folders_are_found():
    assert len(_shipped(".toml")) >= 3
