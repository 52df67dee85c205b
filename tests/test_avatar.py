"""Avatar packages: whole on the disk or not there, and everything wrong with one is named."""

from __future__ import annotations

import copy
import json
import pickle
import random
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from onnx import helper

import avatars
from lipwright.avatar import (
    ENCODER,
    FEATURES,
    GENERATOR,
    LANDMARKS,
    RECTS,
    TEMPLATE,
    WEIGHTS,
    AlignmentRecord,
    Avatar,
    Consent,
    Manifest,
    Models,
    Parity,
    Segment,
    Sizes,
    builtin_avatar,
    builtin_sound,
    find_avatar,
)
from lipwright.avatar.manifest import Record
from lipwright.avatar.storage import MANIFEST, Content
from lipwright.contract import AVE, CENTRED, NO_RECT, BuiltIn
from lipwright.digest import sha256
from lipwright.errors import AvatarError
from lipwright.runtimes import open_runtime

FRAMES = 12


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return avatars.make_avatar(tmp_path_factory.mktemp("avatars"), avatars.Parts(frames=FRAMES)).path


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A package that a test may break."""
    return Path(shutil.copytree(pristine, tmp_path / "tiny.avatar"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads((folder / MANIFEST).read_text())
    change(data)
    (folder / MANIFEST).write_text(json.dumps(data))


def put(folder: Path, name: str, array: np.ndarray[Any, Any]) -> None:
    """Replace an array and its hash, as somebody would who edits a package by hand."""
    np.save(folder / name, array)
    rehash(folder, name)


def rehash(folder: Path, name: str) -> None:
    edit(folder, lambda m: m["files"].update({name: sha256(folder / name)}))


# --- a good package ---------------------------------------------------------------------------------------------------


def test_a_package_reads_back_as_it_was_written(pristine: Path) -> None:
    avatar = Avatar.open(pristine)
    assert avatar.name == "tiny"
    assert avatar.frame_count == FRAMES
    assert avatar.template == pristine / TEMPLATE
    assert avatar.generator == pristine / GENERATOR
    assert avatar.encoder == pristine / ENCODER
    assert avatar.weights is None
    np.testing.assert_array_equal(avatar.rects, avatars.face_rects(FRAMES))
    assert avatar.features is not None and avatar.landmarks is not None
    np.testing.assert_array_equal(avatar.features, avatars.small_features(FRAMES))
    np.testing.assert_array_equal(avatar.landmarks, avatars.small_landmarks(FRAMES))
    assert avatar.rect(3) == avatars.face_rect(3)
    assert avatar.missing() == []
    assert avatar.verify() == []
    assert avatar.manifest.encoder.alignment.to_contract() == CENTRED


def test_the_tiny_networks_of_the_tests_run(pristine: Path) -> None:
    avatar = Avatar.open(pristine)
    assert avatar.generator is not None and avatar.encoder is not None
    encoder = open_runtime(avatar.encoder, "encoder", runtime="onnxruntime")
    generator = open_runtime(avatar.generator, "generator", runtime="onnxruntime")
    features = encoder.run(np.random.default_rng(0).normal(size=(16, 1, 80, 16)).astype(np.float32))
    picture = np.full((2, 6, 320, 320), 0.5, np.float32)
    window = np.stack([features, np.zeros_like(features)]).reshape(2, 32, 16, 16)
    loud, silent = generator.run(picture, window)
    assert loud.mean() > silent.mean()
    np.testing.assert_array_equal(silent, picture[1, :3])


def test_every_field_of_the_manifest_survives(folder: Path) -> None:
    avatar = Avatar.open(folder)
    assert avatar.manifest.models.generator is not None
    parity = Parity(
        max_abs_f32=3e-6,
        max_abs_rounded=4e-6,
        rounded_vs_unrounded=1e-3,
        opset=17,
        n_inputs=8,
        torch="2.13.0",
        onnxruntime="1.31.1",
    )
    generator = avatar.manifest.models.generator.model_copy(update={"parity": parity})
    manifest = avatar.manifest.changed(
        consent=Consent(
            shown="Jane Doe", agreed_by="Jane Doe", agreed_on=date(2026, 1, 31), purpose="product films", proof="a.pdf"
        ),
        segments=[Segment(start=0, stop=5), Segment(start=5, stop=FRAMES)],
        start_frame=2,
        figures={"lip_gap_r": 0.93, "psnr": {"mouth": 27.1, "baselines": [20, 21.5]}},
        models=avatar.manifest.models.model_copy(update={"generator": generator}),
        source="made by a test",
    )
    saved = avatar.save(manifest=manifest)
    assert saved.manifest == manifest
    assert Avatar.open(folder).manifest == manifest
    assert saved.manifest.made_with.startswith("lipwright ")


def test_open_by_name_in_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert Avatar.open("tiny").name == "tiny"
    assert Avatar.open("tiny.avatar").name == "tiny"
    with pytest.raises(AvatarError, match=r"no avatar 'tony'.*tiny\.avatar"):
        Avatar.open("tony")
    monkeypatch.chdir(folder)
    with pytest.raises(AvatarError, match="there is none in this folder"):
        Avatar.open("tiny2")


def test_the_presenter_has_a_name_everywhere(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_avatar("presenter") == builtin_avatar() and find_avatar("mira") == builtin_avatar("mira")
    with pytest.raises(AvatarError, match=r"no avatar 'tony'; .*; built in: presenter, mira$"):
        find_avatar("tony")
    shutil.copytree(folder, tmp_path / "presenter.avatar")
    assert find_avatar("presenter") == Path("presenter.avatar"), "one's own comes first"


def test_a_folder_that_is_no_avatar_points_to_import(tmp_path: Path) -> None:
    with pytest.raises(AvatarError, match=r"no avatar\.json.*lipwright import"):
        Avatar.open(tmp_path)


def test_the_builtin_avatar_has_its_place() -> None:
    assert builtin_avatar().name == "presenter.avatar"
    assert builtin_avatar().parent.name == "data"
    assert all(builtin_sound(name).is_file() for name in get_args(BuiltIn))
    assert builtin_sound("mira") != builtin_sound()


def test_an_incomplete_package_opens_and_says_what_it_cannot_do(tmp_path: Path) -> None:
    parts = avatars.Parts(frames=3, generator=False, encoder=False, features=False, landmarks=False)
    avatar = avatars.make_avatar(tmp_path, parts, name="bare")
    assert (avatar.generator, avatar.encoder, avatar.features, avatar.landmarks) == (None, None, None, None)
    text = "\n".join(avatar.missing())
    for part in ("no generator", "lipwright train", "no audio encoder", FEATURES, LANDMARKS):
        assert part in text
    assert avatar.verify() == []


def test_torch_weights_without_onnx_name_the_command_that_exports_them(folder: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"PK\x03\x04 weights")
    avatar = Avatar.open(folder).put_model("generator_weights", weights, licence="CC0-1.0", origin="made by a test")
    assert avatar.missing() == []
    models = avatar.manifest.models.model_copy(update={"generator": None})
    saved = avatar.save(manifest=avatar.manifest.changed(models=models), contents={GENERATOR: None})
    assert saved.weights == folder / WEIGHTS
    assert not (folder / GENERATOR).exists()
    assert [line for line in saved.missing() if f"lipwright export {folder}" in line]


def test_a_frame_without_a_usable_face(folder: Path) -> None:
    rects = avatars.face_rects(FRAMES)
    rects[4] = -1
    put(folder, RECTS, rects)
    avatar = Avatar.open(folder)
    assert avatar.rect(4) == NO_RECT
    assert avatar.verify() == []


# --- broken so that it does not open ----------------------------------------------------------------------------------


def set_value(*path: str, value: object) -> Callable[[Path], None]:
    """Change one value of the manifest."""

    def change(folder: Path) -> None:
        def inner(data: dict[str, Any]) -> None:
            for key in path[:-1]:
                data = data[key]
            data[path[-1]] = value

        edit(folder, inner)

    return change


def rects_with(row: list[int]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        rects = avatars.face_rects(FRAMES)
        rects[7] = row
        put(folder, RECTS, rects)

    return change


def list_file(name: str) -> Callable[[Path], None]:
    return lambda folder: edit(folder, lambda m: m["files"].update({name: "0" * 64}))


def link_outside(folder: Path) -> None:
    outside = folder.parent / "outside.npy"
    shutil.move(folder / FEATURES, outside)
    (folder / FEATURES).symlink_to(outside)


def other_encoder(folder: Path) -> None:
    avatars.tiny_encoder(folder / ENCODER, seed=1)
    rehash(folder, ENCODER)


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def unlist_template(folder: Path) -> None:
    edit(folder, lambda m: m["files"].pop(TEMPLATE))


def write_manifest(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / MANIFEST).write_text(text)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "template missing": (drop(TEMPLATE), r"full_body_video\.mp4 is missing"),
    "template not listed": (unlist_template, r"full_body_video\.mp4 is missing from the files"),
    "rects missing": (drop(RECTS), r"roi_bounds\.npy is missing"),
    "features missing": (drop(FEATURES), r"aud_ave\.npy is missing"),
    "generator missing": (drop(GENERATOR), r"checkpoint/model_best\.onnx is missing"),
    "encoder missing": (drop(ENCODER), r"audio_encoder\.onnx is missing"),
    "not JSON": (write_manifest("{"), r"avatar\.json is not valid JSON"),
    "deeply nested": (write_manifest("[" * 100_000), r"avatar\.json is not valid JSON"),
    "not a manifest": (write_manifest("[]"), "has no format_version"),
    "newer format": (set_value("format_version", value=2), "format version 2.*reads 1: update lipwright"),
    "odd format": (set_value("format_version", value="x"), "format version 'x'.*make the avatar again"),
    "unknown key": (set_value("colour", value="rgb"), r"unknown key 'colour'; legal keys: format_version, contract"),
    "unknown nested key": (
        set_value("models", "generator", "license", value="MIT"),
        r"models\.generator: unknown key 'license'; legal keys: file, licence, origin",
    ),
    "value missing": (lambda f: edit(f, lambda m: m["sizes"].pop("width")), r"sizes\.width: Field required"),
    "two problems": (
        lambda f: edit(f, lambda m: m.update(sizes={"width": 0, "height": 0, "frames": 1})),
        r"sizes\.width.*\(and 1 more\)",
    ),
    "other contract": (set_value("contract", value="unet256"), "contract is 'unet256'.*only 'unet328'"),
    "other fps": (set_value("fps", value=30), "fps is 30.*only 25"),
    "other mask": (set_value("mask", value=[0, 0, 320, 320]), "mask is"),
    "other resize": (set_value("resize", value="linear"), "resize: .*'cubic'.*'auto'"),
    "other window": (set_value("window", "past", value=5), r"window: .*5 \+ 1 \+ 7"),
    "other padding": (set_value("window", "padding", value="mirror"), r"window\.padding: .*'edge'.*'zeros'"),
    "other alignment": (set_value("encoder", "alignment", "first_column", value=0), "alignment 'centred' must have"),
    "start outside": (set_value("start_frame", value=FRAMES), "start_frame 12 is not one of the 12 frames"),
    "segment outside": (set_value("segments", value=[{"start": 3, "stop": 13}]), r"segment 3\.\.13"),
    "segments overlap": (
        set_value("segments", value=[{"start": 0, "stop": 5}, {"start": 4, "stop": 8}]),
        r"segment 4\.\.8 overlaps",
    ),
    "hash is none": (set_value("encoder", "sha256", value="abc"), r"encoder\.sha256"),
    "hash of a file is none": (set_value("files", TEMPLATE, value="zz"), r"files\.full_body_video\.mp4"),
    "model not listed": (
        set_value("models", "generator", "file", value="other.onnx"),
        r"models\.generator\.file 'other\.onnx' is not listed",
    ),
    "path up": (list_file("../secret"), r"'\.\./secret' leaves the package"),
    "path absolute": (list_file("/etc/hostname"), "'/etc/hostname' leaves the package"),
    "path with a drive": (list_file("C:/x"), "'C:/x' leaves the package"),
    "path with backslash": (list_file("a\\b"), "leaves the package"),
    "link outside": (link_outside, r"aud_ave\.npy is a link that leaves the package"),
    "rects of another shape": (
        lambda f: put(f, RECTS, np.zeros((FRAMES, 5), np.int32)),
        r"roi_bounds\.npy: expected int32 \[12, 4\], got int32 \[12, 5\]",
    ),
    "rects of another type": (
        lambda f: put(f, RECTS, avatars.face_rects(FRAMES).astype(np.int64)),
        r"expected int32 \[12, 4\], got int64",
    ),
    "rects for other frames": (lambda f: put(f, RECTS, avatars.face_rects(9)), r"expected int32 \[12, 4\]"),
    "rects damaged": (lambda f: (f / RECTS).write_bytes(b"\x93NUMPY"), r"roi_bounds\.npy is no plain \.npy array"),
    "rect outside": (rects_with([200, 10, 330, 140]), r"frame 7, \[200, 10, 330, 140\].*outside the picture"),
    "rect half negative": (rects_with([-1, 10, 30, 41]), "frame 7.*outside the picture"),
    "rect empty": (rects_with([30, 30, 30, 30]), "frame 7.*is empty"),
    "rect not square": (rects_with([30, 30, 60, 61]), r"frame 7, \[30, 30, 60, 61\], is not square"),
    "another encoder": (other_encoder, r"audio_encoder\.onnx is not the audio encoder that the generator hears by"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_named_on_opening(folder: Path, name: str) -> None:
    damage, message = BROKEN[name]
    damage(folder)
    with pytest.raises(AvatarError, match=message) as caught:
        Avatar.open(folder)
    assert "\n" not in str(caught.value)


# --- broken inside its files ------------------------------------------------------------------------------------------


def change_byte(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[-1] ^= 1
        (folder / name).write_bytes(data)

    return change


def features_with(value: float) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        features = avatars.small_features(FRAMES)
        features[5, 100] = value
        put(folder, FEATURES, features)

    return change


def landmarks_with_infinity(folder: Path) -> None:
    landmarks = avatars.small_landmarks(FRAMES)
    landmarks[6, 1] = np.inf
    put(folder, LANDMARKS, landmarks)


def network(name: str, shape_a: list[Any], shape_b: list[Any], output: list[Any]) -> Callable[[Path], None]:
    """Put a graph with two inputs of any shape in the generator's place."""

    def change(folder: Path) -> None:
        nodes = [
            helper.make_node("ReduceMean", ["a"], ["a_mean"], keepdims=0),
            helper.make_node("ReduceMean", ["b"], ["b_mean"], keepdims=0),
            helper.make_node("Add", ["a_mean", "b_mean"], ["sum"]),
            helper.make_node("Expand", ["sum", "shape"], ["y"]),
        ]
        shape = {"shape": np.asarray([1, 3, 320, 320], np.int64)}
        avatars.save_graph(folder / GENERATOR, nodes, shape, [("a", shape_a), ("b", shape_b)], [("y", output)])
        rehash(folder, GENERATOR)

    return change


def refilm(*, frames: int = FRAMES, width: int = 320, rate: int = 25, swap: bool = False) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        images = avatars.face_images(frames, width)
        if swap:
            images = [np.ascontiguousarray(image[:, :, ::-1]) for image in images]
        avatars.write_film(folder / TEMPLATE, images, Fraction(rate))
        rehash(folder, TEMPLATE)

    return change


def spoil_generator(folder: Path) -> None:
    (folder / GENERATOR).write_bytes(b"no network")
    rehash(folder, GENERATOR)


DAMAGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "film changed": (change_byte(TEMPLATE), r"full_body_video\.mp4: sha256 is not the one"),
    "landmarks changed": (change_byte(LANDMARKS), r"landmarks\.npy: sha256 is not the one"),
    "NaN feature": (features_with(np.nan), r"aud_ave\.npy: NaN or infinite values in 1 rows, first in row 5"),
    "infinite feature": (features_with(np.inf), "NaN or infinite values in 1 rows, first in row 5"),
    "features of another width": (
        lambda f: put(f, FEATURES, np.zeros((FRAMES, 256), np.float32)),
        r"aud_ave\.npy: expected float32 \[12, 512\], got float32 \[12, 256\]",
    ),
    "features of another type": (
        lambda f: put(f, FEATURES, np.zeros((FRAMES, 512))),
        r"expected float32 \[12, 512\], got float64",
    ),
    "landmarks of another shape": (
        lambda f: put(f, LANDMARKS, np.zeros((FRAMES, 10), np.float32)),
        r"landmarks\.npy: expected float32 \[12, L, 2 or 3\]",
    ),
    "infinite landmarks": (landmarks_with_infinity, r"landmarks\.npy holds infinite values, first in frame 6"),
    "generator damaged": (spoil_generator, r"model_best\.onnx is damaged or no ONNX model"),
    "generator of another contract": (
        network("x", [1, 6, 160, 160], [1, 16, 32, 32], [1, 3, 320, 320]),
        r"model_best\.onnx takes a .*160.*a generator takes input",
    ),
    "inputs that cannot be told apart": (
        network("x", ["n", "c", "h", "w"], ["n", "c2", "h2", "w2"], [1, 3, 320, 320]),
        "cannot be told apart",
    ),
    "film of another size": (refilm(width=352), r"shows 352 x 240, avatar\.json says 320 x 240"),
    "film too short": (refilm(frames=10), r"has 10 frames, avatar\.json says 12"),
    "film of another rate": (refilm(rate=30), "runs at 30 frames a second, not 25"),
    "swapped colours": (refilm(swap=True), "red and blue look swapped"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_wrong_is_named_by_verify(folder: Path, name: str) -> None:
    damage, message = DAMAGED[name]
    damage(folder)
    problems = Avatar.open(folder).verify()
    assert len(problems) == 1
    assert "\n" not in problems[0]
    assert re.search(message, problems[0])


def test_verify_names_every_problem_at_once(folder: Path) -> None:
    features_with(np.nan)(folder)
    refilm(swap=True)(folder)
    change_byte(LANDMARKS)(folder)
    problems = "\n".join(Avatar.open(folder).verify())
    for part in ("aud_ave.npy: NaN", "look swapped", "landmarks.npy: sha256"):
        assert part in problems


def test_arrays_are_never_unpickled(folder: Path, tmp_path: Path) -> None:
    trace = tmp_path / "exploded"
    array = np.empty(1, dtype=object)
    array[0] = avatars.Bomb(trace)
    np.save(folder / FEATURES, array, allow_pickle=True)
    rehash(folder, FEATURES)
    problems = Avatar.open(folder).verify()
    assert "aud_ave.npy is no plain .npy array" in problems[0]
    assert not trace.exists()
    pickle.loads(pickle.dumps(avatars.Bomb(trace)))
    assert trace.exists(), "the test's own bomb must work"


# --- writing ----------------------------------------------------------------------------------------------------------


def siblings(path: Path) -> set[str]:
    return {found.name for found in path.parent.iterdir()}


def parts_of(avatar: Avatar) -> dict[str, Path]:
    return {name: avatar.path / name for name in avatar.manifest.files}


def test_a_package_that_would_not_open_is_not_written(pristine: Path, tmp_path: Path) -> None:
    avatar = Avatar.open(pristine)
    contents: dict[str, Content] = {**parts_of(avatar), RECTS: np.zeros((FRAMES, 4), np.int32)}
    with pytest.raises(AvatarError, match=r"out\.avatar/roi_bounds\.npy.*frame 0"):
        Avatar.create(tmp_path / "out.avatar", avatar.manifest, contents)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_save_leaves_the_old_package_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    avatar = Avatar.open(folder)
    monkeypatch.setattr("lipwright.avatar.package.fill", interrupted)
    with pytest.raises(KeyboardInterrupt):
        avatar.save(contents={FEATURES: None})
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert siblings(folder) == {"tiny.avatar"}


def test_a_full_disk_is_one_clear_error(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    avatar = Avatar.open(pristine)
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(AvatarError, match=r"cannot write .*out\.avatar: No space left on device"):
        Avatar.create(tmp_path / "out.avatar", avatar.manifest, {RECTS: avatar.rects})
    assert list(tmp_path.iterdir()) == []


def test_saving_over_itself_and_elsewhere(folder: Path, tmp_path: Path) -> None:
    avatar = Avatar.open(folder)
    inode = (folder / TEMPLATE).stat().st_ino
    saved = avatar.save(contents={LANDMARKS: None, "notes/readme.txt": _text(tmp_path / "readme.txt")})
    assert not (folder / LANDMARKS).exists()
    assert (folder / "notes" / "readme.txt").read_text() == "hello"
    assert (folder / TEMPLATE).stat().st_ino == inode, "an unchanged film is linked, not copied"
    assert set(saved.manifest.files) == {TEMPLATE, RECTS, FEATURES, GENERATOR, ENCODER, "notes/readme.txt"}
    assert saved.verify() == []
    other = saved.save(tmp_path / "other.avatar")
    assert (other.path / TEMPLATE).stat().st_ino != inode
    assert other.verify() == []


def _text(path: Path) -> Path:
    path.write_text("hello")
    return path


def test_nothing_is_overwritten_without_being_asked(folder: Path, tmp_path: Path) -> None:
    avatar = Avatar.open(folder)
    other = avatar.save(tmp_path / "other.avatar")
    with pytest.raises(AvatarError, match="exists already"):
        avatar.save(other.path)
    assert avatar.save(other.path, replace=True).verify() == []
    precious = tmp_path / "precious.avatar"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    with pytest.raises(AvatarError, match="is not an avatar: choose another name"):
        avatar.save(precious, replace=True)
    assert (precious / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("name", r"called NAME\.avatar"),
        ("nowhere/name.avatar", "cannot write into .*nowhere: No such file"),
        ("file/name.avatar", "cannot write into .*file: Not a directory"),
    ],
)
def test_bad_places_to_write_to(folder: Path, tmp_path: Path, out: str, message: str) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(AvatarError, match=message):
        Avatar.open(folder).save(tmp_path / out)


@pytest.mark.parametrize("name", ["../evil.npy", "/tmp/evil.npy", "a/../../evil.npy", ""])
def test_contents_cannot_be_written_outside(folder: Path, tmp_path: Path, name: str) -> None:
    avatar = Avatar.open(folder)
    with pytest.raises(AvatarError, match="leaves the package"):
        avatar.save(tmp_path / "other.avatar", contents={name: np.zeros(1)})
    assert not list(tmp_path.rglob("evil.npy"))
    assert siblings(folder) == {"tiny.avatar"}


def test_the_first_encoder_binds_the_package(tmp_path: Path) -> None:
    avatar = avatars.make_avatar(tmp_path, avatars.Parts(frames=3, encoder=False))
    assert avatar.manifest.encoder.sha256 is None
    made_by = {"licence": "CC0-1.0", "origin": "made by a test"}
    bound = avatar.put_model("audio_encoder", avatars.tiny_encoder(tmp_path / "e.onnx"), **made_by)
    assert bound.manifest.encoder.sha256 == bound.manifest.files[ENCODER]
    with pytest.raises(AvatarError, match="not the audio encoder"):
        bound.put_model("audio_encoder", avatars.tiny_encoder(tmp_path / "other.onnx", seed=9), **made_by)
    assert Avatar.open(avatar.path).manifest == bound.manifest
    assert bound.verify() == []


# --- the manifest -----------------------------------------------------------------------------------------------------


def test_alignments_survive_the_manifest() -> None:
    for alignment in (CENTRED, AVE):
        manifest = Manifest.new("x", Sizes(width=4, height=4, frames=1), alignment=alignment)
        read = Manifest.parse(manifest.to_json(), MANIFEST)
        assert read.encoder.alignment.to_contract() == alignment
        assert read.encoder.alignment == AlignmentRecord.of(alignment)


def test_a_changed_manifest_is_checked() -> None:
    manifest = Manifest.new("x", Sizes(width=4, height=4, frames=1))
    with pytest.raises(ValueError, match="fps is 30"):
        manifest.changed(fps=30)
    assert manifest.changed(models=Models()).models == Models()


def test_a_manifest_with_random_values_is_read_or_refused(pristine: Path) -> None:
    """300 manifests, each with one to three values replaced: never anything but a clear refusal."""
    text = (pristine / MANIFEST).read_text()
    chance = random.Random(5)
    refused = 0
    for _ in range(300):
        data = json.loads(text)
        for _ in range(chance.randint(1, 3)):
            _replace_something(data, chance)
        try:
            Manifest.parse(json.dumps(data), MANIFEST)
        except AvatarError as error:
            assert str(error).startswith(MANIFEST)
            refused += 1
    assert refused > 150


JUNK: list[Any] = [None, True, -1, 0, 1e300, float("nan"), "", "x", "../x", "\0", [], [1], {}, {"a": 1}, 2**70]


def _replace_something(data: Any, chance: random.Random) -> None:
    """Walk down at random and put junk where the walk ends, or add an unknown key."""
    while True:
        keys = list(data) if isinstance(data, dict) else list(range(len(data)))
        if not keys:
            return
        key = chance.choice(keys)
        if isinstance(data[key], dict | list) and data[key] and chance.random() < 0.8:
            data = data[key]
            continue
        if isinstance(data, dict) and chance.random() < 0.2:
            key = chance.choice(["", "nonsense", key])
        data[key] = copy.deepcopy(chance.choice(JUNK))  # the next walk may go into it
        return


def test_every_key_of_the_manifest_is_documented() -> None:
    text = (Path(__file__).parent.parent / "docs" / "avatar-format.md").read_text(encoding="utf-8")

    def records(kind: type[Record]) -> Iterator[type[Record]]:
        for sub in kind.__subclasses__():
            yield sub
            yield from records(sub)

    for record in records(Record):
        for key in record.model_fields:
            assert f"`{key}`" in text, f"{record.__name__}.{key} is not in docs/avatar-format.md"
