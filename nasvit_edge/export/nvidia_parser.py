"""NVIDIA's ONNX parser, which needs no GPU."""

from __future__ import annotations

from typing import Any

from nasvit_edge.errors import require


def refused_nodes(model: bytes) -> list[tuple[str, str, str]]:
    """(layer, op, why) of the nodes that NVIDIA's parser refuses; empty where it takes the whole model."""
    trt = require("tensorrt_rtx", "tensorrt")
    logger = collecting_logger(trt)
    network = trt.Builder(logger).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if parser.parse(model):
        return []
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    return [
        (e.node_name() or "model", e.node_operator() or "-", e.desc().splitlines()[0][:120]) for e in errors
    ]


def collecting_logger(trt: Any) -> Any:
    """A logger that keeps what TensorRT says of errors, in `lines`."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.lines.append(text)

    return Logger()
