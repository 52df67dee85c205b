"""Foreign packages of the four layouts, made for real on the disk, imported, and broken in every way."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

import avatars
from lipwright.avatar import ENCODER, ENCODER_WEIGHTS, FEATURES, GENERATOR, RECTS, WEIGHTS, Avatar, import_package
from lipwright.contract import AVE, NO_RECT
from lipwright.digest import sha256
from lipwright.errors import AvatarError, LipwrightError, MediaError
from lipwright.video import VideoReader

FRAMES = 20


def lms(frame: int) -> str:
    """110 lines "x y" as the family's detector writes them."""
    return "\n".join(f"{x:.3f} {y:.3f}" for x, y in avatars.small_landmarks(FRAMES)[frame])


def rect_list() -> list[list[int]]:
    return [[int(value) for value in row] for row in avatars.face_rects(FRAMES)]


def layout_a(root: Path) -> Path:
    avatars.write_film(root / "full_body_video.mp4", avatars.face_images(FRAMES))
    (root / "package_info.json").write_text(json.dumps({"dataset_name": "jane", "package_version": "1.0"}))
    (root / "cache").mkdir()
    rects = {str(k): {"rect": rect} for k, rect in enumerate(rect_list())}
    (root / "cache" / "crop_rectangles.json").write_text(json.dumps(rects))
    avatars.small_features(FRAMES).astype("<f4").tofile(root / "aud_ave.bin")
    (root / "landmarks").mkdir()
    for k in range(FRAMES):
        (root / "landmarks" / f"{k}.lms").write_text(lms(k))
    avatars.tiny_generator(root / "models" / "generator.onnx")
    avatars.tiny_encoder(root / "models" / "audio_encoder.onnx", names=("mel", "emb"))
    return root


def write_jpegs(folder: Path, first: int, images: list[np.ndarray[Any, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    for k, image in enumerate(images):
        cv2.imwrite(str(folder / f"frame_{k + first:06d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 98])


def layout_b(root: Path) -> Path:
    write_jpegs(root / "frames", 1, list(avatars.face_images(FRAMES)))
    (root / "crop_rects.json").write_text(json.dumps(rect_list()))
    names = ("visual_input", "audio_input", "y")
    avatars.tiny_generator(root / "checkpoint" / "model_best.onnx", names=names, swap_inputs=True, batch=1)
    return root


def layout_c(root: Path) -> Path:
    avatars.write_film(root / "full_body_video.mp4", avatars.face_images(FRAMES))
    np.save(root / "roi_bounds.npy", avatars.face_rects(FRAMES).astype(np.int64))
    np.save(root / "aud_ave.npy", avatars.small_features(FRAMES)[:-2])
    avatars.tiny_generator(root / "checkpoint" / "model_best.onnx", names=("image", "audio", "output"))
    return root


def layout_d(root: Path) -> Path:
    avatars.write_film(root / "video.mp4", avatars.face_images(FRAMES))
    np.save(root / "aud_ave.npy", avatars.small_features(FRAMES)[:-1])
    for folder in ("face_bounds", "models"):
        (root / folder).mkdir()
    for k, rect in enumerate(rect_list()):
        np.save(root / "face_bounds" / f"{k}.npy", np.asarray([*rect, 320, 240][: 4 + k % 3], np.float32))
    for epoch in (5, 40, 195):
        (root / "models" / f"{epoch}.pth").write_bytes(b"PK\x03\x04 epoch %d" % epoch)
    return root


LAYOUTS: dict[str, Callable[[Path], Path]] = {"A": layout_a, "B": layout_b, "C": layout_c, "D": layout_d}


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {letter: make(tmp_path_factory.mktemp(f"layout-{letter}")) for letter, make in LAYOUTS.items()}


@pytest.fixture
def foreign(originals: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A package of a layout that a test may break."""
    return lambda letter: Path(shutil.copytree(originals[letter], tmp_path / f"jane-{letter}"))


# --- good packages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", LAYOUTS)
def test_every_layout_becomes_the_same_avatar(originals: dict[str, Path], tmp_path: Path, letter: str) -> None:
    report = import_package(originals[letter], tmp_path / "jane.avatar")
    avatar = Avatar.open(tmp_path / "jane.avatar")
    assert report.layout == letter
    assert report.avatar.manifest == avatar.manifest
    assert report.problems == []
    assert (avatar.name, avatar.frame_count) == ("jane", FRAMES)
    np.testing.assert_array_equal(avatar.rects, avatars.face_rects(FRAMES))
    assert avatar.manifest.resize == "cubic"
    assert avatar.manifest.window.padding == "zeros"
    assert avatar.manifest.encoder.alignment.to_contract() == AVE
    assert any("padding zeros" in line for line in avatar.manifest.assumptions)
    assert report.lines()[0].startswith(f"layout {letter}: ")
    for name in avatar.manifest.files:
        assert any(line.endswith(f" as {name}") for line in report.took)


def test_layout_a_brings_everything(originals: dict[str, Path], tmp_path: Path) -> None:
    report = import_package(originals["A"], tmp_path / "jane.avatar")
    avatar = report.avatar
    assert avatar.missing() == []
    assert avatar.features is not None and avatar.landmarks is not None and avatar.encoder is not None
    np.testing.assert_array_equal(avatar.features, avatars.small_features(FRAMES))
    np.testing.assert_allclose(avatar.landmarks, avatars.small_landmarks(FRAMES), atol=1e-3)
    assert avatar.manifest.encoder.sha256 == sha256(originals["A"] / "models" / "audio_encoder.onnx")
    assumed = "\n".join(report.assumed)
    for fact in (
        'key "0" is frame 0',
        "little-endian float32, 20 x 512",
        "0.lms is frame 0",
        "audio_encoder.onnx is the",
    ):
        assert fact in assumed


@pytest.mark.parametrize("first", [0, 1])
def test_pictures_become_a_film_of_the_same_colours(foreign: Callable[[str], Path], tmp_path: Path, first: int) -> None:
    source = foreign("B")
    shutil.rmtree(source / "frames")
    write_jpegs(source / "frames", first, list(avatars.face_images(FRAMES)))
    report = import_package(source, tmp_path / "jane.avatar")
    assert any(f"pictures count from {first}: frame_{first:06d}.jpg is frame 0" in line for line in report.assumed)
    with VideoReader(report.avatar.template) as film:
        shown = list(film)
    assert len(shown) == FRAMES
    for k, image in enumerate(shown):
        original = cv2.imread(str(source / "frames" / f"frame_{k + first:06d}.jpg"))
        assert original is not None
        assert np.abs(image.astype(int) - original).mean() < 2.0
        np.testing.assert_allclose(
            image[100:140, 140:180].mean((0, 1)), original[100:140, 140:180].mean((0, 1)), atol=2
        )


@pytest.mark.parametrize(("width", "height"), [(321, 241), (1280, 720)])
def test_pictures_of_other_sizes_keep_size_and_colour(
    foreign: Callable[[str], Path], tmp_path: Path, width: int, height: int
) -> None:
    source = foreign("B")
    shutil.rmtree(source / "frames")
    write_jpegs(source / "frames", 1, avatars.face_images(3, width, height))
    (source / "crop_rects.json").write_text(json.dumps(avatars.face_rects(3, width, height).tolist()))
    avatar = import_package(source, tmp_path / "jane.avatar").avatar
    assert (avatar.manifest.sizes.width, avatar.manifest.sizes.height) == (width, height)
    with VideoReader(avatar.template) as film:
        image = next(iter(film))
    np.testing.assert_allclose(image[:40].mean((0, 1)), avatars.BACKGROUND_BGR, atol=2)
    assert avatar.verify() == []


@pytest.mark.parametrize(
    "clock",
    [lambda k: k + 4, lambda k: k + (3 if k >= 8 else 0), lambda k: 2 * k if k < 5 else k + 5],
    ids=["late start", "gap", "slow start"],
)
def test_a_film_that_disagrees_with_its_clock_is_counted_not_timed(
    foreign: Callable[[str], Path], tmp_path: Path, clock: Callable[[int], int]
) -> None:
    """The family's tools count pictures, so the k-th rect belongs to the k-th picture whatever its time stamp."""
    source = foreign("C")
    images = avatars.face_images(FRAMES)
    avatars.write_film(source / "full_body_video.mp4", images, clock=clock)
    with VideoReader(source / "full_body_video.mp4") as film:
        assert len(list(film)) > FRAMES, "by the clock there would be more pictures"
    report = import_package(source, tmp_path / "jane.avatar")
    assert any("its pictures were counted, not timed" in line for line in report.assumed)
    assert report.problems == []
    with VideoReader(report.avatar.template) as film:
        shown = list(film)
    assert len(shown) == FRAMES
    for image, original in zip(shown, images, strict=True):
        assert np.abs(image.astype(int) - original).mean() < 2.0


def test_layout_b_says_what_it_cannot_do(originals: dict[str, Path], tmp_path: Path) -> None:
    report = import_package(originals["B"], tmp_path / "jane.avatar")
    assert report.avatar.generator is not None
    text = "\n".join(report.lines())
    for part in ("cannot: no audio encoder", "--audio-encoder", f"cannot: no {FEATURES}", "cannot: no landmarks.npy"):
        assert part in text
    assert any("a list: entry 0 is frame 0" in line for line in report.assumed)


def test_short_features_repeat_the_last(originals: dict[str, Path], tmp_path: Path) -> None:
    expected = avatars.small_features(FRAMES)
    for letter, lacking in (("C", 2), ("D", 1)):
        report = import_package(originals[letter], tmp_path / f"{letter}.avatar")
        features = report.avatar.features
        assert features is not None
        np.testing.assert_array_equal(features[: FRAMES - lacking], expected[: FRAMES - lacking])
        for row in range(FRAMES - lacking, FRAMES):
            np.testing.assert_array_equal(features[row], expected[FRAMES - lacking - 1])
        note = f"{FRAMES - lacking} features for {FRAMES} frames: the last one is repeated {lacking} x"
        assert note in report.assumed


def test_layout_d_keeps_the_last_epoch_and_names_the_export(originals: dict[str, Path], tmp_path: Path) -> None:
    report = import_package(originals["D"], tmp_path / "jane.avatar")
    avatar = report.avatar
    assert avatar.weights is not None and avatar.generator is None
    assert avatar.weights == avatar.path / WEIGHTS
    assert avatar.weights.read_bytes() == b"PK\x03\x04 epoch 195"
    assert f"models/195.pth as {WEIGHTS}" in report.took
    assert any("6 values a frame; the first four are x1, y1, x2, y2" in line for line in report.assumed)
    assert any(f"lipwright export {avatar.path}" in line for line in report.lines())


def test_an_encoder_given_beside_the_package_is_bound_to_it(originals: dict[str, Path], tmp_path: Path) -> None:
    encoder = avatars.tiny_encoder(tmp_path / "my_encoder.onnx", seed=4)
    report = import_package(originals["C"], tmp_path / "jane.avatar", audio_encoder=encoder)
    assert report.avatar.encoder == report.avatar.path / ENCODER
    assert report.avatar.manifest.encoder.sha256 == sha256(encoder)
    assert report.avatar.manifest.encoder.alignment.to_contract() == AVE
    record = report.avatar.manifest.models.audio_encoder
    assert record is not None and "non-commercial" in record.licence
    assert not any("audio encoder" in line for line in report.avatar.missing())


def test_torch_weights_of_an_encoder_wait_for_the_export(originals: dict[str, Path], tmp_path: Path) -> None:
    weights = tmp_path / "audio_visual_encoder.pth"
    weights.write_bytes(b"PK\x03\x04 encoder")
    report = import_package(originals["C"], tmp_path / "jane.avatar", audio_encoder=weights)
    assert (report.avatar.path / ENCODER_WEIGHTS).read_bytes() == weights.read_bytes()
    assert report.avatar.encoder is None
    assert any("audio encoder is torch weights only" in line for line in report.avatar.missing())


def test_a_generator_given_beside_the_package_replaces_its_own(originals: dict[str, Path], tmp_path: Path) -> None:
    generator = avatars.tiny_generator(tmp_path / "mine.onnx", gain=0.5)
    avatar = import_package(originals["D"], tmp_path / "jane.avatar", generator=generator).avatar
    assert avatar.weights is None
    assert avatar.generator is not None
    assert sha256(avatar.generator) == sha256(generator)


def test_the_user_may_say_another_padding(originals: dict[str, Path], tmp_path: Path) -> None:
    report = import_package(originals["C"], tmp_path / "jane.avatar", padding="edge")
    assert report.avatar.manifest.window.padding == "edge"
    assert not any("padding" in line for line in report.assumed)


def test_weights_are_copied_and_never_unpickled(foreign: Callable[[str], Path], tmp_path: Path) -> None:
    source = foreign("D")
    trace = tmp_path / "exploded"
    (source / "models" / "500.pth").write_bytes(pickle.dumps(avatars.Bomb(trace), protocol=2))
    avatar = import_package(source, tmp_path / "jane.avatar").avatar
    assert avatar.weights is not None
    assert avatar.weights.read_bytes() == (source / "models" / "500.pth").read_bytes()
    assert avatar.verify() == []
    assert not trace.exists()


def test_weights_beside_the_onnx_file_travel_along(foreign: Callable[[str], Path], tmp_path: Path) -> None:
    source = foreign("C")
    model = source / "checkpoint" / "model_best.onnx"
    graph = onnx.load(str(model))
    onnx.save(graph, str(model), save_as_external_data=True, location="model_best.onnx.data", size_threshold=64)
    report = import_package(source, tmp_path / "jane.avatar")
    assert "checkpoint/model_best.onnx.data" in report.avatar.manifest.files
    assert report.problems == []


# --- tolerated, and said ----------------------------------------------------------------------------------------------


def rewrite_rects(source: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = source / "cache" / "crop_rectangles.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


RECT_CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "missing": (lambda d: d.pop("7"), "1 frames have no usable rect and are shown as they are; frame 7: it has none"),
    "outside": (lambda d: d.update({"7": {"rect": [300, 10, 330, 40]}}), "frame 7: .*outside the picture of 320 x 240"),
    "not square": (lambda d: d.update({"7": {"rect": [10, 10, 40, 60]}}), "frame 7: .*is not square"),
    "no face": (lambda d: d.update({"7": {"rect": [-1, -1, -1, -1]}}), 'rects are a dict: key "0" is frame 0'),
}


@pytest.mark.parametrize("name", RECT_CHANGES)
def test_single_unusable_rects_are_left_out_and_said(foreign: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    source, (change, note) = foreign("A"), RECT_CHANGES[name]
    rewrite_rects(source, change)
    report = import_package(source, tmp_path / "jane.avatar")
    assert report.avatar.rect(7) == NO_RECT
    assert report.avatar.rect(8) == avatars.face_rect(8)
    assert any(re.search(note, line) for line in report.assumed)


def test_other_forms_of_a_rect(foreign: Callable[[str], Path], tmp_path: Path) -> None:
    source = foreign("A")
    x1, y1, x2, y2 = rect_list()[3]

    def change(data: dict[str, Any]) -> None:
        data["3"] = {"x1": x1 + 0.9, "y1": y1, "x2": x2 + 0.2, "y2": y2 + 1, "score": 1}
        data["4"] = rect_list()[4]
        data["20"] = {"rect": [0, 0, 10, 10]}

    rewrite_rects(source, change)
    report = import_package(source, tmp_path / "jane.avatar")
    np.testing.assert_array_equal(report.avatar.rects, avatars.face_rects(FRAMES))
    assert "rects were not whole numbers and are truncated, as the family does" in report.assumed
    assert "1 rects beyond the last frame are left out" in report.assumed


def test_swapped_colours_are_reported(foreign: Callable[[str], Path], tmp_path: Path) -> None:
    source = foreign("B")
    write_jpegs(source / "frames", 1, [image[:, :, ::-1] for image in avatars.face_images(FRAMES)])
    report = import_package(source, tmp_path / "jane.avatar")
    assert [line for line in report.lines() if line.startswith("suspicious: ") and "look swapped" in line]


# --- broken -----------------------------------------------------------------------------------------------------------


def remove(name: str) -> Callable[[Path], object]:
    return lambda source: shutil.rmtree(source / name) if (source / name).is_dir() else (source / name).unlink()


def clear(name: str) -> Callable[[Path], None]:
    def change(source: Path) -> None:
        shutil.rmtree(source / name)
        (source / name).mkdir()

    return change


def write(name: str, content: str | bytes) -> Callable[[Path], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda source: (source / name).write_bytes(data)


def save(name: str, array: np.ndarray[Any, Any]) -> Callable[[Path], object]:
    return lambda source: np.save(source / name, array)


def rects_json(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    return lambda source: rewrite_rects(source, change)


def all_rects(rect: list[Any]) -> Callable[[Path], object]:
    return rects_json(lambda d: d.update({key: {"rect": rect} for key in d}))


def film(frames: int, rate: int = 25) -> Callable[[Path], object]:
    return lambda s: avatars.write_film(s / "full_body_video.mp4", avatars.face_images(frames), Fraction(rate))


def rename(old: str, new: str) -> Callable[[Path], object]:
    return lambda source: (source / old).rename(source / new)


def small_picture(source: Path) -> None:
    cv2.imwrite(str(source / "frames" / "frame_000005.jpg"), np.zeros((10, 12, 3), np.uint8))


def link_out(name: str) -> Callable[[Path], None]:
    def change(source: Path) -> None:
        outside = source.parent / "outside"
        shutil.move(source / name, outside)
        (source / name).symlink_to(outside)

    return change


def object_array(name: str) -> Callable[[Path], None]:
    def change(source: Path) -> None:
        np.save(source / name, np.asarray([{"x": 1}], dtype=object), allow_pickle=True)

    return change


def nan_features(source: Path) -> None:
    features = avatars.small_features(FRAMES)
    features[9] = np.nan
    np.save(source / "aud_ave.npy", features)


def wrong_encoder(source: Path) -> None:
    shutil.copy(source / "models" / "generator.onnx", source / "models" / "audio_encoder.onnx")


BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "A rects missing": ("A", remove("cache/crop_rectangles.json"), r"crop_rectangles\.json is missing"),
    "A template missing": ("A", remove("full_body_video.mp4"), r"the template is missing \(layout A: full_body_video"),
    "A template damaged": (
        "A",
        write("full_body_video.mp4", b"no film at all"),
        r"full_body_video\.mp4 cannot be opened",
    ),
    "A rects not JSON": ("A", write("cache/crop_rectangles.json", "{"), r"crop_rectangles\.json is not valid JSON"),
    "A rects not rects": ("A", write("cache/crop_rectangles.json", '"x"'), "expected a list of rects, or a dict"),
    "A rect not numbers": ("A", all_rects(["a", 1, 2, 3]), "frame 0: a rect must be four finite numbers"),
    "A rect beyond all numbers": ("A", all_rects([10**400, 1, 2, 3]), "frame 0: a rect must be four finite numbers"),
    "A frame beyond all numbers": (
        "A",
        write("cache/crop_rectangles.json", '{"' + "9" * 5000 + '": {"rect": [1, 2, 3, 4]}}'),
        "expected a list of rects, or a dict",
    ),
    "A rect NaN": ("A", all_rects([float("nan"), 1, 2, 3]), "frame 0: a rect must be four finite numbers"),
    "A rect too short": ("A", all_rects([1, 2, 3]), r"frame 0: expected \[x1, y1, x2, y2\]"),
    "A rect without names": ("A", rects_json(lambda d: d.update({"0": {"box": 1}})), "frame 0: a rect must be four"),
    "A rects all outside": ("A", all_rects([300, 0, 400, 100]), "20 of 20 frames have no usable rect; frame 0"),
    "A rects of another film": (
        "A",
        rects_json(lambda d: d.update({"99": {"rect": [0, 0, 9, 9]}})),
        "rect for frame 99",
    ),
    "A film too long": ("A", film(25), r"5 of 25 frames have no usable rect; frame 20: it has none"),
    "A film too short": ("A", film(10), "a rect for frame 19, but the template has only 10 frames"),
    "A film of another rate": ("A", film(FRAMES, 30), r"full_body_video\.mp4 runs at 30 frames a second, not 25"),
    "A features cut": ("A", write("aud_ave.bin", b"\0" * 5000), r"aud_ave\.bin: 5000 bytes are not a whole number"),
    "A features empty": ("A", write("aud_ave.bin", b""), r"aud_ave\.bin: 0 bytes are not a whole number"),
    "A landmarks cut": ("A", write("landmarks/3.lms", "1 2\n3 4\n"), r"3\.lms: expected 110 lines 'x y', got \[2, 2\]"),
    "A landmarks text": ("A", write("landmarks/3.lms", "one two\n"), r"3\.lms: expected 110 lines 'x y'"),
    "A landmarks empty": ("A", clear("landmarks"), r"holds no N\.lms"),
    "A generator damaged": ("A", write("models/generator.onnx", "no network"), r"generator\.onnx is damaged"),
    "A encoder is none": ("A", wrong_encoder, r"audio_encoder\.onnx takes input .*320.* takes mel"),
    "A link out": ("A", link_out("full_body_video.mp4"), r"full_body_video\.mp4 is a link that leaves the package"),
    "A model link out": ("A", link_out("models/generator.onnx"), r"generator\.onnx is a link that leaves the package"),
    "B no pictures": ("B", clear("frames"), "holds no numbered pictures"),
    "B picture missing": ("B", remove("frames/frame_000009.jpg"), "the picture with number 9 is missing"),
    "B first missing": ("B", remove("frames/frame_000001.jpg"), r"first picture is frame_000002\.jpg; number 0 or 1"),
    "B number twice": (
        "B",
        rename("frames/frame_000020.jpg", "frames/x_000003.jpg"),
        r"frame_000003\.jpg and x_000003\.jpg have the same number",
    ),
    "B picture damaged": ("B", write("frames/frame_000004.jpg", "x"), r"frame_000004\.jpg cannot be read as a picture"),
    "B picture of another size": ("B", small_picture, r"frame_000005\.jpg is 12 x 10, the first picture 320 x 240"),
    "B rects missing": ("B", remove("crop_rects.json"), r"crop_rects\.json is missing"),
    "C rects of another shape": (
        "C",
        save("roi_bounds.npy", np.zeros((FRAMES, 3))),
        r"roi_bounds\.npy: expected numbers",
    ),
    "C rects are objects": ("C", object_array("roi_bounds.npy"), r"roi_bounds\.npy is no plain \.npy array"),
    "C rects missing": ("C", remove("roi_bounds.npy"), r"roi_bounds\.npy is missing"),
    "C features NaN": ("C", nan_features, r"aud_ave\.npy: NaN or infinite values in the features, first in row 9"),
    "C features of another width": (
        "C",
        save("aud_ave.npy", np.zeros((FRAMES, 1024), np.float32)),
        r"expected float32 \[N, 512\], got float32 \[20, 1024\]",
    ),
    "C too few features": (
        "C",
        save("aud_ave.npy", np.zeros((17, 512), np.float32)),
        "17 features for 20 frames; 18 to 20 would fit",
    ),
    "C too many features": ("C", save("aud_ave.npy", np.zeros((21, 512), np.float32)), "21 features for 20 frames"),
    "C features are objects": ("C", object_array("aud_ave.npy"), r"aud_ave\.npy is no plain \.npy array"),
    "D no bounds": ("D", clear("face_bounds"), r"face_bounds holds no N\.npy"),
    "D bounds too short": ("D", save("face_bounds/3.npy", np.zeros(3)), r"3\.npy: expected 4 to 6 numbers"),
    "D template missing": ("D", remove("video.mp4"), r"the template is missing \(layout D: video\.mp4\)"),
    "D weights are none": ("D", write("models/195.pth", "<html>"), r"195\.pth is not a file of torch weights"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_named_and_nothing_is_written(
    foreign: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    letter, damage, message = BROKEN[name]
    source = foreign(letter)
    damage(source)
    before = set(tmp_path.iterdir())
    with pytest.raises(LipwrightError, match=message) as caught:
        import_package(source, tmp_path / "jane.avatar")
    assert "\n" not in str(caught.value)
    assert set(tmp_path.iterdir()) == before


def test_unknown_layouts_name_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(AvatarError, match=r"A: package_info\.json.*B: frames.*C: .*roi_bounds\.npy.*D: video\.mp4"):
        import_package(tmp_path / "empty", tmp_path / "jane.avatar")
    with pytest.raises(AvatarError, match="nowhere is not a folder"):
        import_package(tmp_path / "nowhere", tmp_path / "jane.avatar")


def test_an_avatar_is_not_imported_again(originals: dict[str, Path], tmp_path: Path) -> None:
    path = import_package(originals["C"], tmp_path / "jane.avatar").avatar.path
    with pytest.raises(AvatarError, match="is an avatar already"):
        import_package(path, tmp_path / "again.avatar")
    with pytest.raises(AvatarError, match="exists already"):
        import_package(originals["C"], path)
    assert import_package(originals["C"], path, replace=True).problems == []


@pytest.mark.parametrize("argument", ["audio_encoder", "generator"])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nothing.onnx", None, r"nothing\.onnx"),
        ("nothing.pth", None, r"nothing\.pth cannot be read: No such file"),
        ("model.h5", b"x", r"model\.h5: a network must be \.onnx, or torch weights \.pth"),
        ("bad.onnx", b"x", r"bad\.onnx is damaged"),
    ],
)
def test_a_bad_network_given_beside_the_package(
    originals: dict[str, Path], tmp_path: Path, argument: str, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    arguments: dict[str, Any] = {argument: path}
    with pytest.raises(LipwrightError, match=message):
        import_package(originals["C"], tmp_path / "jane.avatar", **arguments)
    assert not (tmp_path / "jane.avatar").exists()


def test_the_order_of_the_inputs_does_not_matter(originals: dict[str, Path], tmp_path: Path) -> None:
    avatar = import_package(originals["B"], tmp_path / "jane.avatar").avatar
    assert avatar.generator == avatar.path / GENERATOR
    assert (avatar.path / RECTS).is_file()
    assert avatar.verify() == []


def test_a_film_without_pictures_is_a_media_error(foreign: Callable[[str], Path], tmp_path: Path) -> None:
    source = foreign("C")
    (source / "full_body_video.mp4").write_bytes(b"")
    with pytest.raises(MediaError, match=r"full_body_video\.mp4 is empty"):
        import_package(source, tmp_path / "jane.avatar")
