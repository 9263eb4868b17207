"""Several processes that train together: what they exchange, and what happens when one is lost."""

from __future__ import annotations

import os
import random
import signal
import socket
import time

import pytest
import torch
from conftest import TINY, one_line, only_user_errors, space_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ranks import ranks
from torch import Tensor, nn

from nasvit_edge.data_sets import ImageSet
from nasvit_edge.errors import NasvitEdgeError, TrainingError
from nasvit_edge.model.accuracy import calibrated, correct, subnet_accuracy
from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.model.subnet import materialise
from nasvit_edge.space import SubnetConfig
from nasvit_edge.train import world as module
from nasvit_edge.train.stopping import CalledAway
from nasvit_edge.train.validation import sharded_tally, subnet_accuracies
from nasvit_edge.train.world import World, world

SPACE, ALONE = space_of(TINY), World()
few = settings(max_examples=15)


# -- the environment ------------------------------------------------------------------------------------


def test_without_variables_a_process_is_alone_and_exchanges_nothing():
    alone = world(environment={})
    assert (alone.rank, alone.size) == (0, 1)
    gradient = [torch.ones(2), None]
    assert alone.averaged(gradient) == gradient
    assert alone.mean(torch.tensor(3.0)) == 3
    assert alone.total(torch.tensor(3)) == 3
    assert alone.agreed(True)
    assert not alone.agreed(False)
    alone.same_start(nn.Linear(2, 2))
    alone.barrier()
    alone.close()
    alone.close(ValueError())


def test_a_world_of_one_is_alone():
    assert world(environment={"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}).size == 1


values = st.none() | st.text(max_size=4) | st.integers(-3, 5).map(str)


@given(values, values, values)
def test_any_variables_make_a_world_or_one_clear_line(rank, size, local):
    given_ = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": local}
    environment = {name: text for name, text in given_.items() if text is not None}
    whole = all(text is None or (text.isascii() and text.isdigit()) for text in (rank, size, local))
    assume(
        not (whole and rank and size and int(size) > 1 and int(rank) < int(size))
    )  # it would wait for others
    outcome = only_user_errors(world, 1.0, environment)
    assert isinstance(outcome, str) or outcome.size == 1


def test_the_line_says_which_variable_and_what_it_may_be():
    with pytest.raises(NasvitEdgeError) as error:
        world(environment={"RANK": "2", "WORLD_SIZE": "2"})
    assert "RANK is '2'; it must be 0 to 1" in one_line(error)
    with pytest.raises(NasvitEdgeError) as error:
        world(environment={"RANK": "2"})
    assert "WORLD_SIZE is not set" in one_line(error)


def test_others_that_never_come_are_one_clear_line(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", port)
    variables = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with pytest.raises(TrainingError) as error:
        world(1.0, variables)
    assert f"rank 1 of 2 did not meet the others at 127.0.0.1:{port} within 1 s" in one_line(error)


# -- what is exchanged ----------------------------------------------------------------------------------


def gradients(rank: int, shapes: list[tuple[int, ...] | None], seed: int) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(seed * 8 + rank)
    tensors = [None if shape is None else torch.randn(shape, generator=generator) for shape in shapes]
    return [t.to(memory_format=torch.channels_last) if t is not None and t.dim() == 4 else t for t in tensors]


def averaged(ranks: World, shapes: list[tuple[int, ...] | None], seed: int) -> list[Tensor | None]:
    return ranks.averaged(gradients(ranks.rank, shapes, seed))


shapes = st.none() | st.lists(st.integers(1, 4), max_size=4).map(tuple)


@few
@given(st.lists(shapes, max_size=8), st.integers(0, 1000))
def test_averaged_gradients_are_the_mean_over_ranks_and_the_same_on_all(three, wanted, seed):
    answers = three.call(averaged, wanted, seed)
    gradients_of_ranks = [gradients(rank, wanted, seed) for rank in range(3)]
    for place, results in enumerate(zip(*answers, strict=True)):
        if wanted[place] is None:
            assert results == (None, None, None)
            continue
        mean = torch.stack([g[place] for g in gradients_of_ranks]).mean(0)
        assert torch.allclose(results[0], mean, atol=1e-6)
        assert all(torch.equal(result, results[0]) for result in results)
        assert results[0].stride() == gradients_of_ranks[0][place].stride()


def in_small_buckets(ranks: World) -> list[Tensor | None]:
    whole = module._BUCKET_BYTES
    module._BUCKET_BYTES = 64
    try:
        return averaged(ranks, [(3, 4), (20,), None, (2, 2, 2, 2), ()], 5)
    finally:
        module._BUCKET_BYTES = whole


def test_the_size_of_buckets_changes_nothing(pair):
    whole = pair.call(averaged, [(3, 4), (20,), None, (2, 2, 2, 2), ()], 5)[0]
    small = pair.call(in_small_buckets)[0]
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(whole, small, strict=True))


@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from([torch.float32, torch.float64]))))
def test_buckets_keep_the_order_are_of_one_dtype_and_no_larger_than_they_may(sizes):
    tensors = [torch.empty(n, dtype=kind) for n, kind in sizes]
    limit, module._BUCKET_BYTES = module._BUCKET_BYTES, 128
    try:
        buckets = list(module._buckets(tensors))
    finally:
        module._BUCKET_BYTES = limit
    assert [id(t) for bucket in buckets for t in bucket] == [id(t) for t in tensors]
    assert all(len({t.dtype for t in bucket}) == 1 for bucket in buckets)
    assert all(len(bucket) == 1 or sum(t.nbytes for t in bucket) <= 128 for bucket in buckets)


def small(ranks: World) -> tuple[float, int, list[float], list[bool]]:
    number = torch.tensor(ranks.rank + 1.0)
    flags = [ranks.agreed(ranks.rank == 1), ranks.agreed(False), ranks.agreed(True)]
    gathered = ranks.gathered(number.repeat(2))
    return float(ranks.mean(number)), int(ranks.total(number.long())), gathered[:, 1].tolist(), flags


def test_means_sums_and_flags_are_those_of_all_ranks(three):
    assert three.call(small) == [(2.0, 6, [1.0, 2.0, 3.0], [True, False, True])] * 3


def with_other_subnets(ranks: World) -> list[Tensor | None]:
    return ranks.averaged([torch.ones(2), None if ranks.rank == 1 else torch.ones(3)])


def with_another_model(ranks: World) -> None:
    ranks.same_start(nn.Linear(2 + ranks.rank, 2))


def test_ranks_that_train_different_things_stop_with_one_line_and_no_wrong_mean(pair):
    for error in pair.call(with_other_subnets):
        assert "ranks 0 and 1 train different subnets" in one_line(error)
    for error in pair.call(with_another_model):
        assert "ranks 0 and 1 hold different models" in one_line(error)
    assert pair.call(small)[0][1] == 3  # and nothing is left half-sent


def started(ranks: World) -> dict[str, Tensor]:
    torch.manual_seed(ranks.rank)
    network = nn.Sequential(nn.Conv2d(2, 3, 1).to(memory_format=torch.channels_last), nn.BatchNorm2d(3))
    network[1].running_mean.fill_(ranks.rank + 1)
    ranks.same_start(network)
    return network.state_dict()


def test_all_start_with_the_weights_and_buffers_of_rank_0(pair):
    first, second = pair.call(started)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert first["1.running_mean"].tolist() == [1.0] * 3


# -- evaluation -----------------------------------------------------------------------------------------


def images(count: int) -> ImageSet:
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, 3, 12, 12), generator=generator, dtype=torch.uint8)
    return ImageSet("noise", pixels, torch.randint(0, 4, (count,), generator=generator))


def chosen(count: int) -> list[SubnetConfig]:
    rng = random.Random(count)
    return [SPACE.sample(rng) for _ in range(count)]


def accuracies(ranks: World, count: int) -> list[float]:
    return subnet_accuracies(random_supernet(SPACE), chosen(count), images(64), images(101), ranks)


@pytest.mark.parametrize("count", [0, 2, 4])
def test_accuracies_are_those_of_one_process_whether_subnets_or_images_are_shared(three, count):
    supernet = random_supernet(SPACE)
    alone = [subnet_accuracy(supernet, config, images(64), images(101)) for config in chosen(count)]
    assert accuracies(ALONE, count) == alone
    assert three.call(accuracies, count) == [alone] * 3


def counted(ranks: World, count: int) -> int:
    subnet = calibrated(materialise(random_supernet(SPACE), SPACE.smallest()), images(64))
    return int(sharded_tally(subnet, images(count), ranks))


@pytest.mark.parametrize("count", [1, 2, 50])
def test_every_image_is_counted_once(three, count):
    subnet = calibrated(materialise(random_supernet(SPACE), SPACE.smallest()), images(64))
    assert three.call(counted, count) == [correct(subnet, images(count))] * 3


# -- endings --------------------------------------------------------------------------------------------


def rounds(ranks: World, pause: float = 0.0) -> int:
    """Steps until any rank got a SIGTERM, or for ever."""
    stop: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    try:
        for step in range(10**9):
            time.sleep(pause * ranks.rank)
            ranks.averaged([torch.ones(1000)])
            if ranks.agreed(bool(stop)):
                return step
    finally:
        signal.signal(signal.SIGTERM, before)
    raise AssertionError


def test_a_signal_to_one_rank_stops_all_at_the_same_step(pair):
    pair.send(rounds, 0.002)
    time.sleep(0.5)
    os.kill(pair.processes[1].pid, signal.SIGTERM)
    first, second = pair.answer(0), pair.answer(1)
    assert first == second > 0


def test_a_rank_that_is_killed_stops_the_others_with_one_line_that_names_it():
    with ranks(3, timeout_s=20.0) as group:  # what a survivor takes that hears of it late
        group.send(rounds)
        time.sleep(1.5)
        group.processes[1].kill()
        began = time.monotonic()
        lines = [one_line(group.answer(rank)) for rank in (0, 2)]
        assert time.monotonic() - began < 150  # of the 600 that a rank would wait
    assert all("--resume" in line for line in lines), lines
    # a survivor that hears of it late may miss the other one too, which has left by then
    assert any(" 1" in line.split(" of 3")[0] for line in lines), lines


def test_a_lost_rank_0_is_named_though_it_keeps_the_processes_together():
    with ranks(2) as group:
        group.send(rounds)
        time.sleep(1.5)
        group.processes[0].kill()
        assert "rank 0 of 2" in one_line(group.answer(1))


@pytest.mark.slow
@pytest.mark.parametrize("stuck", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_rank_that_is_stuck_is_not_waited_for_longer_than_the_timeout(stuck):
    with ranks(2, timeout_s=2.0) as group:
        group.call(small)
        os.kill(group.processes[stuck].pid, signal.SIGSTOP)
        group.send(rounds)
        began = time.monotonic()
        line = one_line(group.answer(1 - stuck))
        assert time.monotonic() - began < 20
        group.processes[stuck].kill()
    assert f"rank {stuck} of 2" in line


def failing(ranks: World) -> None:
    if ranks.rank == 1:
        raise OSError("No space left on device\nmore")  # not an error that the server of calls sends back
    ranks.barrier()


def test_a_rank_that_ends_with_an_error_tells_the_others_why():
    with ranks(2) as group:
        group.send(failing)
        assert "rank 1 of 2 stopped (No space left on device)" in one_line(group.answer(0))


def called_away(ranks: World) -> tuple[float, str]:
    """How long a rank that was asked to end waits for one that does not come."""
    if ranks.rank == 1:
        time.sleep(4)
        return 0.0, ""
    module.AFTER_STOP_S, ranks.stop, began = 0.5, lambda: True, time.monotonic()
    with pytest.raises(CalledAway):
        ranks.total(torch.ones(1))
    waited = time.monotonic() - began
    ranks.close()
    return waited, "left"


@pytest.mark.slow
def test_a_rank_that_is_asked_to_end_does_not_wait_for_one_that_is_stuck():
    with ranks(2) as group:
        group.send(called_away)
        waited, text = group.answer(0)
        assert text == "left"
        assert 0.5 <= waited < 3
