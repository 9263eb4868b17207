"""Give shipped weights the statistics of the training pipeline: python benchmarks/settle_shipped.py NAME DATA

    python benchmarks/settle_shipped.py nano fashion-mnist
    python benchmarks/settle_shipped.py nano-cifar10 CIFAR10

The weights stay as they are; only the largest subnet's batch-norm statistics, which calibrations are compared with,
are estimated anew: by batches of the recipe that trained the weights, of the images that trained them.
"""

import argparse

import torch

from nasvit_edge import files
from nasvit_edge.model.checkpoint import load_supernet, save_supernet
from nasvit_edge.space import load_space
from nasvit_edge.train.calibration import calibration_for
from nasvit_edge.train.initial import settle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", help="of the space and of its shipped weights")
    parser.add_argument("data", help="what trained them")
    options = parser.parse_args()
    torch.set_num_threads(2)
    supernet = load_supernet(options.name, load_space(options.name))
    calibration = calibration_for(supernet, options.data)
    settle(supernet, calibration)
    known = {key: value for key, value in supernet.source.items() if key not in ("sha256",)}
    known["kind"] = "trained"
    save_supernet(supernet, files.data("weights", f"{options.name}.safetensors"), known)
    print(f"settled on {calibration.name}; distance of the same images {calibration.distance(supernet):.4f}")


if __name__ == "__main__":
    main()
