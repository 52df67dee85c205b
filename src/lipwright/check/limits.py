"""The limits of every comparison: their one place.

Values are those of the network's output, 0..1; 1/255 is one level of an 8-bit picture.
"""

from __future__ import annotations

from dataclasses import dataclass

from lipwright.runtimes import Precision

LEVEL = 1 / 255
#: A pixel further off than this in any colour counts as off.
PIXEL_OFF = 2 * LEVEL
#: Of both frames that are compared so many must show a face to the landmark finder, else nothing is said of the lips.
FACES_LOST = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """What a comparison may not exceed; None: not limited."""

    name: str
    """What they are called in a report."""
    max_abs: float | None = None
    """Largest difference of any value."""
    mean_abs: float | None = None
    """Mean difference."""
    p999_abs: float | None = None
    """99.9th percentile of the differences."""
    lip_gap_r: float | None = None
    """Least correlation of the lip gaps, frame by frame."""


F32 = Limits("f32", max_abs=1e-4)
REDUCED = Limits("reduced precision", mean_abs=0.5 * LEVEL, p999_abs=4 * LEVEL, lip_gap_r=0.995)
#: Both paths paste as the family does: they round alike but for a level or two.
FAST_EXACT = Limits("fast path, exact border", max_abs=2 * LEVEL)
#: The fast path changes a film's own colours, which are stored at half resolution; the plain one works on BGR. At the
#: red edge of a lip single pixels may be off, the picture may not.
FAST_SOFT = Limits("fast path, soft border", mean_abs=0.5 * LEVEL, p999_abs=4 * LEVEL, lip_gap_r=0.995)


def limits_of(precision: Precision) -> Limits:
    """What a runtime in this precision may differ from f32 in onnxruntime."""
    return F32 if precision == "f32" else REDUCED


# --- the checklist --------------------------------------------------------------------------------------------------

#: A sigmoid cannot leave 0..1; this much is rounding.
RANGE_SLACK = 1e-3
#: Turning round the colours, or swapping the halves of the input, may not bring a picture this much nearer (as a share
#: of its distance) to the person in the template.
SWAP_NEARER = 0.7
#: Skin is redder than blue in every light that people film in; blue this many times red is not skin.
BLUE_SKIN = 1.1
#: The same frame drawn to two different sounds differs at least by this much somewhere (half a level).
HEARS = 0.5 * LEVEL
#: Frames drawn in a batch and one by one: the library may choose other kernels, but the picture is the same.
BATCH_APART = 2 * LEVEL
#: Largest step of a rect from one frame to the next as a share of its side: heads move less in 40 ms.
RECT_STEP = 0.15
#: A rect smaller than this holds less detail than the network draws.
SMALL_RECT = 160
