"""The history gives the latents around a chunk, and the picture at rest before the first."""

import numpy as np
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_service.identity_cache import Identity
from mirrorme_service.latent_history import LatentHistory, MadeChunk

STILL = Identity(pb.PortraitInfo(portrait_id="one"), np.full((1, 1, 1), 7, np.float32))
OTHER = Identity(pb.PortraitInfo(portrait_id="other"), np.full((1, 1, 1), 8, np.float32))


def history(*chunks: tuple[int, tuple[float, ...]], identity: Identity = STILL) -> LatentHistory:
    result = LatentHistory()
    for chunk, values in chunks:
        result.append(made(chunk, values, identity))
    return result


def made(chunk: int, values: tuple[float, ...], identity: Identity = STILL) -> MadeChunk:
    return MadeChunk(chunk, identity, np.array(values, np.float32).reshape(-1, 1, 1, 1))


def flat(latents: np.ndarray) -> list[float]:
    assert latents.dtype == np.float32
    return latents.ravel().tolist()


def test_picture_at_rest_before_the_start() -> None:
    assert flat(history().before(0, STILL, 2)) == [7, 7]
    assert flat(history((0, (0,))).before(1, STILL, 3)) == [7, 7, 0]
    assert flat(history().before(0, STILL, 0)) == []


def test_around_a_chunk() -> None:
    around = history((0, (0, 1)), (1, (2, 3)), (2, (4, 5)))
    assert flat(around.before(2, STILL, 3)) == [1, 2, 3]
    assert flat(around.of_chunk(1)) == [2, 3]
    assert flat(around.after(0, 3)) == [2, 3, 4]
    assert flat(around.after(2, 1)) == [5], "held where nothing follows"


def test_chunks_that_were_left_out_are_passed() -> None:
    assert flat(history((0, (0,)), (5, (1,))).before(9, STILL, 2)) == [0, 1]


def test_one_portrait_does_not_move_on_from_another() -> None:
    changed = history((0, (0,)), (1, (1,)))
    changed.append(made(2, (2,), OTHER))
    assert flat(changed.before(2, OTHER, 2)) == [8, 8]
    assert flat(changed.before(3, OTHER, 2)) == [8, 2]
    assert flat(changed.after(1, 2)) == [1, 1]


def test_made_again_after_going_back() -> None:
    again = history((0, (0,)), (1, (1,)), (2, (2,)))
    again.drop_from(1)
    again.append(made(1, (9,)))
    assert flat(again.before(2, STILL, 2)) == [0, 9]


def test_only_what_later_chunks_need_is_kept() -> None:
    long = history(*((chunk, (chunk,)) for chunk in range(20)))
    long.forget_before(10, 3)
    assert flat(long.before(10, STILL, 3)) == [7, 8, 9]
    assert flat(long.before(10, STILL, 4)) == [7, 7, 8, 9], "the rest is gone"
