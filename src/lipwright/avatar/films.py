"""Templates of foreign packages: pictures or a film in, a film whose k-th picture stands at k / 25 s out.

Rects and features of those packages belong to the k-th picture of a film, whatever its clock says, because their
writers count pictures. Ours go by the clock, so a film that disagrees with its own clock is encoded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from statistics import median

import av
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from lipwright.avatar.checks import wrong_rate
from lipwright.avatar.layouts import list_images, read_images
from lipwright.avatar.manifest import Sizes
from lipwright.contract import FPS, UInt8Array
from lipwright.libav import Damage, decoded, open_input, seconds, time_origin
from lipwright.picture import EXACT_COLOUR
from lipwright.video import Orientation, ToPicture, VideoReader, picture_stream

#: x264 quality of a template encoded here: no difference to be seen.
TEMPLATE_CRF = 10
#: A picture further from its place than this could be taken for its neighbour.
CLOCK_TOLERANCE = Fraction(1, 4 * FPS)
#: Time stamps of 25 fps films are rounded by some containers, to 1/1000 s as a rule.
STEP_TOLERANCE = Fraction(1, 500)


@dataclass(frozen=True, slots=True)
class Template:
    """A film ready to be put into a package."""

    film: Path
    """The foreign film itself, or one made of it."""
    sizes: Sizes
    """Of the film."""
    notes: list[str]
    """What was assumed or changed, in sentences."""


def read_template(found: Path, made: Path) -> Template:
    """Turn a foreign template into a film that can be used.

    Args:
        found: a film, or a folder of numbered pictures.
        made: where a film is written if one has to be made.

    Raises:
        AvatarError: pictures are missing or damaged, or a film does not run at 25 fps.
        MediaError: a film cannot be read.
    """
    if found.is_dir():
        images, note = list_images(found)
        return Template(made, encode(read_images(images), made), [f"{found.name}: {note}"])
    times = _shown_times(found)
    _check_rate(found, times)
    late = [k for k, time in enumerate(times) if abs(time - Fraction(k, FPS)) > CLOCK_TOLERANCE]
    if not late:
        with VideoReader(found) as film:
            return Template(found, Sizes(width=film.width, height=film.height, frames=len(times)), [])
    first = late[0]
    note = (
        f"{found.name}: picture {first} stands at {float(times[first]):.3f} s instead of {first / FPS:.3f} s; "
        "its pictures were counted, not timed, and the film is encoded again"
    )
    return Template(made, encode(_pictures_in_order(found), made), [note])


def encode(pictures: Iterable[UInt8Array], out: Path, crf: int = TEMPLATE_CRF) -> Sizes:
    """Make a silent 25 fps H.264 film, visually lossless by default, of pictures of one size.

    Odd sizes stay odd: 4:4:4. ``crf`` is x264's: 0 lossless, 18 hardly seen, 51 worst.

    ``VideoWriter`` is no use here: it always writes a sound track, and silence would pass for the person's speech.
    """
    with av.open(str(out), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": str(crf)})
        return write_pictures(container, stream, pictures)


def write_pictures(container: OutputContainer, stream: VideoStream, pictures: Iterable[UInt8Array]) -> Sizes:
    """Encode pictures [H, W, 3] BGR, at least one, into a new stream to its end, in exact BT.709 colour.

    Odd sizes stay odd: 4:4:4.
    """
    frames = iter(pictures)
    first = next(frames)
    height, width = first.shape[:2]
    to_yuv = VideoReformatter()
    stream.width, stream.height = width, height
    stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
    stream.codec_context.colorspace, stream.codec_context.color_range = Colorspace.ITU709, ColorRange.MPEG
    count = 0
    for image in chain([first], frames):
        frame = to_yuv.reformat(
            av.VideoFrame.from_ndarray(image, format="bgr24"),
            format=stream.pix_fmt,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=EXACT_COLOUR,
        )
        container.mux(stream.encode(frame))
        count += 1
    container.mux(stream.encode())
    return Sizes(width=width, height=height, frames=count)


def _shown_times(film: Path) -> list[Fraction]:
    """When each picture that can be decoded is shown, in seconds from the beginning of the film."""
    with open_input(film) as container:
        stream = picture_stream(container, film)
        origin = time_origin(container)
        frames = decoded(container, stream, Damage(film))
        return [(seconds(frame.pts, frame.time_base) or Fraction(0)) - origin for frame in frames]


def _check_rate(film: Path, times: list[Fraction]) -> None:
    """Refuse a film most of whose pictures do not last 1/25 s; its average rate would be misled by a single gap."""
    steps = [later - earlier for earlier, later in pairwise(times)]
    usual = median(steps) if steps else Fraction(1, FPS)
    if abs(usual - Fraction(1, FPS)) > STEP_TOLERANCE:
        raise wrong_rate(film, 1 / usual if usual > 0 else Fraction(0))


def _pictures_in_order(film: Path) -> Iterator[UInt8Array]:
    """All pictures of a film, [H, W, 3] BGR, upright, each once."""
    with open_input(film) as container:
        to_picture: ToPicture | None = None
        for frame in decoded(container, picture_stream(container, film), Damage(film)):
            to_picture = to_picture or ToPicture((frame.width, frame.height), Orientation.of(frame))
            yield to_picture(frame)
