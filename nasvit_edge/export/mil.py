"""Evaluating a saved Core ML program where Core ML is not: the MIL operations that subnets convert to.

The program is read from the package on disk, weights file included, and run on torch tensors operation by
operation. Values that the program types as fp16 are computed in single precision and rounded to half after
every operation, so what half precision loses shows (Apple's engines may accumulate differently).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge.errors import VerifyError, require
from nasvit_edge.export.mil_operations import OPERATIONS
from nasvit_edge.export.quiet import quiet

if TYPE_CHECKING:
    from torch import Tensor

MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
_SENTINEL = 0xDEADBEEF
_RGB = 20  # FeatureTypes.proto
_BLOB = struct.Struct("<IIQQ")  # sentinel, type, bytes, offset of the data
_FLOAT16, _FLOAT32, _INT8, _UINT8, _INT32, _BOOL, _STRING = 10, 11, 21, 31, 23, 1, 2  # MIL DataType
_TYPES: dict[int, type[np.generic]] = {
    _FLOAT16: np.float16,
    _FLOAT32: np.float32,
    _INT8: np.int8,
    _UINT8: np.uint8,
    _INT32: np.int32,
    _BOOL: np.bool_,
}


class Program:
    """The main function of a saved ML program; without `rounded`, half precision is carried on in single."""

    def __init__(self, package: Path, *, rounded: bool = True) -> None:
        self.rounded = rounded
        self.spec = read_spec(package / MODEL)
        if self.spec.WhichOneof("Type") != "mlProgram" or "main" not in self.spec.mlProgram.functions:
            raise VerifyError(f"artifact {str(package)!r} holds no ML program")
        function = self.function = self.spec.mlProgram.functions["main"]
        self.block = function.block_specializations[function.opset]
        self.inputs = [value.name for value in function.inputs]
        weights = package / WEIGHTS
        self.weights = weights.read_bytes() if weights.exists() else b""
        self.constants: dict[str, Any] = {}
        self.producers = {out.name: op for op in self.block.operations for out in op.outputs}

    def operations(self) -> list[str]:
        """The types of the operations that compute something, in order."""
        return [op.type for op in self.block.operations if op.type != "const"]

    def labels(self) -> list[str]:
        """The classes of the classifier; empty where the program is none."""
        for op in self.block.operations:
            if op.type == "classify":
                return [str(label) for label in np.ravel(self._argument(op, "classes", {}))]
        return []

    def logits_name(self) -> str:
        """The value before the classifier's softmax, else the program's output."""
        chain = self._after_logits()
        return (
            self.bound(chain[-1], "x" if len(chain) > 1 else "probabilities")
            if chain
            else str(self.block.outputs[0])
        )

    def _after_logits(self) -> list[Any]:
        """A classifier's last operations, from `classify` back to its softmax; empty where it is none."""
        op = self.producers[str(self.block.outputs[0])]
        if op.type != "classify":
            return []
        chain, name = [op], self.bound(op, "probabilities")
        while self.producers[name].type in ("cast", "softmax"):
            op = self.producers[name]
            if op in chain:
                raise VerifyError("the program's last operations go round in a circle")
            chain.append(op)
            name = self.bound(op, "x")
        return chain

    def faults(self) -> list[str]:
        """What would mislead an app that uses this model; empty where it takes no picture, or is sound."""
        chain = self._after_logits()
        faults = self._classifier_faults(chain) if chain else []
        if self.spec.description.input[0].type.WhichOneof("Type") == "imageType":
            faults += self._image_faults()
        return faults

    def _image_faults(self) -> list[str]:
        image = self.spec.description.input[0].type.imageType
        rows = [d.constant.size for d in self.function.inputs[0].type.tensorType.dimensions]
        faults = [] if image.colorSpace == _RGB else ["its image is not RGB"]
        if [image.height, image.width] != rows[2:]:
            faults.append(f"its image is {image.height} x {image.width}, its tensor {rows[2:]}")
        return faults

    def _classifier_faults(self, chain: list[Any]) -> list[str]:
        description, known = self.spec.description, self._constants()
        softmax = [op for op in chain if op.type == "softmax"]
        faults = [] if len(softmax) == 1 else ["it has no softmax before its classes"]
        if any(int(self._argument(op, "axis", known)) not in (1, -1) for op in softmax):
            faults.append("its softmax is not over the classes")
        names = {description.predictedFeatureName, description.predictedProbabilitiesName}
        if names != {out.name for out in chain[0].outputs}:
            faults.append("the names of its outputs are not the classifier's")
        return faults

    def run(self, values: dict[str, Tensor]) -> Tensor:
        """The logits for named inputs; a program for one image takes any number of them."""
        import torch

        wanted = self.logits_name()
        with torch.no_grad():
            known = self._constants() | values
            for op in self.block.operations:
                if op.type == "classify" or wanted in known:
                    break
                if op.outputs[0].name not in known:
                    self._evaluate(op, known)
        return known[wanted]

    def _constants(self) -> dict[str, Any]:
        """What does not depend on the input; computed once."""
        if not self.constants:
            for op in self.block.operations:
                if op.type == "const" or op.type.startswith("constexpr_"):
                    self._evaluate(op, self.constants)
        return self.constants

    def _evaluate(self, op: Any, known: dict[str, object]) -> None:
        if op.type == "const":
            known[op.outputs[0].name] = self._value(op.attributes["val"])
            return
        if op.type not in OPERATIONS:
            raise VerifyError(
                f"the evaluator has no operation {op.type!r} (layer {op.outputs[0].name!r}); verify this file on a Mac"
            )
        names = {*op.inputs, *(name for name in op.attributes if name != "name")}
        results = OPERATIONS[op.type]({name: self._argument(op, name, known) for name in names})
        for out, value in zip(op.outputs, results if isinstance(results, list) else [results], strict=True):
            known[out.name] = _typed(value, out.type.tensorType.dataType, self.rounded)

    def _argument(self, op: Any, name: str, known: dict[str, object]) -> Any:
        if name not in op.inputs:
            return self._value(op.attributes[name])
        bound = op.inputs[name].arguments
        values = [known[b.name] if b.WhichOneof("binding") == "name" else self._value(b.value) for b in bound]
        return values if name == "values" else values[0]

    def bound(self, op: Any, name: str) -> str:
        """The name of the value that an operation takes as `name`."""
        return str(op.inputs[name].arguments[0].name)

    def flag(self, op: Any, name: str) -> bool:
        """A constant of an operation that is true or false; false where it is not given."""
        if name not in op.inputs:
            return False
        argument = op.inputs[name].arguments[0]
        constant = argument.WhichOneof("binding") == "name"
        return bool(
            self._value(self.producers[argument.name].attributes["val"] if constant else argument.value)
        )

    def _value(self, value: Any) -> Any:
        """A constant: a tensor, or for text an array of strings."""
        import torch

        if value.immediateValue.WhichOneof("value") == "list":
            return np.array([self._value(item) for item in value.immediateValue.list.values])
        kind = value.type.tensorType.dataType
        shape = [d.constant.size for d in value.type.tensorType.dimensions]
        if value.WhichOneof("value") == "blobFileValue":
            array = self._blob(value.blobFileValue.offset, kind)
        else:
            tensor = value.immediateValue.tensor
            array = np.array(getattr(tensor, tensor.WhichOneof("value")).values)
            if tensor.WhichOneof("value") == "bytes":
                array = np.frombuffer(tensor.bytes.values, _TYPES[kind])
        if kind == _STRING:
            return array.reshape(shape)
        return torch.from_numpy(array.astype(_TYPES[kind]).reshape(shape).copy())

    def _blob(self, offset: int, kind: int) -> np.ndarray[Any, Any]:
        sentinel, _, size, start = _BLOB.unpack_from(self.weights, offset)
        if sentinel != _SENTINEL or start + size > len(self.weights):
            raise VerifyError("the weights file is cut short or not the model's")
        return np.frombuffer(self.weights[start : start + size], _TYPES[kind])


def empty_spec() -> Any:
    """A model's protobuf, to be filled."""
    with quiet():  # importing the package off a Mac logs what it lacks
        return require("coremltools.proto.Model_pb2", "coreml").Model()


def read_spec(path: Path) -> Any:
    """The model's protobuf; VerifyError where it is none."""
    spec = empty_spec()
    try:
        spec.ParseFromString(path.read_bytes())
    except Exception as error:  # noqa: BLE001 - protobuf's own error classes differ by version
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["unreadable"])[0][:120]
        raise VerifyError(f"artifact {str(path.parents[2])!r} is damaged: {reason}") from None
    return spec


def _typed(value: Tensor, kind: int, rounded: bool) -> Tensor:
    """Rounded to the type that the program gives it; floating point is carried on in single precision."""
    if kind == _FLOAT16:
        return value.half().float() if rounded else value.float()
    return value.float() if kind == _FLOAT32 else value
