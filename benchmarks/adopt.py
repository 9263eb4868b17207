"""What making a pretrained network elastic brings: python benchmarks/adopt.py PHOTOS --out runs/adopt

PHOTOS is a folder with train/ and test/, a folder for each class in both. The same number of epochs, rates and images each:
`elastic`: nasvit-edge adopt, then the ends of the space and five random subnets on the test images;
`alone`: the network itself, finetuned without subnets;
`cut`: the network with half of its expanded channels everywhere (the first by importance), finetuned alone;
`scratch`: elastic from random weights.
Minutes of training, MACs and top-1 of each are printed. Two cores; about 25 minutes for ten classes of 200 images at 96 pixels.
"""

import argparse
import json
import time
from pathlib import Path

from nasvit_edge.flows import evaluate
from nasvit_edge.flows.adopt import START, adopt, replace_epochs
from nasvit_edge.listening import SILENT
from nasvit_edge.requests.adopt import Request
from nasvit_edge.requests.evaluate import Request as EvaluateRequest
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space
from nasvit_edge.train.loop import Settings
from nasvit_edge.train.recipe import load_recipe
from nasvit_edge.train.run import TrainingRequest, run

WAYS = ("elastic", "alone", "cut", "scratch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--network", default="efficientnet-lite0")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--set", nargs="*", default=[], dest="values", help="changes of the recipe")
    options = parser.parse_args()
    for way in options.ways:
        measure(way, options)


def measure(way: str, options: argparse.Namespace) -> None:
    out, started = options.out / way, time.monotonic()
    if way in ("elastic", "scratch"):
        weights = "pretrained" if way == "elastic" else "random"
        adopt(_request(options, out, weights), listener=SILENT)
        subnets = "min,max,random:5"
    else:
        space, config = _single(way, options)
        _train_alone(space, config, options, out)
        subnets = "max"
    minutes = (time.monotonic() - started) / 60
    print(
        f"{way}: {options.epochs} epochs in {minutes:.1f} minutes, validation of the ends included",
        flush=True,
    )
    _judge(out, options.photos, subnets)


def _request(options: argparse.Namespace, out: Path, weights: str) -> Request:
    return Request(
        network=options.network,
        data=options.photos,
        out=out,
        weights=weights,
        epochs=options.epochs,
        size=options.size,
        values=options.values,
    )


def _single(way: str, options: argparse.Namespace) -> tuple[SearchSpace, SubnetConfig]:
    """The space that `elastic` wrote, and the subnet that is trained alone."""
    space = load_space(options.out / "elastic" / "space.toml")
    values = space.largest().to_dict()
    if way == "cut":
        values["expand_ratio"] = [gene.choices[0] for gene in space.genes if gene.kind == "expand_ratio"]
    return space, space.config(**values)


def _train_alone(space: SearchSpace, config: SubnetConfig, options: argparse.Namespace, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(config.to_dict()))
    recipe = load_recipe("adopt").with_values(["single=true", *options.values])
    run(
        TrainingRequest(
            space=space.origin,
            data=options.photos,
            recipe=replace_epochs(recipe, options.epochs),
            settings=Settings(out=out, threads=2),
            weights=str(options.out / "elastic" / START),
            config=out / "config.json",
            validate_every=0,
        )
    )


def _judge(out: Path, photos: str, subnets: str) -> None:
    asked = EvaluateRequest(
        supernet=str(out / "supernet.safetensors"), data=photos, subnets=subnets, split="test"
    )
    for row in evaluate.evaluate(asked).subnets:
        print(f"    {row.macs / 1e6:6.1f} MMACs  {row.accuracy:.2%}  {row.name}", flush=True)


if __name__ == "__main__":
    main()
