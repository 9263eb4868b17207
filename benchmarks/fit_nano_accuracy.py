"""The accuracy predictor of `nano`, fitted and checked: python benchmarks/fit_nano_accuracy.py [--write]

Fitted to subnets measured on the 1,000 validation images (never trained on), then checked on other subnets and
other images: the 10,000 test images (Debian: dataset-fashion-mnist). The check's error is the one that is shipped.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from nasvit_edge import data_sets, files, records
from nasvit_edge.flows import fitting as flow
from nasvit_edge.listening import Listener
from nasvit_edge.requests.accuracy import Request
from nasvit_edge.searching.accuracy import predictor_of
from nasvit_edge.searching.fitting import drawn
from nasvit_edge.searching.images import ImageAccuracy
from nasvit_edge.space import load_space


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=600)
    parser.add_argument("--check", type=int, default=40, help="other subnets, on the test images")
    parser.add_argument("--write", action="store_true", help="put it into the package data")
    options = parser.parse_args()
    space = load_space("nano")
    with tempfile.TemporaryDirectory() as folder:
        fitted = flow.fit(
            Request(samples=options.samples, out=Path(folder) / "nano.json"),
            listener=Listener(
                progress=lambda done, total, detail: print(
                    f"\r{done} of {total} {detail}", end="", flush=True
                )
            ),
        )
    content = records.content(fitted)
    print(f"\nleft out, on validation images: {content['validation']}")
    content["validation"]["test"] = check(space, predictor_of("nano", fitted, space), options.check)
    content["uncertainty"] = content["validation"]["test"]["rmse"]
    print(f"others, on test images: {content['validation']['test']}")
    if options.write:
        path = files.data("accuracy") / "nano.json"
        files.write_json(path, content)
        print(f"wrote {path}")


def check(space, predictor, count):
    """Error and rank correlation on subnets that the fit did not see, and on images that nothing saw."""
    source = ImageAccuracy.load("nano", space, data_sets.BUNDLED)
    source.validation = data_sets.fashion_mnist(train=False)
    known = set(drawn(space, 10_000, 0)[:600])
    others = [config for config in drawn(space, 4 * count, 1) if config not in known][:count]
    measured = np.array([source(config) for config in others])
    error = np.array([predictor(config) for config in others]) - measured
    return {
        "images": len(source.validation),
        "subnets": len(others),
        "rmse": round(float(np.sqrt(np.mean(error**2))), 6),
        "bias": round(float(error.mean()), 6),
        "tau": round(float(kendalltau(measured, measured + error)[0]), 4),
    }


if __name__ == "__main__":
    main()
