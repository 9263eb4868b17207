"""What a run logged is read back; what is damaged is one line."""

from __future__ import annotations

import json

import pytest
from conftest import one_line, only_user_errors
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.train.logs import RunLog, StepRecord
from nasvit_edge.train.run_logs import CurvePoint, read_logs


def run(folder, steps=12, each=4, distilled=0.5):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.json").write_text(
        json.dumps({"steps_per_epoch": each, "recipe": {"name": "nano"}, "data": "d"})
    )
    with RunLog(folder) as log:
        for step in range(1, steps + 1):
            rest = {"learning_rate": 0.1, "norm_largest": 1.0, "norm_subnets": 1.0, "negative": 0.5}
            rest |= {"images_per_s": 1.0, "waited": 0.0}
            log.step(
                StepRecord(step=step, epoch=(step - 1) // each, loss=1 / step, distilled=distilled, **rest)
            )
            if step % each == 0:
                log.validation(step, step // each, {"smallest": step / 100, "largest": step / 50})
    return folder


def test_accuracies_and_losses_are_those_that_were_logged_by_epoch(tmp_path):
    logs = read_logs(run(tmp_path / "a"))
    assert logs.name == "a"
    assert logs.accuracies["largest"] == [
        CurvePoint(1.0, 0.08),
        CurvePoint(2.0, 0.16),
        CurvePoint(3.0, 0.24),
    ]
    assert [p.value for p in logs.losses["largest"]] == pytest.approx(
        [1 / step for step in range(1, 13)], rel=1e-3
    )
    assert logs.losses["others"][-1] == CurvePoint(3.0, 0.5)
    assert "others" not in read_logs(run(tmp_path / "alone", distilled=0.0)).losses


@given(st.integers(1, 40), st.integers(1, 20))
def test_losses_of_many_steps_are_means_that_keep_the_whole_s_mean(tmp_path_factory, steps, bins):
    folder = run(tmp_path_factory.mktemp("r") / "run", steps)
    logs = read_logs(folder, bins).losses["largest"]
    assert len(logs) <= bins
    assert logs[-1].epoch == steps / 4
    if steps % len(logs) == 0:
        mean = sum(p.value for p in logs) / len(logs)
        assert mean == pytest.approx(sum(1 / s for s in range(1, steps + 1)) / steps, rel=1e-2)


def test_a_last_line_without_its_end_is_left_out_and_a_damaged_one_is_named(tmp_path):
    folder = run(tmp_path / "a")
    log = folder / "log.csv"
    whole = log.read_text()
    log.write_text(whole[:-8])
    assert len(read_logs(folder).losses["largest"]) == 11
    log.write_text(whole.replace("\n3,0,", "\n3,0,x", 1))
    with pytest.raises(NasvitEdgeError, match=r"line 4: key 'loss'") as error:
        read_logs(folder)
    one_line(error)
    with pytest.raises(NasvitEdgeError, match="is no folder of a run"):
        read_logs(tmp_path)


@given(st.binary(max_size=200), st.sampled_from(["log.csv", "validation.csv", "recipe.json"]))
def test_any_bytes_in_its_place_are_read_or_one_line(tmp_path_factory, content, name):
    folder = run(tmp_path_factory.mktemp("r") / "run", 2)
    (folder / name).write_bytes(content)
    only_user_errors(read_logs, folder)
