"""The evaluator of saved ML programs: it computes what the supernet does, and a damaged program is one line."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import configs, one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.errors import ExportError, NasvitEdgeError, VerifyError
from nasvit_edge.export import artifact, coreml, mil, parity
from nasvit_edge.export.formats import Conversion
from nasvit_edge.model.checkpoint import load_supernet, random_supernet
from nasvit_edge.model.subnet import fold, materialise
from nasvit_edge.ops import lower
from nasvit_edge.profile.models import op_module
from nasvit_edge.space import load_space

SPACE = load_space("nano")


@functools.cache
def package() -> dict[str, bytes]:
    """A classifier of the smallest trained nano subnet."""
    net = load_supernet("nano", SPACE)
    side = SPACE.smallest().resolution
    recipe = Conversion(mean=SPACE.mean, std=SPACE.std, labels=tuple(SPACE.label_names()))
    tree = coreml.convert(fold(materialise(net, SPACE.smallest())), (1, 3, side, side), recipe)
    import json

    facts = {"labels": SPACE.label_names(), "preparation": SPACE.preparation(side).to_dict()}
    return coreml.write_metadata(tree, {key: json.dumps(value) for key, value in facts.items()})


@settings(max_examples=3)
@given(st.data())
def test_any_subnet_evaluates_to_what_the_elastic_supernet_says(tiny, data):
    net, config = random_supernet(tiny, 1), data.draw(configs(tiny))
    shape = (2, 3, config.resolution, config.resolution)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    tree = coreml.convert(fold(materialise(net, config)), shape)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder, "m.mlpackage")
        artifact.write_content(path, tree)
        expected = net.eval()(images, config).numpy()
        assert parity.relative_error(coreml.runner(path)(images.numpy()), expected) < 1e-4


@pytest.mark.parametrize("config", [SPACE.smallest(), SPACE.largest()], ids=["smallest", "largest"])
def test_several_images_at_once_are_the_same_as_one_by_one(config, tmp_path):
    op = lower(SPACE, config)[0]
    tree = coreml.convert(op_module(op), (1, *op.in_shape()))
    path = tmp_path / "m.mlpackage"
    artifact.write_content(path, tree)
    program = mil.Program(path)
    x = torch.randn(3, *op.in_shape())
    together = program.run({program.inputs[0]: x})
    alone = torch.cat([program.run({program.inputs[0]: one[None]}) for one in x])
    assert torch.allclose(together, alone, atol=1e-5)


def test_the_program_is_a_classifier_with_the_labels_of_the_space(tmp_path):
    path = tmp_path / "m.mlpackage"
    artifact.write_content(path, package())
    program = mil.Program(path)
    assert program.labels() == SPACE.label_names()
    assert program.operations()[-2:] == ["softmax", "classify"]
    assert program.spec.description.input[0].type.WhichOneof("Type") == "imageType"


def test_no_path_date_or_debug_mapping_is_in_the_package():
    text = b"".join(package().values())
    assert set(package()) == {"Manifest.json", mil.MODEL, mil.WEIGHTS}
    assert b"conversion_date" not in text
    assert b"/site-packages/" not in text


def test_int8_activations_need_a_mac_and_the_line_offers_w8():
    with pytest.raises(ExportError, match=r"only on a Mac.*w8") as caught:
        coreml.convert(torch.nn.ReLU(), (1, 3), Conversion(precision="int8"))
    assert one_line(caught)


def test_an_operation_that_is_not_known_is_named(tmp_path):
    tree = coreml.convert(torch.nn.Sequential(torch.nn.ELU()), (1, 3))
    path = tmp_path / "m.mlpackage"
    artifact.write_content(path, tree)
    with pytest.raises(VerifyError, match="no operation 'elu'"):
        coreml.runner(path)(np.zeros((1, 3), np.float32))


@settings(max_examples=40)
@given(
    name=st.sampled_from([mil.MODEL, mil.WEIGHTS]),
    place=st.floats(0, 0.999),
    bits=st.integers(1, 255),
    cut=st.booleans(),
)
def test_a_damaged_package_gives_one_line_or_other_numbers(name, place, bits, cut):
    content = bytearray(package()[name])
    where = int(place * len(content))
    if cut:
        del content[where:]
    else:
        content[where] ^= bits
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.mlpackage")
        artifact.write_content(path, package() | {name: bytes(content)})
        side = SPACE.smallest().resolution
        with contextlib.suppress(NasvitEdgeError):
            logits = coreml.runner(path)(np.zeros((1, 3, side, side), np.float32))
            assert logits.dtype == np.float32
