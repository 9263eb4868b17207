"""What is promised on each system (docs/systems.md): commands that run, and those that are refused; on a space of 6 ops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import image_folders
from conftest import space_of
from made_up import predictor_file

from nasvit_edge import records

HERE = Path(__file__).parent
SMALLEST = """
schema = 1
name = "smallest"
resolutions = [8]
classes = 4
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
[attention]
window = 4
[stem]
width = [8]
kernel_size = 3
stride = 2
[[stage]]
name = "mb1"
kind = "mbconv"
width = [8, 16]
depth = [1]
kernel_size = [3]
expand_ratio = [1]
se = false
stride = 1
[head]
width = [16]
expand_ratio = 1
"""
TABLE = "tables/host-onnxruntime-1t-fp32-smallest.json"
IMAGES = "--data images --labels-in-order"
SEARCH_IMAGES = (
    f"search --space space.toml --supernet random {IMAGES} --accuracy measured --workers 2 "
    f"--latency 1s --table {TABLE} --out by-images.json"
)
TRAIN = "--space space.toml --data images --epochs 1 --batch-size 4 --out runs/smallest"
PROMISED = {
    "check": "devices check host --json",
    "profile": "profile --device host --runtime onnxruntime --space space.toml --protocol quick --out tables --json",
    "predict": f"predict config.json --space space.toml --table {TABLE} --json",
    "search": f"search --space space.toml --accuracy accuracy.json --latency 1s --supernet random --table {TABLE} "
    "--out result.json",
    "explain": f"explain result.json --table {TABLE} --json",
    "export": "export result.json --format onnx --uncalibrated --out m.onnx --json",
    "verify": "verify m.onnx --space space.toml --json",
    "evaluate": "evaluate m.onnx --data images --labels-in-order --space space.toml --json",
    "benchmark": "benchmark m.onnx --baseline m.onnx --rounds 2 --seconds 0.01 --out benchmark.json --json",
    "report": "report bench benchmark.json --html report.html --markdown comment.md --junit junit.xml --history history",
    "history": "report history history --metric size --json",
}
ON_A_MAC = ("check", "profile", "search", "export")
SLOW = {
    "win32": {
        "doctor": "doctor --json",
        "search by images": SEARCH_IMAGES,
        "quickstart": "quickstart --out quickstart --json",
    },
    "darwin": {  # but for Core ML, which checks an export on a Mac
        "doctor": "doctor --json",
        "search by images": SEARCH_IMAGES,
        "train": f"train --workers 1 {TRAIN}",
        "dry run": f"train --dry-run {TRAIN}",
        "finetune": "finetune result.json --data images --labels-in-order --epochs 1 --batch-size 4 --workers 1 --out tuned",
        "profile tflite": "profile --device host --runtime litert --space space.toml --protocol quick --out tables",
        "export tflite": "export result.json --format tflite --uncalibrated --out m.tflite --overwrite",
        "verify tflite": "verify m.tflite --space space.toml",
        "benchmark tflite": "benchmark m.tflite --rounds 2 --seconds 0.01 --out tflite.json",
    },
}
BUSY = {
    "check": 1,
    "benchmark": 3,
    "report": 3,
    "benchmark tflite": 3,
}  # where other work disturbs, as it may
LINES = {  # what is refused -> how the line begins
    "win32": {
        "train": "train is not supported on Windows; run it on Linux or macOS (WSL is Linux)",
        "train --dry-run": "train is not supported on Windows",
        "finetune result.json": "finetune is not supported on Windows",
        "adopt mobilenetv2_035 --data images": "adopt is not supported on Windows",
        "export result.json --format tflite": "format 'tflite' is not supported on Windows; use onnx",
        "export result.json --format tensorrt": "format 'tensorrt' is not supported on Windows; use onnx",
        "verify m.tflite": "format 'tflite' is not supported on Windows",
        "benchmark m.tflite": "format 'tflite' is not supported on Windows",
        "profile --device host --runtime litert": "format 'tflite' is not supported on Windows",
        "profile --device jetson --address a@b": "device 'jetson' (ssh) is not supported on Windows; use --device host",
        "profile --device android": "device 'android' (adb) is not supported on Windows",
        "benchmark m.onnx --device browser": "device 'browser' (pull) is not supported on Windows",
    },
    "darwin": {
        "export result.json --format tensorrt": "format 'tensorrt' is not supported on macOS; use onnx or tflite or coreml",
        "profile --device jetson --address a@b": "format 'tensorrt' is not supported on macOS",
    },
}
CHIPS = {"win32": "AMD Ryzen 9 7950X 16-Core Processor", "darwin": "Apple M4 Pro"}
NAMES = {"win32": "Windows", "darwin": "macOS"}


def there(folder, commands, system=None):
    """What the program `there` finds on a system; without one on this."""
    space = space_of(SMALLEST)
    (folder / "space.toml").write_text(SMALLEST)
    records.write(folder / "accuracy.json", predictor_file(space))
    (folder / "config.json").write_text(json.dumps(space.smallest().to_dict()))
    (folder / "m.tflite").write_bytes(b"none")
    image_folders.make(folder / "images")
    words = {name: line.split() for name, line in commands.items()}
    (folder / "commands.json").write_text(json.dumps(words))
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    if system is not None:
        environment |= {
            "NASVIT_EDGE_AS": system,
            "PYTHONPATH": os.pathsep.join([str(HERE / "shim"), str(HERE.parents[1])]),
            "PATH": os.pathsep.join([str(HERE / "shim" / "bin"), os.environ["PATH"]]),
        }
    command = [sys.executable, str(HERE / "there.py"), "commands.json", "results.json"]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return results | {"folder": folder, "system": system or sys.platform}


def failures(done, names):
    """Those of these commands that failed, with what they said."""
    well = {name: (0, BUSY.get(name, 0)) for name in names if name in done}
    return {name: done[name] for name, codes in well.items() if done[name]["code"] not in codes}


def not_refused(done, system):
    """Those that are not refused in one line, with what they said."""
    wrong = {}
    for words, line in LINES.get(system, {}).items():
        last = (done[words]["err"].splitlines() or [""])[-1]
        refused = last.startswith(f"error: {line}") and last.endswith("; see docs/systems.md")
        if done[words]["code"] != 2 or not refused:
            wrong[words] = done[words]
    return wrong
