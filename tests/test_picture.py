"""Pictures in the colours they were filmed in: reading a piece, changing a rect, going into a film."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest

from lipwright.avatar import builtin_avatar
from lipwright.contract import Rect, UInt8Array
from lipwright.errors import ContractError
from lipwright.picture import BgrPicture, Frame, Picture, YuvPicture, of_frame
from lipwright.quality import psnr
from lipwright.render import Template
from lipwright.video import VideoReader, VideoWriter

HEIGHT, WIDTH = 90, 120


def scene() -> UInt8Array:
    """Soft colours, as a camera sees them: [90, 120, 3] BGR."""
    rough = np.random.default_rng(5).integers(20, 235, (6, 8, 3), np.uint8)
    return np.asarray(cv2.resize(rough, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)


def yuv_picture() -> YuvPicture:
    return YuvPicture(BgrPicture(scene()).yuv)


@pytest.fixture(params=["bgr", "yuv"])
def picture(request: pytest.FixtureRequest) -> Picture:
    return BgrPicture(scene()) if request.param == "bgr" else yuv_picture()


def soft_change(rect: Rect, levels: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """Nothing at the rect's border, ``levels`` BGR in its middle."""
    window = np.outer(np.hanning(rect.height), np.hanning(rect.width)).astype(np.float32)
    return window[..., None] * np.array(levels, np.float32)


RECTS = [
    Rect(40, 30, 80, 70),
    Rect(41, 31, 80, 69),
    Rect(0, 0, 33, 35),
    Rect(87, 51, 120, 90),
    Rect(0, 0, WIDTH, HEIGHT),
]


@pytest.mark.parametrize("rect", RECTS)
def test_a_piece_is_the_same_as_in_the_whole(picture: Picture, rect: Rect) -> None:
    np.testing.assert_array_equal(picture.piece(rect), picture.bgr[rect.y1 : rect.y2, rect.x1 : rect.x2])


def test_yuv_and_back_loses_next_to_nothing() -> None:
    assert np.abs(yuv_picture().bgr.astype(int) - scene()).mean() < 1


@pytest.mark.parametrize("rect", RECTS)
@pytest.mark.parametrize("levels", [(40, 40, 40), (30, -10, -20), (-15, 5, 45)])
def test_a_change_is_seen_in_the_rect_alone(picture: Picture, rect: Rect, levels: tuple[int, int, int]) -> None:
    before, yuv_before = picture.bgr.copy(), picture.yuv.copy()
    change = soft_change(rect, levels)
    after = picture.changed(rect, change)
    np.testing.assert_array_equal(picture.bgr, before)
    np.testing.assert_array_equal(picture.yuv, yuv_before)
    outside = np.ones((HEIGHT, WIDTH), bool)
    outside[rect.y1 : rect.y2, rect.x1 : rect.x2] = False
    np.testing.assert_array_equal(after.bgr[outside], before[outside])
    expected = before.astype(np.float32)
    expected[rect.y1 : rect.y2, rect.x1 : rect.x2] += change
    assert np.abs(after.bgr - np.clip(expected, 0, 255)).mean() < 1


@pytest.mark.parametrize("rect", RECTS[:2])
def test_colour_changes_in_its_own_two_by_two_pixels(rect: Rect) -> None:
    before = BgrPicture(np.full((HEIGHT, WIDTH, 3), 128, np.uint8)).yuv
    change = np.zeros((rect.height, rect.width, 3), np.float32)
    change[40 - rect.y1 : 42 - rect.y1, 52 - rect.x1 : 54 - rect.x1] = (60, 0, -60)
    moved = YuvPicture(before).changed(rect, change).yuv != before
    u, v = moved[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
    assert np.argwhere(u).tolist() == np.argwhere(v).tolist() == [[20, 26]]


def test_nothing_leaves_the_range() -> None:
    rect = Rect(10, 10, 50, 50)
    for picture in (BgrPicture(scene()), yuv_picture()):
        white = picture.changed(rect, np.full((40, 40, 3), 300, np.float32)).bgr[20:40, 20:40]
        assert white.min() > 190  # what wrapped around would be dark
        assert white.mean() > 250


def test_a_film_keeps_what_it_was_given(tmp_path: Path) -> None:
    shown = [yuv_picture().changed(Rect(20, 20, 80, 80), soft_change(Rect(20, 20, 80, 80), (k, k, k))) for k in (0, 30)]
    with VideoWriter(tmp_path / "film.mp4", WIDTH, HEIGHT, 16_000, 1, crf=0) as film:
        for picture in shown:
            film.write(picture, np.zeros((640, 1), np.float32))
    with av.open(str(tmp_path / "film.mp4")) as container:
        frames = list(container.decode(video=0))
    for frame, picture in zip(frames, shown, strict=True):
        stored = of_frame(frame)
        assert stored is not None
        np.testing.assert_array_equal(stored.yuv, picture.yuv)
    for seen, picture in zip(VideoReader(tmp_path / "film.mp4"), shown, strict=True):
        np.testing.assert_array_equal(seen, picture.bgr)


def enlarged(picture: Picture, width: int, height: int) -> Picture:
    """In another size, with grain like a camera's, which an enlarged picture has lost."""
    grain = np.random.default_rng(3).normal(0, 2, (height, width, 1))
    larger = cv2.resize(picture.bgr, (width, height), interpolation=cv2.INTER_CUBIC) + grain
    return BgrPicture(np.clip(np.rint(larger), 0, 255).astype(np.uint8))


@pytest.mark.parametrize(("height", "count"), [(720, 24), (1080, 10)])
def test_a_film_at_the_usual_quality_is_within_40_db(height: int, count: int, tmp_path: Path) -> None:
    """The presenter's own frames, encoded as `lipwright render` does it, in HD and in full HD."""
    with Template(builtin_avatar() / "full_body_video.mp4") as template:
        own: list[Picture] = [template.frame(k) for k in range(0, 2 * count, 2)]
    width = round(height * own[0].bgr.shape[1] / own[0].bgr.shape[0])
    shown = own if own[0].bgr.shape[0] == height else [enlarged(picture, width, height) for picture in own]
    with VideoWriter(tmp_path / "film.mp4", width, height, 16_000, 1) as film:
        for picture in shown:
            film.write(picture, np.zeros((640, 1), np.float32))
    found = [psnr(seen, picture.bgr) for seen, picture in zip(VideoReader(film.path), shown, strict=True)]
    assert min(found) >= 40


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    for picture in (yuv_picture(), BgrPicture(scene())):
        with pytest.raises(ContractError, match="expected"), VideoWriter(tmp_path / "f.mp4", 64, 64, 16_000, 1) as film:
            film.write(picture, np.zeros((640, 1), np.float32))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "spoil",
    [{"format": "yuv444p"}, {"colorspace": 5}, {"color_range": 2}, {"width": WIDTH + 1}],
    ids=["full chroma", "BT.601", "full range", "odd width"],
)
def test_other_kinds_of_frames_are_not_taken_for_ours(spoil: dict[str, str | int]) -> None:
    kind = str(spoil.get("format", "yuv420p"))
    frame = av.VideoFrame(int(spoil.get("width", WIDTH)), HEIGHT, kind)
    frame.colorspace, frame.color_range = int(spoil.get("colorspace", 1)), int(spoil.get("color_range", 1))
    assert of_frame(frame) is None
    ours = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    ours.colorspace, ours.color_range = 1, 1
    assert of_frame(ours) is not None


def test_a_frame_shows_its_picture() -> None:
    picture = yuv_picture()
    frame = Frame(3, picture, np.zeros((640, 1), np.float32))
    assert frame.image is picture.bgr
