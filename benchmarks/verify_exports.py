"""Every format and precision on `nasvit`: error, signal-to-noise ratio, size and the time an export takes.

    python benchmarks/verify_exports.py [--formats onnx,tflite,coreml,tensorrt] [--sizes smallest,middle,largest]

Random generic weights; int8 ranges from generic images. Files that fail are counted, not hidden.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import structs

import nasvit_edge as ne
from nasvit_edge.export import parity, writing
from nasvit_edge.export.formats import format_names, load_format
from nasvit_edge.model.subnet import materialise
from nasvit_edge.profile.models import composition_subnets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--formats", default=",".join(format_names()))
    parser.add_argument("--sizes", default="smallest,middle,largest")
    wanted = parser.parse_args()
    space = ne.load_space("nasvit")
    supernet = ne.load_supernet("random", space)
    middle = sorted(composition_subnets(space, 24, 0), key=lambda c: ne.macs(space, c))[12]
    configs = {"smallest": space.smallest(), "middle": middle, "largest": space.largest()}
    print(f"{'format':9} {'precision':9} {'subnet':9} {'error':>8} {'SNR dB':>7} {'MB':>6} {'s':>6}  outcome")
    for name in wanted.formats.split(","):
        form = load_format(name)
        for precision in form.thresholds:
            for size in wanted.sizes.split(","):
                config = configs[size]
                options = writing.Options(
                    precision=precision,
                    uncalibrated=True,
                    force=True,
                    calibration=parity.inputs(space, config.resolution, seed=1)[0],
                )
                limits = (
                    {"int8": structs.replace(form.thresholds["int8"], snr_db=None)}
                    if precision == "int8"
                    else {}
                )
                reporting = structs.replace(form, thresholds={**form.thresholds, **limits})
                with TemporaryDirectory() as folder:
                    path = Path(folder, f"m{form.suffix}")
                    started = time.perf_counter()
                    exported = writing.export(
                        supernet, materialise(supernet, config), reporting, path, options
                    )
                    spent, check = time.perf_counter() - started, exported.check
                    size_mb = writing.size_bytes(writing.artifact.read_content(path)) / 1e6
                outcome = "passed" if check.passed else "; ".join(check.failures())
                print(
                    f"{name:9} {precision:9} {size:9} {check.error:8.1e} {check.snr_db:7.1f} {size_mb:6.1f} {spent:6.1f}  {outcome}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
