"""The numbers of the UNet-328 contract. Each has its one home here.

Time: the video runs at 25 frames a second and the networks hear 16 kHz mono, so one frame owns exactly 640 samples.
Space: a rect of the template frame becomes a 328 x 328 crop; the crop without its 4-pixel border is the 320 x 320 ROI.
Colour: BGR everywhere, uint8 0..255 outside the networks and float32 0..1 inside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lipwright.errors import ContractError

# --- time -----------------------------------------------------------------------------------------------------------
FPS = 25
SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS

# --- space ----------------------------------------------------------------------------------------------------------
CROP_SIZE = 328
BORDER = 4
ROI_SIZE = CROP_SIZE - 2 * BORDER
#: Mask rectangle inside the ROI: x, y, width, height as handed to ``cv2.rectangle`` (columns 5..314, rows 5..309).
MASK_XYWH = (5, 5, 310, 305)
#: ``soft``: the border of the redrawn region is blended into the frame; ``exact``: pasted as the family does it.
Border = Literal["soft", "exact"]
#: Which of an avatar's generators draws: the one of full quality, or a narrower, faster one.
Quality = Literal["full", "fast"]
#: The avatars that come with lipwright, by name: people who do not exist.
BuiltIn = Literal["presenter", "mira"]

# --- mel spectrogram of the family ----------------------------------------------------------------------------------
N_FFT = 800
HOP_LENGTH = 200
N_MELS = 80
MEL_FMIN = 55.0
MEL_FMAX = 7600.0
PREEMPHASIS = 0.97
#: Mel columns one feature reads, and mel columns a video frame lasts (80 columns a second at 25 fps).
MEL_WINDOW = 16
MEL_PER_FRAME = SAMPLE_RATE / HOP_LENGTH / FPS

# --- features and their window --------------------------------------------------------------------------------------
FEATURE_DIM = 512
WINDOW_PAST = 8
WINDOW_FUTURE = 7
WINDOW_SIZE = WINDOW_PAST + 1 + WINDOW_FUTURE
AUDIO_SHAPE = (32, 16, 16)
FRAME_MS = 1000 / FPS

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


def frame_count(samples: int) -> int:
    """Video frames that ``samples`` samples at 16 kHz last: ceil(samples / 640)."""
    return -(-samples // SAMPLES_PER_FRAME)


@dataclass(frozen=True, slots=True)
class Alignment:
    """Which 16 mel columns the feature of frame i reads: ``start(i)`` .. ``start(i) + 15``."""

    name: str
    """``centred`` (ours) or ``ave`` (the family's encoder)."""
    offset_fifths: int
    """Added to 16 i before the division by 5 (a frame lasts 16/5 mel columns), so the arithmetic stays in integers."""
    first_column: int
    """Added after the division."""
    repeat: int
    """How many times the first feature is repeated in front: frame i hears raw feature i - repeat."""
    extend: bool
    """True: the sound is extended by zeros at both ends. False: the slice is moved back inside the sound."""

    def start(self, frame: int) -> int:
        """First mel column of the feature of ``frame``; may be negative where the sound is extended."""
        raw = max(frame - self.repeat, 0)
        return (16 * raw + self.offset_fifths) // 5 + self.first_column

    @property
    def lookahead_ms(self) -> float:
        """From the start of a frame to the last sample its own feature reads, at most, in milliseconds."""
        columns = max(self.start(i) + MEL_WINDOW - 1 - MEL_PER_FRAME * i for i in range(self.repeat, self.repeat + 5))
        return (columns * HOP_LENGTH + N_FFT // 2) * 1000 / SAMPLE_RATE


#: Centred on the frame: columns floor(3.2 i + 1.6) - 8 .. + 7.
CENTRED = Alignment("centred", offset_fifths=8, first_column=-8, repeat=0, extend=True)
#: SyncTalk_2D's AVE encoder: raw feature j reads int(3.2 j) .. + 15, the first is repeated once.
AVE = Alignment("ave", offset_fifths=0, first_column=0, repeat=1, extend=False)


def lookahead_ms(future: int = WINDOW_FUTURE, alignment: Alignment = CENTRED) -> float:
    """Sound needed from the start of a frame before it can be drawn, when ``future`` (0..7) features are known.

    Raises:
        ContractError: ``future`` is outside 0..7.
    """
    if not 0 <= future <= WINDOW_FUTURE:
        raise ContractError(f"look-ahead must be 0..{WINDOW_FUTURE} future features, not {future}")
    return alignment.lookahead_ms + FRAME_MS * future


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, shape and dtype of one network input or output; -1 stands for a free dimension (the batch)."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether ``shape`` fits: same rank, and equal wherever this spec is not free."""
        return len(shape) == len(self.shape) and all(w in (-1, g) for w, g in zip(self.shape, shape, strict=True))

    def check(self, array: npt.NDArray[np.generic]) -> None:
        """Raise ContractError unless ``array`` has this shape and dtype."""
        if not self.accepts(array.shape) or array.dtype != np.dtype(self.dtype):
            raise ContractError(
                f"{self.name}: expected {self.dtype} {list(self.shape)}, got {array.dtype} {list(array.shape)}"
            )


#: Generator: reference ROI (channels 0-2) and masked ROI (3-5), BGR, 0..1.
INPUT = TensorSpec("input", (-1, 6, ROI_SIZE, ROI_SIZE))
#: The same outside the networks: reference and masked ROI are made of it. BGR.
ROI = TensorSpec("roi", (-1, ROI_SIZE, ROI_SIZE, 3), "uint8")
#: Generator: 16 features x 512 reshaped row-major.
AUDIO = TensorSpec("audio", (-1, *AUDIO_SHAPE))
#: Generator: the new ROI, BGR, 0..1.
OUTPUT = TensorSpec("output", (-1, 3, ROI_SIZE, ROI_SIZE))
#: Audio encoder: mel columns around a frame.
MEL = TensorSpec("mel", (-1, 1, N_MELS, MEL_WINDOW))
#: Audio encoder: one feature a mel slice.
FEATURE = TensorSpec("feature", (-1, FEATURE_DIM))


@dataclass(frozen=True, slots=True)
class Rect:
    """Where the face crop lies in a template frame: pixels, x2 and y2 exclusive."""

    x1: int
    y1: int
    x2: int
    y2: int

    @property
    def width(self) -> int:
        return self.x2 - self.x1

    @property
    def height(self) -> int:
        return self.y2 - self.y1

    @property
    def usable(self) -> bool:
        """False for (-1, -1, -1, -1): the frame has no usable face and is shown as it is."""
        return self.x1 >= 0

    def inside(self, height: int, width: int) -> bool:
        """Whether the rect is not empty and lies within a picture of this size."""
        return 0 <= self.x1 < self.x2 <= width and 0 <= self.y1 < self.y2 <= height


NO_RECT = Rect(-1, -1, -1, -1)
