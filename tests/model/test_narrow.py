"""One subnet as a supernet of its own."""

from __future__ import annotations

import pytest
import torch
from conftest import TINY, configs, edited, space_of
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.model.checkpoint import fill_generic, load_supernet, random_supernet, save_supernet
from nasvit_edge.model.narrow import narrowed
from nasvit_edge.model.supernet import SCALINGS, Supernet
from nasvit_edge.ops import lower

ALWAYS_EXPANDS = edited(TINY, ("expand_ratio = [1]", "expand_ratio = [1, 2]"), ("[16, 24]", "[16, 24, 32]"))
SMALL_WINDOW = edited(TINY, ("window = 4", "window = 2"))  # tables are resized to the grid
SPACES = {"tiny": TINY, "always-expands": ALWAYS_EXPANDS, "small-window": SMALL_WINDOW}


def _pair(name: str, scaling: str, config_of) -> tuple[Supernet, Supernet]:
    wide = Supernet(space_of(SPACES[name]), scaling)
    fill_generic(wide)
    return wide.eval(), narrowed(wide, config_of(wide.space))


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=4)
@given(st.data())
def test_it_computes_what_the_subnet_does_in_the_wide_supernet(name, scaling, data):
    wide, narrow = _pair(name, scaling, lambda space: data.draw(configs(space)))
    config = narrow.space.largest()
    images = torch.randn(
        2, 3, config.resolution, config.resolution, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        for train in (True, False):
            expected, actual = wide.train(train)(images, config), narrow.train(train)(images, config)
            assert float((actual - expected).abs().max() / expected.std()) < 1e-5


@settings(max_examples=20)
@given(st.data())
def test_its_ops_have_the_same_keys_so_the_same_tables_predict_it(nano, data):
    config = data.draw(configs(nano))
    alone = nano.only(config)
    assert [op.key() for op in lower(alone, config)] == [op.key() for op in lower(nano, config)]


def test_it_has_its_own_storage(nano):
    wide = random_supernet(nano, 1)
    narrow = narrowed(wide, nano.smallest())
    with torch.no_grad():
        for value in narrow.parameters():
            value.zero_()
    assert all(
        torch.equal(v, w)
        for v, w in zip(wide.parameters(), random_supernet(nano, 1).parameters(), strict=True)
    )


@pytest.mark.parametrize("scaling", SCALINGS)
def test_it_is_saved_and_loaded_as_any_supernet(tmp_path, tiny, scaling):
    wide = Supernet(tiny, scaling)
    fill_generic(wide)
    narrow = narrowed(wide, tiny.smallest())
    save_supernet(narrow, tmp_path / "one.safetensors", {"kind": "trained"})
    again = load_supernet(tmp_path / "one.safetensors", narrow.space)
    assert again.scaling == scaling
    assert all(torch.equal(v, again.state_dict()[n]) for n, v in narrow.state_dict().items())
