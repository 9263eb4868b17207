"""Tensors that an ONNX model keeps in other files: it names them by path, and runtimes open what is named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def external_files(model: Any) -> list[str]:
    """The paths that a ModelProto names, wherever in it; none where all is inside, as in our exports."""
    tensors = [tensor for part in _parts(model) for tensor in part]
    entries = [entry for tensor in tensors for entry in tensor.external_data]
    return sorted({entry.value for entry in entries if entry.key == "location"})


def _parts(model: Any) -> Iterator[Iterator[Any]]:
    yield _of_graph(model.graph)
    for function in model.functions:
        yield _of_nodes(function.node)
        yield _of_attributes(function.attribute_proto)
    for info in model.training_info:
        yield _of_graph(info.initialization)
        yield _of_graph(info.algorithm)


def _of_graph(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        yield from _of_attributes(node.attribute)


def _of_attributes(attributes: Any) -> Iterator[Any]:
    for one in attributes:
        yield from (one.t, *one.tensors)
        for sparse in (one.sparse_tensor, *one.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (one.g, *one.graphs):
            yield from _of_graph(graph)
