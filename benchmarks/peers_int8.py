"""What people would pick instead, in int8 too: python benchmarks/peers_int8.py [--runtimes litert onnxruntime] [--rounds 6]

timm models with random weights (`peers.stir`), exported plainly and quantised as their converters' own documentation says: LiteRT by
ai-edge-quantizer's recipe static_wi8_ai8, ONNX Runtime by quantize_static (QDQ, weights per channel, activations without a sign), both with ranges from 8
random images. Beside them the smallest, a middle and the largest `nasvit` subnet by us, in fp32 and int8. All in turns, 1 thread,
median of rounds. Accuracies are published ones of fp32 (`peers.PEERS`); nothing is known here of int8's. Needs timm and onnxscript (extra bench).
"""

import argparse
import logging
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from compare_exports import at_precisions, measure
from peers import stir

from nasvit_edge.export import tflite
from nasvit_edge.export.quiet import quiet

PEERS = {
    "mobilenetv3_large_100": 224,
    "levit_128s": 224,
    "efficientnet_b0": 224,
    "mobilenetv4_conv_small": 224,
    "cpubone_b0_bfrobust": 224,
    "hgnetv2_b1": 224,
}
_IMAGES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtimes", nargs="+", default=["litert", "onnxruntime"])
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    for runtime in options.runtimes:
        with TemporaryDirectory() as folder:
            paths = {
                n: p
                for n, p in at_precisions(Path(folder), runtime, ["int8"]).items()
                if n.startswith("nasvit")
            }
            for name, side in PEERS.items():
                try:
                    paths |= exported(name, side, runtime, Path(folder))
                except Exception as error:  # noqa: BLE001 - a converter that refuses a network is a result
                    print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:120]}", flush=True)
            show(runtime, measure(runtime, paths, options.rounds))


def exported(name: str, side: int, runtime: str, folder: Path) -> dict[str, Path]:
    """NAME.fp32 and NAME.int8 -> model file."""
    import timm
    from timm.utils import reparameterize_model

    model = timm.create_model(name).eval()
    stir(model, side)
    model = reparameterize_model(model).eval()
    images = np.random.default_rng(0).normal(size=(_IMAGES, 1, 3, side, side)).astype(np.float32)
    write = _litert if runtime == "litert" else _onnxruntime
    paths = write(model, images, folder / name)
    print(f"exported {name}", flush=True)
    return {f"{name}.{precision}": path for precision, path in zip(("fp32", "int8"), paths, strict=True)}


def _litert(model: torch.nn.Module, images: np.ndarray, stem: Path) -> tuple[Path, Path]:
    from ai_edge_quantizer import quantizer, recipe

    exact, small = stem.with_suffix(".tflite"), stem.with_suffix(".int8.tflite")
    with quiet():
        exact.write_bytes(tflite.convert(model, images.shape[1:]))
        quantising = quantizer.Quantizer(str(exact), recipe.static_wi8_ai8())
        samples = [{"args_0": image.transpose(0, 2, 3, 1)} for image in images]
        small.write_bytes(
            quantising.quantize(quantising.calibrate({"serving_default": samples})).quantized_model
        )
    return exact, small


def _onnxruntime(model: torch.nn.Module, images: np.ndarray, stem: Path) -> tuple[Path, Path]:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    exact, ready, small = (stem.with_suffix(f"{more}.onnx") for more in ("", ".ready", ".int8"))
    with torch.no_grad():
        model(torch.from_numpy(images[0]))
        program = torch.onnx.export(
            model, (torch.from_numpy(images[0]),), dynamo=True, opset_version=18, verbose=False
        )
    exact.write_bytes(program.model_proto.SerializeToString())
    entry = program.model_proto.graph.input[0].name

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.left, None)
            return None if image is None else {entry: image}

    with quiet():
        quant_pre_process(str(exact), str(ready))
        quantize_static(
            str(ready),
            str(small),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"ReduceRange": True},
        )
    return exact, small


def show(runtime: str, medians: dict[str, list[float]]) -> None:
    """Print fp32 and int8 in ms, and their ratio by rounds."""
    print(f"\n{runtime}, 1 thread: fp32 ms, int8 ms, fp32 over int8 (lowest to highest of a round)")
    for name in dict.fromkeys(name.rpartition(".")[0] for name in medians):
        exact, small = medians[f"{name}.fp32"], medians[f"{name}.int8"]
        ratios = sorted(f / i for f, i in zip(exact, small, strict=True))
        print(
            f"  {name:24} {statistics.median(exact):8.2f} {statistics.median(small):8.2f}   "
            f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
