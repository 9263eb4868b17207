"""The programs' arithmetic in other languages, run for real: lines of questions to lines of answers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import require_program, require_tool, shared
from platformdirs import user_cache_path

from nasvit_edge import files

EXPORT = files.shipped("export")
HARNESS = Path(__file__).parent / "harness"
KOTLIN = "2.4.20"  # the npm package kotlin-compiler is JetBrains' own kotlinc


class Language:
    """A built harness."""

    def __init__(self, *command):
        self.command = list(map(str, command))

    def ask(self, lines):
        """A list of numbers (or words) for each line."""
        text = "".join(f"{line}\n" for line in lines)
        done = subprocess.run(self.command, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [line.split(",") for line in done.stdout.splitlines()]

    def numbers(self, lines):
        return [[float(word) for word in words] for words in self.ask(lines)]


def javascript(folder):
    """By node."""
    node = require_program("node")
    (folder / "package.json").write_text('{"type": "module"}')
    for path in (*(EXPORT / "onnx").glob("*.js"), HARNESS / "golden.mjs"):
        shutil.copy(path, folder)
    return Language(node, folder / "golden.mjs")


def kotlin(factory):
    """By kotlinc and java; what the programs call of Android is done by Java, and of LiteRT by its Python package."""
    java, compiler = require_program("java"), _kotlinc()
    jar = shared(factory, "kotlin", lambda folder: _compiled(java, compiler, folder)) / "golden.jar"
    litert = f"-Dlitert={sys.executable} {HARNESS / 'litert.py'}"
    return Language(java, litert, "-cp", f"{jar}:{compiler / 'lib' / 'kotlin-stdlib.jar'}", "GoldenKt")


def _compiled(java, compiler, folder):
    """Once for all of pytest's processes: it takes 15 s of a processor."""
    sources = [*(EXPORT / "tflite").glob("*.kt"), *HARNESS.glob("*.kt"), *(HARNESS / "android").glob("*.kt")]
    main = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"
    command = [
        java,
        "-Xmx1g",
        "-cp",
        compiler / "lib" / "kotlin-compiler.jar",
        main,
        "-no-reflect",
        "-Werror",
    ]
    _built([*command, "-kotlin-home", compiler, *sources, "-d", folder / "golden.jar"])


def swift(folder):
    """By swiftc; the part that needs Apple's frameworks is left out elsewhere."""
    compiler = shutil.which("swiftc")
    if compiler is None:
        pytest.skip("swiftc is absent: Debian 12 has no package of it")
    sources = [EXPORT / "coreml" / "PrepareImage.swift", HARNESS / "main.swift"]
    _built([compiler, "-O", *sources, "-o", folder / "golden"])
    return Language(folder / "golden")


def _built(command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _kotlinc():
    """The compiler's folder: of the cache, which npm fills where it has to (90 MB, once)."""
    kept = user_cache_path("nasvit-edge") / "kotlin-compiler" / KOTLIN
    if not (kept / "package" / "lib" / "kotlin-compiler.jar").exists():
        kept.mkdir(parents=True, exist_ok=True)
        npm = require_program("npm")
        command = [npm, "pack", "--silent", f"kotlin-compiler@{KOTLIN}", "--pack-destination", str(kept)]
        fetched = subprocess.run(command, cwd=kept, capture_output=True, check=False).returncode == 0
        require_tool(f"the npm package kotlin-compiler {KOTLIN}", fetched)
        (package,) = kept.glob("*.tgz")
        shutil.unpack_archive(package, kept, "gztar", filter="data")
        package.unlink()
    return kept / "package"
