"""Rules of the house: floors, no circles, light imports, short files, shipped data that parses. Each test lists all offenders."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

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
        "host_code",
        "cache",
        "code",
        "digests",
        "seals",
        "records",
        "hints",
        "listening",
        "appending",
        "runtimes",
        "machines",
        "systems",
        "processes",
        "trusting",
        "specs",
        "genes",
        "preparation",
        "space_parts",
        "space_file",
        "space",
    ],
    ["block_ops", "pixel_ops", "network_ops", "ops", "sizes"],
    ["latency", "device", "data_sets"],
    ["model"],
    ["adopting"],
    ["export"],
    ["transport"],
    ["profile"],
    ["train"],
    ["searching"],
    ["requests"],
    ["choosing"],
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
    "jinja2",
    "vl_convert",
    "plotext",
)
MOST_LINES = 400
TORCH_ALLOWED = ("model", "adopting", "train")
EMPTY_NAMES = {"found", "made", "told", "got", "own"}  # say that something was done, not what it is
NAMED_WELL = ("nasvit_edge", "devices", "benchmarks", "tests")
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


def test_modules_import_only_from_floors_below():
    offenders = []
    for module in (m for m in MODULES if str(m) != "__init__.py"):
        unit, used = _unit(module), _imported_units(module)
        assert unit in ORDER, f"{unit} has no floor: give it one in this test"
        above = {u for u in used - {unit} if u in ORDER and ORDER.index(u) > ORDER.index(unit)}
        offenders += [f"{module} imports {u}" for u in sorted(above)]
    assert offenders == []


def _name(module: Path) -> str:
    return ".".join(["nasvit_edge", *module.with_suffix("").parts]).removesuffix(".__init__")


NAMES = {_name(module): module for module in MODULES}


def _imported(module: Path) -> set[str]:
    """The modules of ours that a module imports anywhere in it, in functions and for types as well."""
    names = set()
    for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in NAMES else node.module for name in inner}
    return names & set(NAMES)


def test_no_modules_import_each_other_in_a_circle():
    """What imports nothing that is left is taken away until nothing can be: what stays is in circles, or imports them."""
    left = {name: _imported(module) - {name} for name, module in NAMES.items()}
    while free := [name for name, used in left.items() if not used & left.keys()]:
        left = {name: used for name, used in left.items() if name not in free}
    while used := [name for name in left if not any(name in others for others in left.values())]:
        left = {name: others for name, others in left.items() if name not in used}
    assert sorted(left) == []


TEXT_MODES = {"r", "w", "a", "x", "rt", "wt", "at", "r+", "w+"}


def _unnamed_encodings(path: Path) -> list[int]:
    """Lines that read or write text as the system likes it, which on Windows is no UTF-8."""
    lines = []
    for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        of = getattr(getattr(call.func, "value", None), "id", "")
        words = {keyword.arg: keyword.value for keyword in call.keywords}
        mode = next((a.value for a in call.args if getattr(a, "value", None) in TEXT_MODES), None)
        texts = isinstance(call.func, ast.Attribute) and name in ("read_text", "write_text") and of != "files"
        texts |= name in ("open", "fdopen") and mode is not None
        texts |= any(getattr(words.get(key), "value", False) for key in ("text", "universal_newlines"))
        if texts and "encoding" not in words:
            lines.append(call.lineno)
    return lines


def test_text_is_read_and_written_in_an_encoding_that_is_named():
    root = PACKAGE.parent
    paths = [path for name in ("nasvit_edge", "devices", "export") for path in (root / name).rglob("*.py")]
    offenders = {str(path.relative_to(root)): lines for path in paths if (lines := _unnamed_encodings(path))}
    assert offenders == {}


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


def test_importing_a_module_imports_nothing_heavy():
    """All of them into one interpreter; where that brings something heavy, each into one of its own."""
    names = [_name(module) for module in LIGHT]
    code = "import importlib, json, sys; [importlib.import_module(name) for name in json.loads(sys.argv[2])]"
    code += "; print([m for m in json.loads(sys.argv[1]) if m in sys.modules])"
    asked = [sys.executable, "-c", code, json.dumps(HEAVY), json.dumps(names)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", (done.stderr, _heavy(names))


def _heavy(names: list[str]) -> dict[str, list[str]]:
    asked = [sys.executable, "-c", FRESH, json.dumps([HEAVY, names])]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return {name: modules for name, modules in map(json.loads, done.stdout.splitlines()) if modules}


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


def test_no_module_is_longer_than_four_hundred_lines():
    lines = {str(module): len((PACKAGE / module).read_text().splitlines()) for module in MODULES}
    assert {module: count for module, count in lines.items() if count > MOST_LINES} == {}


def _shipped(suffix: str) -> list[Path]:
    return sorted(path for folder in DATA_FOLDERS for path in folder.rglob(f"*{suffix}"))


def test_every_shipped_toml_and_json_parses():
    contents = [files.read_toml(path, "shipped file") for path in _shipped(".toml")]
    contents += [files.read_json(path, "shipped file") for path in _shipped(".json")]
    assert all(contents)
    assert len(_shipped(".toml")) >= 3


def test_every_shipped_space_is_called_as_its_file_is():
    spaces = [path for path in _shipped(".toml") if path.parent.name == "spaces"]
    assert [load_space(path).name for path in spaces] == [path.stem for path in spaces]


def test_no_two_test_files_have_one_name():
    """pytest imports them by name alone and would leave out one of the two."""
    counted = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in counted.items() if count > 1] == []


def test_no_two_classes_have_one_name():
    """But the request of each command, and what a module keeps for itself."""
    homes: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    shared = {name: places for name, places in homes.items() if len(places) > 1}
    requests = [place for place in shared.pop("Request", []) if not place.startswith("requests/")]
    assert (shared, requests) == ({}, [])


def _called(decorator: ast.expr) -> str:
    return ast.unparse(decorator).partition("(")[0].rpartition(".")[2]


def _bound(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each parameter and variable.

    Not of the fields of records, whose names files know, nor of what a test is given, which is called as its fixture is.
    """
    classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    fields = {id(part.target) for node in classes for part in node.body if isinstance(part, ast.AnnAssign)}
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    tests = [
        f for f in functions if f.name.startswith("test_") or "fixture" in map(_called, f.decorator_list)
    ]
    given = {id(part) for node in tests for part in node.args.args}
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and id(node) not in given:
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in fields:
            yield node.lineno, node.id


def test_variables_say_what_they_hold():
    offenders = []
    for path in sorted(path for name in NAMED_WELL for path in (PACKAGE.parent / name).rglob("*.py")):
        bound = sorted(_bound(ast.parse(path.read_text())))
        offenders += [f"{path}:{line} {name}" for line, name in bound if name in EMPTY_NAMES]
    assert offenders == []
