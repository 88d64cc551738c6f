"""Whether the person stays the same: the VAE, the identity, and ten minutes of one stream."""

from __future__ import annotations

import numpy as np
import torch
from mirrorme_engines.engine import EngineSet
from mirrorme_engines.engine_options import EngineOptions
from mirrorme_engines.open_engines import open_engines
from mirrorme_model.avatar import AvatarModel
from mirrorme_training.clip_casting import to_pixels
from mirrorme_training.evaluation.fitting_poses import silent_pose
from mirrorme_training.evaluation.likeness import (
    head_distances,
    moved_psnr_db,
    psnr_db,
    still_psnr_db,
    without_mouth,
)
from mirrorme_training.evaluation.unseen import READERS, person, recite
from mirrorme_training.portrait_pose import HEAD_CONTROLS, rest_pose, with_controls
from mirrorme_training.portrait_renderer import RenderedFrames, render
from numpy.typing import NDArray

from evaluation.row import Row
from evaluation.studio import Direction, Frames, Studio, encode, noise_like, people

_PORTRAITS = "portraits, PSNR dB"
_CLIP_FRAMES = 41
_SHORT_FRAMES = 24
_SETTLED = slice(8, None, 5)
"""Frames of short sessions that PSNR is taken of."""


async def measure_reconstruction(studio: Studio) -> list[Row]:
    """The VAE alone, through the exported engines as far as they go."""
    if studio.model is None:
        return [Row("reconstruction", _PORTRAITS, "left out", None, note="see --checkpoint")]
    engines = await open_engines(studio.engines, EngineOptions())
    try:
        return await _reconstruction(studio, engines, studio.model)
    finally:
        await engines.close()


async def _reconstruction(studio: Studio, engines: EngineSet, model: AvatarModel) -> list[Row]:
    seeds = people(studio.scale.reconstructed)
    stills = []
    for seed in seeds:
        picture = studio.portrait(seed)
        encoded = await engines.identity_encoder.infer({"image": picture[None]})
        latents = torch.from_numpy(encoded["identity"])[:, :, None].float()
        with torch.no_grad():
            decoded = to_pixels(model.vae.decode(latents))[0, 0].numpy()
        stills.append((picture, decoded))
    still_db = float(np.mean([psnr_db(made, truth) for truth, made in stills]))
    other_db = float(
        np.mean([psnr_db(made, stills[i - 1][0]) for i, (_, made) in enumerate(stills)])
    )
    studio.pictures.strips(
        "reconstruction", "portraits: above, as drawn; below, through the VAE",
        [np.stack([truth for truth, _ in stills]), np.stack([made for _, made in stills])],
    )  # fmt: skip
    clips = [await _clip_psnr_db(studio, engines, model, seed) for seed in seeds[:4]]
    return [
        Row(
            "reconstruction", _PORTRAITS,
            "PSNR of the whole picture; encoded by the identity_encoder engine, decoded as a "
            "first frame by the same weights in torch (the decoder engine makes later frames only)",
            still_db, control=other_db, control_is="another portrait", at_least=30, unit="dB",
        ),
        Row(
            "reconstruction", "talking clips, PSNR dB",
            "the same of clips that talk; encoded in torch (no engine encodes clips), decoded by "
            "the decoder engine", float(np.mean(clips)), unit="dB",
        ),
    ]  # fmt: skip


async def _clip_psnr_db(studio: Studio, engines: EngineSet, model: AvatarModel, seed: int) -> float:
    pose = recite(READERS[seed % len(READERS)]).act(seed)[:_CLIP_FRAMES]
    shown = render(person(seed), pose, studio.size_px)
    with torch.no_grad():
        latents = encode(model, shown)[0].transpose(0, 1).numpy()
    context = engines.manifest.chunk.decoder_context_latents
    ahead = engines.manifest.chunk.decoder_lookahead_latents
    step = engines.manifest.chunk.num_latents
    made = []
    for start in range(1, len(latents) - step - ahead + 1, step):
        wanted = np.arange(start - context, start + step + ahead).clip(0)
        decoded = await engines.decoder.infer({"latents": latents[wanted][None]})
        made.append(decoded["frames"][0])
    joined = np.concatenate(made).astype(np.uint8)
    return psnr_db(joined, shown.frames[1 : 1 + len(joined)].numpy())


async def measure_identity(studio: Studio) -> list[Row]:
    """Frames of many people against their portraits."""
    seeds = people(studio.scale.portraits)
    used = seeds[: studio.scale.recognised]
    studio.say(f"draw {len(seeds)} portraits")
    rests = [render(person(seed), rest_pose(1), studio.size_px) for seed in seeds]
    boxes = [rest.face_box_px[0].double().numpy() for rest in rests]
    portraits = [rest.frames[0].numpy() for rest in rests]
    studio.say(f"stream a second of {len(used)} people")
    samples = recite(READERS[0]).samples[8000 : 8000 + _SHORT_FRAMES * 16000 // 24]
    free_db: list[tuple[float, float, float]] = []
    held_db: list[tuple[float, float]] = []
    right: list[tuple[float, float, float]] = []
    can_hold = set(HEAD_CONTROLS) <= set(studio.controls)
    still = [Direction(0, dict.fromkeys(HEAD_CONTROLS, 0.0))]
    for index, seed in enumerate(used):
        made = await studio.stream(seed, samples)
        acted = _acted(studio, seed)
        counted = without_mouth(rests[index].mouth_mask[0].numpy())
        other = portraits[index - 1]
        free_db.append(
            (
                moved_psnr_db(made[_SETTLED], portraits[index], counted),
                moved_psnr_db(acted.frames.numpy(), portraits[index], counted),
                moved_psnr_db(made[_SETTLED], other, counted),
            )
        )
        if can_hold and index % 8 == 0:
            held = await studio.stream(seed, samples, directions=still)
            calm = _acted(studio, seed, head=0.0)
            held_db.append(
                (
                    still_psnr_db(held[_SETTLED], portraits[index], counted),
                    still_psnr_db(calm.frames.numpy(), portraits[index], counted),
                )
            )
        if index < 4:
            strip = np.concatenate([portraits[index][None], made])
            studio.pictures.strips(f"identity-{index}", f"person {seed}: portrait first", [strip])
        right.append(
            tuple(  # type: ignore[arg-type]
                _recognised(frames, index, portraits, boxes)
                for frames in (made[_SETTLED], acted.frames.numpy(), noise_like(made[:4]))
            )
        )
    made_db, truth_db, other_db = (float(np.mean(values)) for values in zip(*free_db, strict=True))
    made_held, truth_held = (
        (float(np.mean(values)) for values in zip(*held_db, strict=True))
        if held_db
        else (None, None)
    )
    made_right, truth_right, noise_right = (
        float(np.mean(values)) for values in zip(*right, strict=True)
    )
    return [
        Row(
            "identity", "PSNR outside the mouth, movement removed, dB",
            "blocks of 16 by 16 pixels against the portrait, each shifted by up to 6 pixels to "
            "where it fits best; a box around mouth and chin is left out, no hands are shown; "
            f"{len(used)} people", made_db, truth_db, control=other_db,
            control_is="another portrait", at_least=24, unit="dB",
        ),
        Row(
            "identity", "PSNR outside the mouth, head held by controls, dB",
            "the same pixels in place, head_yaw, head_pitch and head_roll given as 0; trunk, "
            f"breath, eyes and brows still move; {len(held_db)} people", made_held, truth_held,
            unit="dB",
        ),
        Row(
            "identity", f"recognised among {len(seeds)}",
            "share of frames whose head (16 by 16 fields of mean colour, where the portrait has "
            "its head or 6 pixels beside) is nearest to the right one of the portraits",
            made_right, truth_right, control=noise_right, control_is="white noise", at_least=0.99,
        ),
    ]  # fmt: skip


def _acted(studio: Studio, seed: int, head: float | None = None) -> RenderedFrames:
    pose = silent_pose(seed, _SHORT_FRAMES)
    if head is not None:
        pose = with_controls(pose, **dict.fromkeys(HEAD_CONTROLS, head))
    return render(person(seed), pose[_SETTLED], studio.size_px)


def _recognised(
    frames: Frames, index: int, portraits: list[Frames], boxes: list[NDArray[np.float64]]
) -> float:
    """Share of frames whose head is most like that of the portrait of this index."""
    distances = [
        head_distances(frames, known, box) for known, box in zip(portraits, boxes, strict=True)
    ]
    return float((np.argmin(distances, axis=0) == index).mean())


async def measure_drift(studio: Studio) -> list[Row]:
    """One long stream: its end against its beginning."""
    length_s, part_s = studio.scale.drift_s, studio.scale.drift_part_s
    seed = people(1)[0]
    studio.say(f"stream {length_s} s")
    speech = recite(READERS[0]).samples
    samples = np.resize(speech, length_s * 16000)
    every = 12
    made = await studio.stream(seed, samples, every=every)
    rest = render(person(seed), rest_pose(1), studio.size_px)
    counted = without_mouth(rest.mouth_mask[0].numpy())
    picture = rest.frames[0].numpy()
    count = part_s * 24 // every
    first = moved_psnr_db(made[:count], picture, counted)
    last = moved_psnr_db(made[-count:], picture, counted)
    faded = (0.97 * made[-count:]).astype(np.uint8)
    studio.pictures.strips("drift", f"{length_s} s of one stream", [made])
    idling = silent_pose(seed, length_s * 24)[::every]
    truths = [
        moved_psnr_db(render(person(seed), part, studio.size_px).frames.numpy(), picture, counted)
        for part in (idling[:count], idling[-count:])
    ]
    return [
        Row(
            "drift", "loss over the stream, dB",
            f"identity's PSNR (movement removed) of the first {part_s} s less that of the last "
            f"{part_s} s of {length_s} s in one stream, two frames a second; truth: "
            "renderings of somebody silent for as long", first - last, truths[0] - truths[1],
            control=first - moved_psnr_db(faded, picture, counted), control_is="3 % darker",
            at_most=0.5, unit="dB", note=f"first {first:.1f} dB, last {last:.1f} dB",
        )
    ]  # fmt: skip
