"""Every call in the code that can wait is in the table of docs/waits.md, which says what ends it."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from nasvit_edge import files

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "waits.md"
FOLDERS = ("nasvit_edge", "devices", "export")

ALWAYS = {  # whatever they are called on
    *(
        "accept",
        "acquire",
        "as_completed",
        "check_call",
        "check_output",
        "communicate",
        "connect_accepted_socket",
    ),
    *(
        "drain",
        "flock",
        "getaddrinfo",
        "getresponse",
        "recv",
        "recv_bytes",
        "result",
        "run_forever",
        "select",
    ),
    *("run_until_complete", "sleep", "sock_accept", "urlopen", "wait", "wait_closed", "wait_for", "waitpid"),
    *("all_gather", "all_reduce", "broadcast", "barrier", "init_process_group", "rendezvous"),
    *("destroy_process_group", "DataLoader", "Lock", "Popen", "ProcessPoolExecutor", "ThreadPoolExecutor"),
    *("HTTPConnection", "HTTPSConnection", "patience", "input", "confirm", "prompt", "shutdown"),
}
EXACTLY = {"subprocess.run", "asyncio.run", "os.read", "asyncio.gather", "os.system"}
STREAMS = ("stdin", "stdout", "stderr")  # of a process
JOINED = ("thread", "process", "pump", "orderly", "worker")  # what they are called here


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression; "" where it is none."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def can_wait(node: ast.AST) -> bool:
    """Whether something else decides when this is done."""
    if isinstance(node, ast.For):
        return dotted(node.iter).rpartition(".")[2] in STREAMS
    if not isinstance(node, ast.Call):
        return False
    whole = dotted(node.func)
    name = whole.rpartition(".")[2] or getattr(node.func, "attr", "")
    if whole in EXACTLY:
        return True
    if name == "join":  # of a thread or process: that of a text takes what is joined
        on = dotted(node.func.value).rpartition(".")[2] if isinstance(node.func, ast.Attribute) else ""
        return not node.args or on.strip("_") in JOINED
    if name == "next":  # of torch's loader, whose workers fill it
        return bool(node.args) and dotted(node.args[0]).endswith("_made")
    if name == "get":  # of a queue: that of a dict takes a key
        return not node.args
    if name in ("read", "readline", "load"):  # of a process or connection
        return any(part in ast.unparse(node) for part in (*(f".{s}" for s in STREAMS), "reader."))
    return name in ALWAYS


def waits(source: str) -> Iterator[str]:
    """The functions of a module that call what can wait, as Class.method."""

    def walk(node: ast.AST, where: tuple[str, ...]) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if can_wait(child):
                yield ".".join(where) or "(module)"
            named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            yield from walk(child, (*where, child.name) if named else where)

    yield from walk(ast.parse(source), ())


@functools.cache
def found() -> set[tuple[str, str]]:
    return {
        (str(path.relative_to(ROOT)), where)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for where in waits(path.read_text())
    }


def told() -> dict[tuple[str, str], str]:
    """(file, function) -> what ends it, of the page's table."""
    rows: dict[tuple[str, str], str] = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = re.findall(r"`([^`]+)`", cells[0])
        if line.startswith("| `") and len(cells) == 3:
            rows |= {(names[0], name): cells[2] for name in names[1:]}
    return rows


@pytest.mark.skipif(not PAGE.exists(), reason="an installed package has no docs")
def test_every_wait_is_in_the_table_with_what_ends_it():
    missing = found() - told().keys()
    assert not missing, f"say in docs/waits.md what ends these, or give them a time-out: {sorted(missing)}"


def test_the_table_names_no_wait_that_is_gone():
    gone = told().keys() - found()
    assert not gone


def test_every_row_says_what_ends_the_wait():
    assert all(told().values())


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(q): return q.get()", ["f"]),
        ("def f(q): return q.get(timeout=3)", ["f"]),
        ("def f(d): return d.get('x')", []),
        ("class A:\n def f(self): return next(self._made)", ["A.f"]),
        ("def f(p): return ', '.join(p)", []),
        ("class A:\n def f(self): self.thread.join()", ["A.f"]),
        ("class A:\n def f(self): self.thread.join(3)", ["A.f"]),
        ("def f(process):\n for line in process.stdout: pass", ["f"]),
        ("def f(s):\n async def g(): await s.reader.read(3)\n return g", ["f.g"]),
        ("import subprocess\nsubprocess.run(['x'])", ["(module)"]),
        ("def f(command): return shlex.join(command)", []),
        ("def f(x): return make(x).result()", ["f"]),
        ("with ThreadPoolExecutor() as pool: pass", ["(module)"]),
    ],
)
def test_a_call_that_can_wait_is_seen(source, expected):
    assert list(waits(source)) == expected


def test_the_code_is_where_it_is_looked_for():
    assert Path(files.__file__).parent == (ROOT / "nasvit_edge")
    assert len(found()) > 50
