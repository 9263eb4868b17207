"""Write what shipped weights say of the images that trained them: python benchmarks/digest_shipped.py NAME DATA

    python benchmarks/digest_shipped.py nano fashion-mnist
    python benchmarks/digest_shipped.py nano-cifar10 CIFAR10

The weights stay as they are, byte by byte; digests are written beside them (NAME.images.json). The images must be as many
as the weights say that trained them.
"""

import argparse
import json

from nasvit_edge import data_sets, files, records
from nasvit_edge.model.checkpoint import images_beside, load_supernet, resolve_weights
from nasvit_edge.space import load_space


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", help="of the space and of its shipped weights")
    parser.add_argument("data", help="what trained them")
    options = parser.parse_args()
    space = load_space(options.name)
    train, _ = data_sets.training_splits(options.data, space)
    count = load_supernet(options.name, space).source["images"]
    if len(train) != count:
        raise SystemExit(
            f"{options.data!r} has {len(train)} training images, and {count} trained the weights"
        )
    path = images_beside(resolve_weights(options.name))
    content = json.dumps(records.content(data_sets.trained_on(train, data_sets.TrainedOn()).saved())) + "\n"
    files.write_text(path, content)
    print(f"{path}: {len(train)} images, {len(content)} bytes")


if __name__ == "__main__":
    main()
