"""What making a pretrained network elastic brings: python benchmarks/adopt.py PHOTOS --out runs/adopt

PHOTOS is a folder with train/ and test/, a folder for each class in both. The same number of epochs, rates and images each:
`elastic`: nasvit-edge adopt, then the ends of the space and three random subnets on the test images;
`alone`: the network itself, finetuned without subnets;
`cut`: the network with half of its expanded channels everywhere (the first by importance), finetuned alone;
`scratch`: elastic from random weights;
`order` (nothing is trained): what is left of `alone` with half of its expanded channels, the first by importance or random ones.
Minutes of training, MACs and top-1 of each are printed. `alone` and what is after it need `elastic`.
Two cores, ten classes of 200 images at 96 pixels, ten epochs: `elastic` took 10 minutes and 3 to be judged.
"""

import argparse
import json
import time
from pathlib import Path

from nasvit_edge.adopting.weights import Order, put_in_order
from nasvit_edge.flows import evaluate
from nasvit_edge.flows.adopt import START, adopt, replace_epochs
from nasvit_edge.listening import SILENT
from nasvit_edge.model.checkpoint import load_supernet, save_supernet
from nasvit_edge.requests.adopt import Request
from nasvit_edge.requests.evaluate import Request as EvaluateRequest
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space, space_toml
from nasvit_edge.train.finetune import taken
from nasvit_edge.train.loop import Settings
from nasvit_edge.train.recipe import load_recipe
from nasvit_edge.train.run import TrainingRequest, run

WAYS = ("elastic", "alone", "cut", "scratch", "order")
SEEDS = 3


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
    if way == "order":
        compare_orders(options)
        return
    out, started = options.out / way, time.monotonic()
    if way in ("elastic", "scratch"):
        weights = "pretrained" if way == "elastic" else "random"
        adopt(_request(options, out, weights), listener=SILENT)
        subnets = "min,max,random:3"
    else:
        space, config = _single(way, options)
        _train_alone(space, config, options, out)
        subnets = "max"
    minutes = (time.monotonic() - started) / 60
    print(
        f"{way}: {options.epochs} epochs in {minutes:.1f} minutes, validation of the ends included",
        flush=True,
    )
    _judge(out / "supernet.safetensors", options.photos, subnets)


def compare_orders(options: argparse.Namespace) -> None:
    """The network that was finetuned alone, cut without further training, by importance and by SEEDS random orders."""
    space = load_space(options.out / "elastic" / "space.toml")
    cut = options.out / "order" / "cut.json"
    cut.parent.mkdir(parents=True, exist_ok=True)
    cut.write_text(json.dumps([_single("cut", options)[1].to_dict()]))
    orders: list[tuple[Order, int]] = [("importance", 0), *(("random", seed) for seed in range(SEEDS))]
    for order, seed in orders:
        supernet = load_supernet(str(options.out / "alone" / "supernet.safetensors"), space)
        put_in_order(supernet, order, seed)
        path = options.out / "order" / f"{order}-{seed}.safetensors"
        save_supernet(supernet, path, {"space": space.name})
        print(f"{order} order {seed}, cut and not trained:", flush=True)
        _judge(path, options.photos, str(cut))


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
    """A subnet by itself, from the weights that `elastic` began with; the largest as what it is, others as a space of their own."""
    out.mkdir(parents=True, exist_ok=True)
    weights, place = options.out / "elastic" / START, Path(space.origin)
    if config != space.largest():
        supernet = taken(load_supernet(str(weights), space), config, options.photos, 0)
        weights, place = out / "initial.safetensors", out / "space.toml"
        save_supernet(supernet, weights, {"space": supernet.space.name})
        place.write_text(space_toml(supernet.space))
    recipe = load_recipe("adopt").with_values(["single=true", *options.values])
    run(
        TrainingRequest(
            space=str(place),
            data=options.photos,
            recipe=replace_epochs(recipe, options.epochs),
            settings=Settings(out=out, threads=2),
            weights=str(weights),
            validate_every=0,
        )
    )


def _judge(weights: Path, photos: str, subnets: str) -> None:
    beside = weights.parent / "space.toml"
    space = str(beside if beside.exists() else weights.parent.parent / "elastic" / "space.toml")
    asked = EvaluateRequest(space=space, supernet=str(weights), data=photos, subnets=subnets, split="test")
    for row in evaluate.evaluate(asked).subnets:
        print(f"    {row.macs / 1e6:6.1f} MMACs  {row.accuracy:.2%}  {row.name}", flush=True)


if __name__ == "__main__":
    main()
