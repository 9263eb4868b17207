"""Plants paths, addresses, options and commands into files of every kind and runs what reads them, watched.

    python tests/planting.py FOLDER [--all] [KIND ...]

Every leaf of a file gets each planted value, one leaf at a time and all texts at once; of lists and ops one stands for
all. Prints what was seen that was not expected, and how much was run, as JSON. `--all`: every value in every leaf.
With words, only kinds of files that have one of them in their name.
"""

from __future__ import annotations

import contextlib
import copy
import csv
import functools
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasvit_edge.listening import SILENT

sys.path.insert(0, str(Path(__file__).parent))
from watching import Watch

Run = Callable[[], Any]
ADDED = (
    "path",
    "target",
    "runner",
    "program",
    "command",
    "address",
    "url",
    "key",
    "tool",
    "python",
    "env",
    "options",
)
ADDED += (
    "teacher",
    "trust_teacher",
    "data",
    "out",
    "supernet",
    "device",
    "extends",
    "include",
    "import",
    "file",
)
SCRIPT = "<script>alert(7)</script>"


@dataclass
class Kind:
    """A kind of file: its content, how it is written, and the commands that read it.

    `fixed`: keys whose values must stay for the file to be taken for one of its kind at all. `quick`: so many of the
    commands read a file in which one leaf is planted.
    """

    name: str
    content: Any
    write: Callable[[Any], None]
    commands: list[list[str] | Run]
    fixed: tuple[str, ...] = ("schema", "kind")
    quick: int | None = None


@dataclass
class Scene:
    """Folders: `work` is written to, `trap` holds what planted values name and must not be touched."""

    root: Path
    kinds: list[Kind] = field(default_factory=list)

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def trap(self) -> Path:
        return self.root / "trap"

    def values(self) -> list[str]:
        """What is planted: each leads into the trap, to a process or a connection, if it is used as what it looks like."""
        trap = self.trap
        return [
            str(trap / "evil.toml"),
            f"$(touch {trap}/mark);`touch {trap}/mark`|touch {trap}/mark",
            f"javascript:alert(7)//{SCRIPT}\x1b]8;;http://127.0.0.1:9\x07",
            "http://127.0.0.1:9/evil.onnx",
            "../trap/evil.toml",
            f"--out={trap}/mark",
            f"file://{trap}/evil.json",
            "cifar10",
            str(trap / "evil.safetensors"),
            f"../trap/evil\x00{trap}/evil.json",
        ]


# -- leaves -----------------------------------------------------------------------------------------


def leaves(value: Any, at: tuple[Any, ...], fixed: tuple[str, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The places of a content and what is there; of lists and large tables the first entries stand for all."""
    if isinstance(value, dict):
        some = list(value)[:2] if len(value) > 40 else list(value)
        for key in some:
            if at or key not in fixed:
                yield from leaves(value[key], (*at, key), fixed)
    elif isinstance(value, list) and value:
        yield from leaves(value[0], (*at, 0), fixed)
    else:
        yield at, value


def planted(content: Any, at: tuple[Any, ...], value: Any) -> Any:
    copied = copy.copy(content)
    if not at:
        return value
    copied[at[0]] = planted(content[at[0]], at[1:], value)
    return copied


def everywhere(value: Any, text: str, fixed: tuple[str, ...], top: bool = True) -> Any:
    """`text` for every text."""
    if isinstance(value, dict):
        return {k: v if top and k in fixed else everywhere(v, text, fixed, False) for k, v in value.items()}
    if isinstance(value, list):
        return [everywhere(item, text, fixed, False) for item in value]
    return text if isinstance(value, str) else value


# -- kinds ------------------------------------------------------------------------------------------


def json_to(path: Path) -> Callable[[Any], None]:
    return lambda content: files_write(path, json.dumps(content))


def toml_to(path: Path) -> Callable[[Any], None]:
    import tomli_w

    return lambda content: files_write(path, tomli_w.dumps(_without_none(content)))


def files_write(path: Path, text: str) -> None:
    path.write_text(text, errors="surrogatepass")


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def latency_tables(scene: Scene) -> Kind:
    """A shipped table, of a machine that this one is not."""
    from nasvit_edge import files

    source = next(files.shipped("latency_tables").glob("*onnxruntime-1t-fp32-nano.json"))
    content = json.loads(source.read_text())
    content["fingerprint"]["cores"] = 4096
    content["subnets"] = content["subnets"][:4]
    path = scene.work / "latency_tables" / source.name
    text, device = str(path), content["device"]
    search = ["search", "--space", "nano", "--latency", "50ms", "--population", "4", "--generations", "1"]
    search += ["--out", str(scene.work / "found.json")]
    commands: list[list[str] | Run] = [
        ["tables", "validate", text, "--subnets", "4"],
        ["tables", "list"],
        ["tables", "show", text],
        ["tables", "diff", text, text],
        ["tables", "refit", text],
        ["predict", "search.json", "--table", text],
        [*search, "--table", text],
        [*search, "--table", text, "--steady"],
        [*search, "--device", device],
        [*search, "--table", text, "--confirm", "1"],
        ["explain", "search.json", "--table", text],
        ["devices", "list"],
    ]
    return Kind("latency table", content, json_to(path), commands, quick=2)


def search_results(scene: Scene) -> Kind:
    from nasvit_edge import data_sets
    from nasvit_edge.export.formats import load_format
    from nasvit_edge.flows import export
    from nasvit_edge.model.checkpoint import load_supernet

    path = scene.work / "search.json"
    content = json.loads(path.read_text())
    content["front"], content["beyond"] = content["front"][:1], []

    def planned() -> None:
        """What `export` makes of it before it takes seconds."""
        nothing = {"space": None, "supernet": None, "config": None, "calibrate": None, "uncalibrated": False}
        more = {"format_name": "onnx", "precision": "fp32", "out": scene.work / "x.onnx", "overwrite": True}
        plan = export._planned(export.Request(result=path, **nothing, **more), load_format("onnx"), SILENT)
        load_supernet(plan.supernet, plan.space)
        data_sets.check(plan.calibrate or "bundled", plan.space)

    commands: list[list[str] | Run] = [
        planned,
        ["explain", str(path), "--table", str(_table(scene))],
        ["predict", str(path), "--device", "host", "--table", str(_table(scene))],
        ["finetune", str(path), "--data", str(scene.work / "nothing"), "--out", str(scene.work / "tuned")],
        ["evaluate", "--supernet", "random", "--space", "nano", "--data", "nowhere", "--subnets", str(path)],
    ]
    return Kind("search result", content, json_to(path), commands, quick=1)


def _table(scene: Scene) -> Path:
    return next((scene.work / "good").glob("*.json"))


def benchmarks(scene: Scene) -> Kind:
    from bench_results import content

    path = scene.work / "benchmark.json"
    benchmark = content(effects=(0.1,), rounds=4, count=5)
    benchmark["artifacts"][1] |= {"path": "model0.onnx", "space": "nano", "predicted_ms": [1.0, 0.9, 1.1]}
    benchmark["run"]["ci_url"] = "https://example.org/run"
    outputs = [
        f"--{form}={scene.work}/b.{end}"
        for form, end in (("markdown", "md"), ("html", "html"), ("junit", "xml"))
    ]
    outputs += [
        f"--{form}={scene.work}/{form}.json" for form in ("github-action-benchmark", "bencher", "out")
    ]
    reading = [
        "report",
        "bench",
        str(path),
        f"--baseline={path}",
        f"--history={scene.work}/histories",
        *outputs,
    ]
    return Kind("benchmark", benchmark, json_to(path), [reading], quick=0)


def histories(scene: Scene) -> Kind:
    from history_points import points

    from nasvit_edge import records

    path = scene.work / "history.jsonl"
    content = [records.content(point) for point in points([1.0, 1.1, 1.2])]

    def write(lines: Any) -> None:
        files_write(path, "".join(json.dumps(line) + "\n" for line in lines))

    return Kind("history", content, write, [["report", "history", str(path), f"--html={scene.work}/h.html"]])


def artifacts(scene: Scene, *, bare: bool) -> Kind:
    """What an ONNX file says of itself; with a sidecar that says the same, or none."""
    import onnx

    from nasvit_edge.benchmark.participants import participants
    from nasvit_edge.device import load_device
    from nasvit_edge.flows import benchmark
    from nasvit_edge.flows.artifact_predictions import Predictions

    path, kept = scene.work / "model.onnx", scene.root / "kept" / "model.onnx"
    side = json.loads((kept.parent / "model.onnx.json").read_text())
    proto = onnx.load(str(kept))

    def write(content: Any) -> None:
        inside = content["metadata"] if isinstance(content["metadata"], dict) else {}
        del proto.metadata_props[:]
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in inside.items()}
        for key, value in texts.items():
            proto.metadata_props.add(key=key, value=value.replace("\x00", ""))
        data = proto.SerializeToString()
        path.write_bytes(data)
        entries = {entry.key: entry.value for entry in proto.metadata_props}
        described = content | {
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "metadata": entries,
        }
        shutil.copy(kept.parent / "model.onnx.reference.safetensors", scene.work)
        (scene.work / "model.onnx.json").unlink(missing_ok=True)
        if not bare:
            files_write(scene.work / "model.onnx.json", json.dumps(described))

    content = copy.deepcopy(side)
    for key, value in side["metadata"].items():
        with contextlib.suppress(ValueError):
            content["metadata"][key] = json.loads(value)

    def compare() -> None:
        """What `benchmark` makes of it before anything is measured."""
        request, device = benchmark.Request(artifacts=(path,)), load_device("host")
        predictions = Predictions(device=device, threads=1, about={})
        for entry in participants(request, device):
            predictions.of(entry)
        benchmark._accuracy(path, str(scene.work / "nothing"), "test", {}, False, SILENT)

    commands: list[list[str] | Run] = [
        compare,
        ["verify", str(path)],
        ["doctor", str(path)],
        ["evaluate", str(path), "--data", str(scene.work / "nothing")],
    ]
    name = "artifact without sidecar" if bare else "artifact"
    return Kind(name, content, write, commands, quick=0 if bare else 1)


def spaces(scene: Scene) -> Kind:
    from nasvit_edge import files

    path = scene.work / "space.toml"
    content = tomllib.loads(files.data("spaces", "nano.toml").read_text())
    search = ["search", "--space", str(path), "--latency", "50ms", "--table", str(_table(scene))]
    commands: list[list[str] | Run] = [
        [*search, "--population", "4", "--generations", "1", "--out", str(scene.work / "found.json")],
        [
            "train",
            "--space",
            str(path),
            "--data",
            str(scene.work / "nothing"),
            "--out",
            str(scene.work / "run"),
        ],
        ["evaluate", "--supernet", "random", "--space", str(path), "--data", str(scene.work / "nothing")],
    ]
    return Kind("space", content, toml_to(path), commands, ("schema",), quick=1)


def recipes(scene: Scene) -> Kind:
    from nasvit_edge.train.recipe import load_recipe

    path = scene.work / "recipe.toml"
    content = load_recipe("nano").to_dict() | {
        "schema": 1,
        "extends": "nano",
    }
    train = [
        "train",
        "--recipe",
        str(path),
        "--data",
        str(scene.work / "nothing"),
        "--out",
        str(scene.work / "run"),
    ]
    missing = ["--data", str(scene.work / "nothing"), "--out", str(scene.work / "run2")]
    tune = ["finetune", "search.json", "--recipe", str(path), *missing]
    return Kind("recipe", content, toml_to(path), [train, [*train, "--dry-run"], tune], ("schema",), quick=1)


def budgets(scene: Scene) -> Kind:
    path = scene.work / "budgets.toml"
    content = {
        "schema": 1,
        "budget": [
            {
                "artifact": "model*",
                "device": "board",
                "latency_p50": "20ms",
                "size": {"max": "1MB", "level": "warn"},
            }
        ],
    }
    reading = ["report", "bench", "good_benchmark.json", f"--budget={path}", f"--html={scene.work}/c.html"]
    return Kind("budgets", content, toml_to(path), [[*reading, f"--markdown={scene.work}/c.md"]], ("schema",))


def _search(scene: Scene, out: Path | str, *more: str) -> list[str]:
    """A short search of the shipped space."""
    words = ["search", "--space", "nano", "--latency", "50ms", "--table", str(_table(scene)), *more]
    return [*words, "--population", "4", "--generations", "1", "--out", str(out)]


def predictors(scene: Scene) -> Kind:
    from nasvit_edge import files

    path = scene.work / "accuracy.json"
    content = json.loads(files.data("accuracy", "nano.json").read_text())
    search = _search(scene, scene.work / "found.json", "--accuracy", str(path))
    explain = ["explain", "search.json", "--table", str(_table(scene)), "--accuracy", str(path)]
    return Kind("accuracy predictor", content, json_to(path), [search, explain])


def weights(scene: Scene) -> Kind:
    """What safetensors say of themselves."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    from nasvit_edge import files
    from nasvit_edge.model.checkpoint import load_supernet
    from nasvit_edge.space import load_space
    from nasvit_edge.train.teacher import load_teacher

    path, source = scene.work / "weights.safetensors", files.data("weights", "nano.safetensors")
    with safe_open(source, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        content = json.loads(file.metadata()["nasvit_edge"])

    def write(metadata: Any) -> None:
        save_file(tensors, path, {"nasvit_edge": json.dumps(metadata)})

    def read() -> None:
        """As commands take weights, and as a teacher."""
        load_supernet(str(path), load_space("nano"))
        load_teacher(str(path), load_space("nano"))

    commands: list[list[str] | Run] = [
        read,
        ["evaluate", "--supernet", str(path), "--data", str(scene.work / "nothing")],
    ]
    return Kind("weights", content, write, commands, (), quick=0)


def configs(scene: Scene) -> Kind:
    path = scene.work / "config.json"
    content = json.loads(path.read_text())
    predict = ["predict", str(path), "--space", "nano", "--table", str(_table(scene))]
    return Kind("config", content, json_to(path), [predict], ())


def nn_meter(scene: Scene) -> Kind:
    from nn_meter_table import small_table

    path = scene.work / "lut.json"
    command = [
        "tables",
        "import",
        "nn-meter",
        str(path),
        "--device",
        "pixel",
        "--out",
        str(scene.work / "imported"),
    ]
    return Kind("nn-Meter table", small_table(), json_to(path), [[*command, "--space", "nasvit"]], ())


def measured(scene: Scene) -> Kind:
    path, out = scene.work / "subnets.csv", str(scene.work / "fitted.json")
    config = json.loads((scene.work / "config.json").read_text())
    content = [{"subnet": "random", "accuracy": "0.5", "config": config} for _ in range(24)]

    def write(rows: Any) -> None:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["subnet", "accuracy", "config"])
        for row in rows:
            writer.writerow([row["subnet"], row["accuracy"], json.dumps(row["config"])])
        files_write(path, text.getvalue())

    return Kind(
        "measured subnets", content, write, [["accuracy", "fit", "--measured", str(path), "--out", out]], ()
    )


def run_folders(scene: Scene) -> Kind:
    """What a run says of itself, for the report on conflicts."""
    folder = scene.work / "conflicts"
    folder.mkdir(exist_ok=True)
    rows = "".join(f"{step},0.1,-0.2\n" for step in range(1, 30))
    files_write(folder / "conflicts.csv", f"step,all,mb1.0.depthwise.conv\n{rows}")
    content = {
        "schema": 1,
        "steps_per_epoch": 10,
        "space": "nano",
        "recipe": {"name": "nano"},
        "data": "spots",
        "teacher": "nano",
    }
    command = ["report", "conflicts", str(folder), f"--html={scene.work}/conflicts.html"]
    return Kind("run folder", content, json_to(folder / "recipe.json"), [command], ("schema",))


def checkpoints(scene: Scene) -> Kind:
    import torch

    from nasvit_edge.train.checkpoints import Checkpoints

    out = scene.work / "resumed"
    identity = {"teacher": "nano", "space": "nano", "data": {"name": "images"}}

    def write(state: Any) -> None:
        (out / "checkpoints").mkdir(parents=True, exist_ok=True)
        torch.save({"step": 3, "run": json.dumps(state)}, out / "checkpoints" / "step-000000003.pt")

    return Kind("checkpoint", identity, write, [lambda: Checkpoints(out, identity).load()], ())


def journals(scene: Scene) -> Kind:
    from nasvit_edge.profile.journal import Journal
    from nasvit_edge.profile.protocol import PROTOCOLS
    from nasvit_edge.profile.summary import summaries

    path, setup = scene.work / "table.jsonl", {"device": "host", "runtime": "onnxruntime", "space": "nano"}
    entry = {
        "id": "stem",
        "visit": 0,
        "samples_us": [1.0, 2.0],
        "runtime_version": "1",
        "graph": "a",
        "reading": 0,
    }
    content = [{"setup": setup}, entry, entry | {"visit": 1, "flags": ["preempted"]}]

    def write(lines: Any) -> None:
        files_write(path, "".join(json.dumps(line) + "\n" for line in lines))

    def read() -> None:
        journal = Journal(path, setup)
        with contextlib.suppress(KeyError, TypeError, ValueError):
            summaries(journal.entries, PROTOCOLS["quick"])

    return Kind("journal", content, write, [read], ())


def offline(scene: Scene, *, results: bool) -> Kind:
    """What a bundle waits for, sealed anew after each planting; or what a device answered."""
    from dataclasses import asdict

    from nasvit_edge.profile import offline as bundles
    from nasvit_edge.profile.canary import canaries
    from nasvit_edge.profile.protocol import load_protocol
    from nasvit_edge.profile.results import read_results
    from nasvit_edge.profile.run import Choice
    from nasvit_edge.space import load_space

    folder, key, space = scene.work / "offline", "0" * 8 + "-0000-0000-0000-" + "0" * 12, load_space("nano")
    folder.mkdir(exist_ok=True)
    protocol = load_protocol("quick")
    asked = bundles.session_order(bundles.items_of(space, protocol, Choice()), canaries(space), protocol, 0)
    rows = [[one.item.id, one.visit, one.reading, "0" * 24] for one in asked]
    plan = {
        "device": "mac",
        "runtime": "coreml",
        "threads": 1,
        "cores": [],
        "precision": "fp16",
        "space": "nano",
    }
    plan |= {"protocol": asdict(protocol), "seed": 0, "code": "0" * 24}
    state = {"schema": bundles.SCHEMA, "uuid": key, "plan": plan, "target": "mac", "transport": "pull"}
    state |= {"sample": None, "about": None}
    description = {
        "about": {"board": "Mac", "os": "15"},
        "runtimes": {"coreml": "9"},
        "conditions": {"battery": "full"},
    }
    answers = [
        {
            "id": row[0],
            "nonce": bundles.nonce(key, i),
            "samples_us": [1.0 + i % 7, 2.0],
            "runtime_version": "9",
        }
        for i, row in enumerate(rows)
    ]
    given = {"schema": bundles.SCHEMA, "uuid": key, "description": description, "answers": answers}
    given["answers"][0] |= {"flags": ["throttled"], "before": {"thermal": "fair"}}

    def write(content: Any) -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        kept_state = state if results else content
        kept = bundles.sealed(kept_state | {"asked": rows})
        files_write(folder / f".mac-coreml-1t-fp16-nano.{key[:8]}.offline.json", json.dumps(kept))
        files_write(scene.work / "result.json", json.dumps(content if results else given))

    def read() -> None:
        read_results(scene.work / "result.json", out=folder)

    return Kind(
        "results of a device" if results else "state of a bundle",
        given if results else state,
        write,
        [read],
        (),
        quick=0,
    )


def pulled(scene: Scene) -> Kind:
    """What a browser or phone posts, as the server takes it."""
    from nasvit_edge.records import content as content_of
    from nasvit_edge.transport.exchange import described
    from nasvit_edge.transport.job import Job
    from nasvit_edge.transport.publish import judged

    about = {"board": "Phone", "soc": "A", "os": "1"}
    hello = {
        "about": about,
        "busy_cores": 0.1,
        "runtimes": {"onnxruntime-web": "1"},
        "conditions": {"secure": True},
        "install": "x",
    }
    answer = {
        "id": "stem",
        "nonce": "0",
        "samples_us": [1.0, 2.0],
        "runtime_version": "1",
        "flags": ["throttled"],
        "load_ms": 3.0,
    }
    answer |= {"before": {"thermal": "fair", "clocks_mhz": [1000]}, "windows": [[1.0, 2.0]], "error": "none"}
    job = Job(
        id="stem",
        model="m",
        runtime="onnxruntime-web",
        threads=1,
        cores=(),
        runs=1,
        seconds=1,
        most_seconds=1,
        precision=1,
        seed=0,
    )
    held: list[Any] = []

    def read() -> None:
        content = held[-1]
        result = (
            described(json.dumps(content["hello"]).encode()),
            judged(copy.deepcopy(content["result"]), job),
        )
        assert all(text.isprintable() for text in _texts([content_of(part) for part in result])), result

    return Kind("what a device posts", {"hello": hello, "result": answer}, held.append, [read], ())


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from (key, *_texts(item))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def caches(scene: Scene) -> Kind:
    """The sidecar of a kept export, and kept accuracies."""
    from nasvit_edge import cache
    from nasvit_edge.export import artifact
    from nasvit_edge.export.kept import restore
    from nasvit_edge.searching.images import _stored
    from nasvit_edge.space import load_space

    kept = scene.root / "kept" / "model.onnx"
    key, out = "k" * 8, scene.work / "restored.onnx"
    side = json.loads((kept.parent / "model.onnx.json").read_text())
    config = load_space("nano").smallest().to_dict()

    def write(content: Any) -> None:
        entry = cache.root() / "exports" / key
        entry.mkdir(parents=True, exist_ok=True)
        shutil.copy(kept, entry / "model")
        shutil.copy(artifact.reference_path(kept), entry / "reference.safetensors")
        files_write(entry / "sidecar.json", json.dumps(content["sidecar"]))
        files_write(cache.root() / "kept.jsonl", json.dumps(content["accuracy"]) + "\n")

    def read() -> None:
        restore(key, out, None)
        list(_stored(cache.root() / "kept.jsonl", load_space("nano")))

    return Kind(
        "cache", {"sidecar": side, "accuracy": {"config": config, "accuracy": 0.5}}, write, [read], ()
    )


# -- running ----------------------------------------------------------------------------------------


def prepared(root: Path) -> Scene:
    """Real files of every kind, and a trap."""
    scene = Scene(root)
    for folder in (
        "work/latency_tables",
        "work/good",
        "work/nothing",
        "trap",
        "kept",
        "cache",
        "config",
        "tmp",
    ):
        (root / folder).mkdir(parents=True)
    from nasvit_edge import files
    from nasvit_edge.profile import validate

    validate._DRAWN = 50  # which subnets are chosen is nothing that a file says
    runner = 'schema = 2\nname = "evil"\nabout = "a"\ntransport = "local"\nruntimes = ["onnxruntime"]\nrunner = "r.py"\n'
    (scene.trap / "evil.toml").write_text(runner)
    (scene.trap / "r.py").write_text(f"open({str(scene.trap / 'mark')!r}, 'w')")
    shutil.copy(files.data("weights", "nano.safetensors"), scene.trap / "evil.safetensors")
    (scene.trap / "evil.json").write_text("{}")
    os.chdir(scene.work)
    source = next(files.shipped("latency_tables").glob("*onnxruntime-1t-fp32-nano.json"))
    shutil.copy(source, scene.work / "good")
    from bench_results import content

    files_write(scene.work / "good_benchmark.json", json.dumps(content(effects=(0.1,), rounds=4, count=5)))
    from nasvit_edge.space import load_space

    space = load_space("nano")
    files_write(scene.work / "config.json", json.dumps(space.smallest().to_dict()))
    assert command(_search(scene, "search.json"))[0] == 0
    out = ["--format", "onnx", "--out", str(root / "kept" / "model.onnx"), "--no-cache", "--uncalibrated"]
    assert (
        command(["export", "--space", "nano", "--supernet", "nano", "--config", "config.json", *out])[0] == 0
    )
    makers = (
        latency_tables,
        search_results,
        benchmarks,
        histories,
        spaces,
        recipes,
        budgets,
        predictors,
        weights,
    )
    makers += (configs, nn_meter, measured, run_folders, checkpoints, journals, pulled, caches)
    scene.kinds = [make(scene) for make in makers]
    scene.kinds += [artifacts(scene, bare=bare) for bare in (False, True)]
    scene.kinds += [offline(scene, results=results) for results in (False, True)]
    return scene


@functools.cache
def command_line() -> Callable[..., Any]:
    """Built once: that takes longer than most commands."""
    from typer.main import get_command

    from nasvit_edge.cli import app

    return get_command(app)


def command(words: list[str] | Run) -> tuple[Any, str]:
    """The exit code of a command in this process, or what bug it ended with, and all that it said."""
    from nasvit_edge.errors import NasvitEdgeError

    said = io.StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            if callable(words):
                words()
            else:
                command_line()(words, standalone_mode=False)
        except NasvitEdgeError:
            code = 2
        except SystemExit as error:
            code = error.code
        except Exception as error:  # noqa: BLE001 - a bug, told as one
            code = f"{type(error).__name__} {str(error)[:80]}"
    return code, said.getvalue()


def pages(scene: Scene) -> list[str]:
    """Pages in which something planted is more than text."""
    marks = []
    for path in scene.work.glob("*"):
        if path.suffix in (".html", ".md", ".xml"):
            text = path.read_text(errors="replace")
            text = without_code(text) if path.suffix == ".md" else text
            bad = [mark for mark in (SCRIPT, 'href="javascript:', "](javascript:", "](file:") if mark in text]
            marks += [f"{path.name} holds {mark}" for mark in bad]
            path.unlink()
    return marks


def without_code(text: str) -> str:
    """Markdown without blocks and spans of code, in which everything is text."""
    return re.sub(r"(`+)[^`]+\1(?!`)", "", re.sub(r"(?ms)^```.*?^```", "", text))


def contents(kind: Kind, values: list[str], thorough: bool) -> Iterator[tuple[str, Any, slice]]:
    """What was planted where, the content, and which of the commands read it.

    Thorough: every value in every leaf is read by one command, each in its turn, so that a leaf meets all of them.
    """
    every, quick = slice(None), slice(kind.quick)
    turns = (slice(n, n + 1) for n in itertools.cycle(range(len(kind.commands))))
    for text in values if thorough else values[:4]:
        yield f"every text = {text!r}", everywhere(kind.content, text, kind.fixed), every
        if isinstance(kind.content, dict):
            added = {key: text for key in ADDED if key not in kind.content}
            yield f"added keys = {text!r}", kind.content | added, quick
    for at, value in leaves(kind.content, (), kind.fixed):
        if not thorough and not isinstance(value, str):
            continue
        for text in values if thorough else values[:1]:
            where = ".".join(map(str, at))[-80:]
            what = f"{where} = {text!r}"
            yield what, planted(kind.content, at, text), next(turns) if thorough else quick


def main(root: Path, thorough: bool, wanted: list[str]) -> dict[str, Any]:
    """What was not expected, how many commands read files of each kind, and what of the controls was noted."""
    scene = prepared(root)
    watch = Watch([scene.work, root / "cache", root / "tmp"], scene.trap)
    warm(scene)
    watch.start()
    seen, runs = [], {}
    for kind in scene.kinds:
        if wanted and not any(word in kind.name for word in wanted):
            continue
        reports = list(observed(kind, scene, watch, thorough))
        runs[kind.name] = len(reports)
        unexpected = [line for lines in reports for line in lines]
        sys.stderr.write(
            f"{kind.name}: {len(reports)} runs, {len(unexpected)} not expected\n{os.linesep.join(unexpected[:20])}\n"
        )
        seen += unexpected
        kind.write(kind.content)
    return {"seen": seen, "runs": runs, "controls": controls(scene, watch)}


def observed(kind: Kind, scene: Scene, watch: Watch, thorough: bool) -> Iterator[list[str]]:
    """What was not expected of each command on each planted file."""
    for what, content, which in contents(kind, scene.values(), thorough):
        try:
            kind.write(content)
        except (TypeError, ValueError, AttributeError, KeyError, UnicodeError):
            continue  # no file can hold it
        for words in kind.commands[which]:
            watch.taken()
            code, said = command(words)
            bad = [*watch.taken(), *pages(scene)]
            bad += ["an escape on the terminal"] if "\x1b]8" in said else []
            bad += [] if code in (0, 1, 2, 3) else [f"exit code {code}"]
            text = " ".join(words[:3]) if isinstance(words, list) else words.__name__
            yield [f"{kind.name}: {what}: {text}: {line}" for line in bad]


def warm(scene: Scene) -> None:
    """Every command once on whole files, so that what libraries do as they load is not taken for what files say."""
    for kind in scene.kinds:
        kind.write(kind.content)
        for words in kind.commands:
            command(words)


def controls(scene: Scene, watch: Watch) -> list[str]:
    """That the watch sees what it is for: how many of these it noted."""
    import socket
    import subprocess

    def connect() -> None:
        with socket.socket() as one:
            one.settimeout(0.2)
            one.connect(("127.0.0.1", 9))

    results = []
    for name, act in {
        "process": lambda: subprocess.run(["true"], check=False),
        "connection": connect,
        "write": lambda: (scene.root / "elsewhere").write_text("x"),
        "read": lambda: (scene.trap / "evil.toml").read_text(),
        "removal": lambda: (scene.root / "elsewhere").unlink(),
    }.items():
        watch.taken()
        with contextlib.suppress(OSError):
            act()
        results += [name] if watch.taken() else []
    return results


if __name__ == "__main__":
    where = Path(sys.argv[1]).resolve()
    os.environ |= {
        "XDG_CACHE_HOME": str(where / "cache"),
        "XDG_CONFIG_HOME": str(where / "config"),
        "TMPDIR": str(where / "tmp"),
    }
    tempfile.tempdir = None
    sys.dont_write_bytecode = True
    sys.stdout.write(
        json.dumps(main(where, "--all" in sys.argv, [word for word in sys.argv[2:] if word != "--all"]))
    )
