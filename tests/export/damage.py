"""Damaging model files on purpose, in each format's own way."""

from __future__ import annotations

import io
import zipfile

import numpy as np

from nasvit_edge.export import artifact, mil, tensorrt

FORMATS = ("coreml", "onnx", "tensorrt", "tflite")


def scale_a_weight(path, factor, number=None):
    """The model with its largest weight tensor (or the scale of it, where it is int8) times `factor`; of ONNX also another one."""
    if path.suffix == ".tensorrt":
        content = artifact.read_content(path)
        return content | {tensorrt.MODEL: _scaled_onnx(path / tensorrt.MODEL, factor)}
    if path.suffix == ".onnx":
        return _scaled_onnx(path, factor, number)
    scaled = {".tflite": _scaled_tflite, ".mlpackage": _scaled_coreml}
    return scaled[path.suffix](path, factor)


def some_weights_lost(path, share):
    """An int8 ONNX model with this share of its weights set to zero."""
    import onnx

    model, rng = onnx.load(str(path)), np.random.default_rng(0)
    for tensor in _int8_weights(model):
        array = onnx.numpy_helper.to_array(tensor)
        kept = rng.random(array.shape) >= share
        tensor.CopyFrom(onnx.numpy_helper.from_array(array * kept.astype(np.int8), tensor.name))
    return model.SerializeToString(deterministic=True)


def weight_count(path):
    """How many 8-bit weight tensors an ONNX model has."""
    import onnx

    return len(_int8_weights(onnx.load(str(path))))


def _int8_weights(model):
    import onnx

    kinds = onnx.TensorProto.INT8
    return [t for t in model.graph.initializer if t.data_type == kinds and len(t.dims) > 1]


def truncated(path):
    """Two thirds of the model."""
    content = artifact.read_content(path)
    if isinstance(content, dict):
        largest = max((tensorrt.MODEL, mil.WEIGHTS), key=lambda name: len(content.get(name, b"")))
        return content | {largest: content[largest][: len(content[largest]) * 2 // 3]}
    return content[: len(content) * 2 // 3]


def bare(path):
    """The model without the metadata that its format appends."""
    content = artifact.read_content(path)
    if path.suffix == ".tflite":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return content[: archive.infolist()[0].header_offset]
    return content


def _scaled_onnx(path, factor, number=None):
    import onnx

    model = onnx.load(str(path))
    by_name = {t.name: t for t in model.graph.initializer}
    weight = max(by_name.values(), key=lambda t: len(t.raw_data))
    if number is not None:
        weight = _int8_weights(model)[number]
    if weight.data_type == onnx.TensorProto.INT8:
        node = next(
            n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == weight.name
        )
        weight = by_name[node.input[1]]
    array = onnx.numpy_helper.to_array(weight)
    weight.CopyFrom(onnx.numpy_helper.from_array((array * factor).astype(array.dtype), weight.name))
    return model.SerializeToString(deterministic=True)


def _scaled_tflite(path, factor):
    from ai_edge_litert import schema_py_generated as schema

    content = bytearray(path.read_bytes())
    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    tensors = [graph.Tensors(i) for i in range(graph.TensorsLength())]
    weight = max(tensors, key=lambda t: model.Buffers(t.Buffer()).DataLength())
    kinds = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}
    if weight.Type() in kinds:
        data = model.Buffers(weight.Buffer()).DataAsNumpy().view(kinds[weight.Type()])
    else:
        data = weight.Quantization().ScaleAsNumpy()
    data.flags.writeable = True
    data *= data.dtype.type(factor)
    return bytes(content)


def _scaled_coreml(path, factor):
    content = artifact.read_content(path)
    program = mil.Program(path)
    types = {10: np.float16, 11: np.float32}
    blobs = []
    for op in program.block.operations:
        for name in ("val", "scale", "quantized_data"):
            value = op.attributes.get(name)
            if value is not None and value.WhichOneof("value") == "blobFileValue":
                kind = value.type.tensorType.dataType
                size = int(np.prod([d.constant.size for d in value.type.tensorType.dimensions]))
                blobs.append((size * (2 if kind == 10 else 4), kind, value.blobFileValue.offset, size, name))
    quantised = [b for b in blobs if b[-1] == "scale"]
    _, kind, offset, size, _ = max(quantised or [b for b in blobs if b[1] in types])
    weights = bytearray(content[mil.WEIGHTS])
    start = int(np.frombuffer(weights, np.uint64, 1, offset + 16)[0])
    view = np.frombuffer(weights, types[kind], size, start)
    view *= types[kind](factor)
    return content | {mil.WEIGHTS: bytes(weights)}
