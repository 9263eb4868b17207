"""Top-1 of a bundle's own program on a folder of class folders: python benchmarks/program_accuracy.py BUNDLE FOLDER

Runs `classify` of the bundle's classify.py on every image, with the model loaded once, and reads the class that it prints.
What it gives must be what `nasvit-edge evaluate MODEL --data FOLDER` gives.
"""

import argparse
import contextlib
import functools
import importlib
import io
import sys
from pathlib import Path

RUNTIMES = {
    ".onnx": ("onnxruntime", "InferenceSession"),
    ".tflite": ("ai_edge_litert.interpreter", "Interpreter"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path, help="what `export --bundle` wrote")
    parser.add_argument("folder", type=Path, help="a folder for each label, of images")
    options = parser.parse_args()
    (model,) = (path for path in options.bundle.iterdir() if path.suffix in RUNTIMES)
    sys.path.insert(0, str(options.bundle.resolve()))
    module, name = RUNTIMES[model.suffix]
    runtime = importlib.import_module(module)
    setattr(runtime, name, once(getattr(runtime, name)))
    program = importlib.import_module("classify")
    right = total = 0
    for image in sorted(options.folder.glob("*/*")):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            program.classify(str(model), str(image))
        right += printed.getvalue().splitlines()[0].strip().split("  ", 1)[1] == image.parent.name
        total += 1
    print(f"{model.name}: {right} of {total} right, {right / total:.2%}")


def once(loaded):
    """The same model for every image."""
    kept: list = []

    @functools.wraps(loaded)
    def load(*arguments, **options):
        if not kept:
            kept.append(loaded(*arguments, **options))
        return kept[0]

    return load


if __name__ == "__main__":
    main()
