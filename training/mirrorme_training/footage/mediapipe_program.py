"""MediaPipe behind a pipe. Runs in an interpreter of its own, where nothing of ours is installed.

Protocol, little-endian. In: one byte (`r` restart, `f` faces, `l` landmarks), and for pictures
height and width as uint32 and the RGB bytes. Out: a uint32 count and as many float32: nothing for
`r`; five for each face (left, top, width, height, score) for `f`; for `l` 478 × 3 face points,
2 × 21 × 2 hand points (left, right, the person's own) and 52 blendshapes, NaN where not found.

Usage: python mediapipe_program.py [face_landmarker.task]
"""

from __future__ import annotations

import os
import struct
import sys
from typing import Any, BinaryIO

import mediapipe as mp  # pyright: ignore[reportMissingImports]
import numpy as np
from numpy.typing import NDArray

NUM_FACE_POINTS, NUM_HAND_POINTS, NUM_BLENDSHAPES = 478, 21, 52
_MIN_FACE_SCORE = 0.5
_FRAME_MS = 42


class Detectors:
    """Owns MediaPipe's graphs."""

    def __init__(self, face_model: str | None) -> None:
        solutions = mp.solutions  # pyright: ignore[reportAttributeAccessIssue]
        self._solutions = solutions
        self._detection = solutions.face_detection.FaceDetection(
            model_selection=1, min_detection_confidence=_MIN_FACE_SCORE
        )
        self._near_detection = solutions.face_detection.FaceDetection(
            model_selection=0, min_detection_confidence=_MIN_FACE_SCORE
        )
        self._face_model = face_model
        self._mesh: Any = None
        self._hands: Any = None
        self._time_ms = 0

    def restart(self) -> None:
        """Forgets the frames before."""
        for graph in (self._mesh, self._hands):
            if graph is not None:
                graph.close()
        self._mesh = self._hands = None

    def faces(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """All faces: the detector for far ones, and that for near ones where it sees none."""
        found = self._detection.process(picture).detections
        if not found:
            found = self._near_detection.process(picture).detections
        rows = []
        for face in found or []:
            box = face.location_data.relative_bounding_box
            rows.append([box.xmin, box.ymin, box.width, box.height, face.score[0]])
        return np.array(rows, np.float32).reshape(-1)

    def landmarks(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Of the next frame."""
        if self._mesh is None:
            self._mesh = self._make_mesh()
            self._hands = self._solutions.hands.Hands(
                max_num_hands=2, min_detection_confidence=0.5, min_tracking_confidence=0.5
            )
        face, shapes = self._face(picture)
        return np.concatenate([face.reshape(-1), self._both_hands(picture).reshape(-1), shapes])

    def _make_mesh(self) -> Any:
        if self._face_model is None:
            return self._solutions.face_mesh.FaceMesh(max_num_faces=1, refine_landmarks=True)
        from mediapipe.tasks.python import (  # pyright: ignore[reportMissingImports]
            BaseOptions,
            vision,
        )

        return vision.FaceLandmarker.create_from_options(
            vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_path=self._face_model),
                running_mode=vision.RunningMode.VIDEO,
                output_face_blendshapes=True,
                num_faces=1,
            )
        )

    def _face(self, picture: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        face = np.full((NUM_FACE_POINTS, 3), np.nan, np.float32)
        shapes = np.full(NUM_BLENDSHAPES, np.nan, np.float32)
        if self._face_model is None:
            found = self._mesh.process(picture).multi_face_landmarks
            points = found[0].landmark if found else None
        else:
            self._time_ms += _FRAME_MS
            image = mp.Image(image_format=mp.ImageFormat.SRGB, data=picture)
            result = self._mesh.detect_for_video(image, self._time_ms)
            points = result.face_landmarks[0] if result.face_landmarks else None
            if result.face_blendshapes:
                shapes[:] = [category.score for category in result.face_blendshapes[0]]
        if points is not None:
            face[:] = [(point.x, point.y, point.z) for point in points]
        return face, shapes

    def _both_hands(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        hands = np.full((2, NUM_HAND_POINTS, 2), np.nan, np.float32)
        found = self._hands.process(picture)
        if not found.multi_hand_landmarks:
            return hands
        sides = [side.classification[0] for side in found.multi_handedness]
        # MediaPipe names sides as in a mirror: its "Right" is the person's left.
        order = sorted(range(len(sides)), key=lambda i: -sides[i].score)
        for i in order[:2]:
            side = 0 if sides[i].label == "Right" else 1
            if np.isfinite(hands[side, 0, 0]):
                side = 1 - side
            hands[side] = [(p.x, p.y) for p in found.multi_hand_landmarks[i].landmark]
        return hands


def serve(detectors: Detectors, source: BinaryIO, sink: BinaryIO) -> None:
    """Answers until the source ends."""
    while operation := source.read(1):
        if operation == b"r":
            detectors.restart()
            answer = np.zeros(0, np.float32)
        else:
            height, width = struct.unpack("<II", source.read(8))
            pixels = np.frombuffer(source.read(height * width * 3), np.uint8)
            picture = pixels.reshape(height, width, 3)
            answer = detectors.faces(picture) if operation == b"f" else detectors.landmarks(picture)
        sink.write(struct.pack("<I", len(answer)) + answer.astype("<f4").tobytes())
        sink.flush()


def main() -> None:
    """Keeps the pipe for itself: what libraries print goes to standard error."""
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(Detectors(sys.argv[1] if len(sys.argv) > 1 else None), sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
