"""What people would pick instead, measured beside our subnets in one run.

    python benchmarks/peers.py [--table FILE] [--rounds 9] [--json FILE]

timm models with random weights (norms as training would move them), fused as timm does for deployment and exported plainly (torch.onnx), 1 thread,
onnxruntime. For each, subnets searched for somewhat lower and equal latencies are exported by us; everything is then
measured in turn, a fork each, in random order, round after round. Ours is the most accurate of those that took at most
as long as the peer (median of ratios within a round). A difference counts beyond the predictor's stated error.
Needs timm and onnxscript (extra bench), and a table of this machine (nasvit-edge profile).
"""

import argparse
import json
import logging
import random
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table

import nasvit_edge as ne
from nasvit_edge import files
from nasvit_edge.export import onnx
from nasvit_edge.model.subnet import fold, materialise
from nasvit_edge.transport.answers import Measurement
from nasvit_edge.transport.job import Job
from nasvit_edge.transport.local import fastest_cores, local_runner

_TIMM = "timm, results/results-imagenet.csv"
_NAMED = "as its authors name it; not looked up"
PEERS = {  # timm name: resolution, published top-1 (%), where
    "mobilenetv3_large_100": (224, 75.8, _TIMM),
    "levit_128s": (224, 76.6, _TIMM),
    "efficientnet_b0": (224, 77.7, _TIMM),
    "levit_192": (224, 80.0, _NAMED),
    "mobilenetv4_conv_medium": (256, 80.4, _NAMED),
    "efficientformerv2_s0": (224, 76.2, _TIMM),
    "repvit_m1_0": (224, 80.3, _NAMED),
    "efficientformerv2_s1": (224, 79.7, _NAMED),
    "mobilevit_s": (256, 78.3, _TIMM),
    "fastvit_sa12": (256, 81.9, _NAMED),
}
SHARES = (1.0, 0.97, 0.94, 0.91, 0.87)  # of a peer's latency, searched for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", default="host")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    space, accuracy = ne.load_space("nasvit"), ne.load_accuracy("nasvit")
    table = ne.load_table(options.table)
    with TemporaryDirectory() as folder:
        models = {name: export_peer(name, Path(folder)) for name in PEERS}
        first = measured(models, 3)
        ours = searched(space, table, accuracy, {n: statistics.median(ms) for n, ms in first.items()})
        models |= export_ours(space, {c for times in ours.values() for c in times}, Path(folder))
        times = measured(models, options.rounds)
    rows = [judged(name, times, ours[name], accuracy) for name in PEERS]
    show(rows, times, space, accuracy)
    if options.json:
        options.json.write_text(
            json.dumps({"rows": rows, "measured_ms": {str(k): v for k, v in times.items()}}, indent=1)
        )


def export_peer(name: str, folder: Path) -> Path:
    import timm
    from timm.utils import reparameterize_model

    side = PEERS[name][0]
    model = timm.create_model(name).eval()
    stir(model, side)
    model = reparameterize_model(model).eval()
    images = torch.zeros(1, 3, side, side)
    with torch.no_grad():
        model(images)  # some keep what depends on the size
        program = torch.onnx.export(model, (images,), dynamo=True, opset_version=18, verbose=False)
    path = folder / f"{name}.onnx"
    path.write_bytes(program.model_proto.SerializeToString())
    print(f"exported {name}", flush=True)
    return path


def stir(model, side: int) -> None:
    """Norms and layer scales as training would have moved them, and statistics of batch norms from (random) images.

    A fresh network has branches that end in zeros, and values that grow from layer to layer; what overflows is slow.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.numel() > 1 and value.std() == 0:
                noise = 2 * torch.rand(value.shape, generator=generator) - 1
                value.copy_(0.1 * noise if name.endswith("bias") else 1 + 0.2 * noise)
        for norm in model.modules():
            if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):
                norm.momentum = None
        model.train()
        for _ in range(2):
            model(torch.randn(8, 3, side, side, generator=generator))
        output = model.eval()(torch.randn(1, 3, side, side, generator=generator))
    assert output.isfinite().all()
    assert output.abs().max() < 1e3


def export_ours(space, configs, folder: Path):
    supernet = ne.load_supernet("random", space)
    paths = {}
    for i, config in enumerate([*sorted(configs, key=str), space.smallest(), space.largest()]):
        paths[config] = folder / f"ours{i}.onnx"
        module = fold(materialise(supernet, config), "NCHW")
        paths[config].write_bytes(onnx.convert(module, (1, 3, config.resolution, config.resolution)))
    print(f"exported {len(paths)} subnets", flush=True)
    return paths


def searched(space, table, accuracy, latencies):
    """Peer -> subnets for its latency and somewhat less."""
    configs = {}
    for name, ms in latencies.items():
        configs[name] = []
        for share in SHARES:
            try:
                configs[name].append(ne.search(space, table, accuracy, share * ms).best.config)
            except ne.NasvitEdgeError:
                break  # faster than anything in the space
        configs[name] = list(dict.fromkeys(configs[name]))
    return configs


def measured(models, rounds: int):
    """Medians in ms, one a round."""
    times = {name: [] for name in models}
    rng = random.Random(0)
    with local_runner(files.shipped("devices") / "host" / "runner.py") as runner:
        for turn in range(rounds):
            for name in rng.sample(list(models), len(models)):
                answer = runner.measure(job(name, models[name], turn))
                assert isinstance(answer, Measurement), answer
                times[name].append(statistics.median(answer.samples_us) / 1e3)
            print(f"round {turn + 1} of {rounds}", flush=True)
    return times


def job(name, path: Path, seed: int) -> Job:
    cores = fastest_cores(1)
    return Job(
        id=str(name),
        model=str(path),
        runtime="onnxruntime",
        threads=1,
        cores=cores,
        runs=10,
        seconds=0.4,
        most_seconds=1.0,
        precision=0.02,
        seed=seed,
    )


def judged(name, times, configs, accuracy):
    """Ours against one peer."""
    inside = [
        c
        for c in configs
        if statistics.median(o / p for o, p in zip(times[c], times[name], strict=True)) <= 1
    ]
    best = max(inside, key=accuracy, default=None)
    side, published, source = PEERS[name]
    row = {
        "peer": name,
        "side": side,
        "top1": published,
        "source": source,
        "ms": statistics.median(times[name]),
    }
    if best is None:
        return row | {"verdict": "no subnet is as fast"}
    points = 100 * accuracy(best) - published
    error = 100 * accuracy.uncertainty
    verdict = "win" if points > error else "loss" if points < -error else "tie"
    ours = {
        "config": best.to_dict(),
        "ours_ms": statistics.median(times[best]),
        "ours_top1": 100 * accuracy(best),
    }
    return row | ours | {"points": points, "verdict": verdict}


def show(rows, times, space, accuracy) -> None:
    table = Table(title="at the measured latency of each peer: onnxruntime, 1 thread")
    for column in (
        "peer",
        "side",
        "ms",
        "published top-1",
        "ours ms",
        "predicted top-1",
        "points",
        "verdict",
        "source",
    ):
        table.add_column(column)
    for row in sorted(rows, key=lambda r: r["ms"]):
        mine = [f"{row[k]:.2f}" if k in row else "-" for k in ("ours_ms", "ours_top1", "points")]
        table.add_row(
            row["peer"],
            str(row["side"]),
            f"{row['ms']:.2f}",
            f"{row['top1']:.1f}",
            *mine,
            row["verdict"],
            row["source"],
        )
    Console(width=160).print(table)
    for end in ("smallest", "largest"):
        config = getattr(space, end)()
        print(f"{end} subnet: {statistics.median(times[config]):.2f} ms, {accuracy(config):.2%} predicted")
    spread = [max(v) / min(v) - 1 for v in times.values()]
    print(
        f"rounds of one model differ by {statistics.median(spread):.1%} (median over models), {max(spread):.1%} at most"
    )


if __name__ == "__main__":
    main()
