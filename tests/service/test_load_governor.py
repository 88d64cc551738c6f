"""What is given up under load, and when it is taken back. Numbers alone."""

import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_service.load_governor import LoadGovernor

NONE = pb.DEGRADATION_LEVEL_NONE
FEWER_STEPS = pb.DEGRADATION_LEVEL_FEWER_STEPS
LOWER_RATE = pb.DEGRADATION_LEVEL_LOWER_RATE
CHUNK_S = 1 / 3


def governor(*, has_cheaper: bool = True) -> LoadGovernor:
    return LoadGovernor(CHUNK_S, 0.1, has_cheaper=has_cheaper)


def test_chunks_are_begun_earlier_the_longer_they_take() -> None:
    load = governor()
    before_s = load.lead_s
    for _ in range(60):
        load.made(0.2, early_s=0.01)
    assert load.lead_s > before_s
    for _ in range(60):
        load.made(5.0, early_s=0.01)
    assert load.lead_s == pytest.approx(3 * CHUNK_S), "not without bound"


def test_a_chunk_that_waits_for_its_audio_is_begun_in_time() -> None:
    load = governor()
    for _ in range(60):
        load.made(0.2, early_s=0.05)
    assert 0.2 <= load.shortest_lead_s < load.lead_s


def test_one_slow_chunk_changes_little() -> None:
    load = governor()
    for _ in range(20):
        load.made(0.1, early_s=0.05)
    load.made(3.0, early_s=-2.0)
    assert load.level == NONE
    assert load.lead_s < 0.2


def test_late_chunks_cost_steps_and_left_out_ones_frames() -> None:
    load = governor()
    for _ in range(3):
        load.made(0.4, early_s=-0.01)
    assert load.level == FEWER_STEPS
    load.left_out()
    assert load.level == LOWER_RATE


def test_without_a_cheaper_denoiser_only_frames_can_be_given_up() -> None:
    load = governor(has_cheaper=False)
    for _ in range(10):
        load.made(0.4, early_s=-0.01)
    assert load.level == NONE
    load.left_out()
    assert load.level == LOWER_RATE


def num_calm_chunks(load: LoadGovernor) -> int:
    level, number = load.level, 0
    while load.level == level:
        load.made(0.1, early_s=0.1)
        number += 1
    return number


def test_what_was_given_up_comes_back_step_by_step_and_later_each_time() -> None:
    load = governor()
    load.left_out()
    load.left_out()
    assert load.level == LOWER_RATE
    first = num_calm_chunks(load)
    assert load.level == FEWER_STEPS
    num_calm_chunks(load)
    assert load.level == NONE
    load.left_out()
    assert num_calm_chunks(load) > first
