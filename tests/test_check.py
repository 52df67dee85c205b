"""Every limit of ``lipwright check`` is kept by what is right and broken by what is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper

from avatars import FACE, Port, make_avatar, save_graph, tiny_encoder, tiny_generator, write_film
from lipwright import cli
from lipwright.avatar import (
    ENCODER,
    FEATURES,
    GENERATOR,
    RECTS,
    TEMPLATE,
    Avatar,
    Manifest,
    ModelRecord,
    Models,
    Sizes,
    builtin_sound,
)
from lipwright.check import Plan, Report, check, write_report
from lipwright.check import fast as fast_room
from lipwright.check.checklist import Subject, checklist
from lipwright.check.checkpoints import NEAREST, contest
from lipwright.check.fast import fast_path
from lipwright.check.limits import F32, LEVEL, REDUCED
from lipwright.check.made import as_made
from lipwright.check.parity import Pictures, Reference, compare, measure
from lipwright.contract import AUDIO_SHAPE, FEATURE_DIM, ROI_SIZE, FloatArray, UInt8Array
from lipwright.errors import AvatarError, LipwrightError
from lipwright.face import FaceFinder, rect_from_mesh
from lipwright.picture import Frame
from lipwright.render import Networks
from lipwright.trial import Question, Way, generator_of, questions
from talking import SIDE, at, face, openings, speech

REFERENCE = Way("onnxruntime", "f32")
FRAMES = 12


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return make_avatar(tmp_path_factory.mktemp("avatar"))


@pytest.fixture(scope="module")
def asked(avatar: Avatar) -> list[Question]:
    return questions(avatar, builtin_sound(), FRAMES)


def test_what_was_measured_when_it_was_made_stands_beside_the_rest(avatar: Avatar) -> None:
    assert list(as_made(avatar)) == [], "nobody measured this one"
    own = {"lip_gap_r": 0.6, "lip_gap_lag": 1.0, "lmd": 0.029, "psnr": 23.04, "closed_recall": None}
    kept = {"own sound": own, "nearest pose": {"psnr": 19.6}, "mean picture": {"psnr": 20.7}}
    kept |= {"other sound": {"closed_recall": 0.75}, "silence": {"gap_99": 0.011, "step_99": 0.002}}
    figures = {"quality": kept, "quality_verdict": "The lips follow the sound roughly (r 0.60)."}
    made = replace(avatar, manifest=avatar.manifest.changed(figures=figures))
    seen = {finding.what: finding.seen for finding in as_made(made)}
    assert seen["in short"] == figures["quality_verdict"] and seen["lips late, frames"] == "1"
    assert seen["likeness of the mouth, dB"] == "23 (nearest pose 19.6, mean picture 20.7)"
    assert seen["lips closed on another's p, b and m"] == "0.75" and "lips closed when they should be" not in seen
    assert seen["lips open in silence, share of the face's height"] == "0.011"


# --- the whole ------------------------------------------------------------------------------------------------------


def no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is no JSON")


@pytest.fixture(scope="module")
def whole(avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    folder = tmp_path_factory.mktemp("check")
    report = check(avatar, folder, Plan([REFERENCE, Way("openvino", "f32"), Way("torch", "f32")], film=True))
    write_report(report, folder)
    return report, folder


def test_what_is_right_breaks_nothing(whole: tuple[Report, Path]) -> None:
    report, _ = whole
    assert report.broken == []
    sections = [finding.section for finding in report.findings if finding.verdict == "good"]
    assert set(sections) == {"contract", "parity", "fast path"}


def test_a_way_that_is_not_there_is_said_and_breaks_nothing(whole: tuple[Report, Path]) -> None:
    report, _ = whole
    (finding,) = [finding for finding in report.findings if finding.verdict == "unmeasured"]
    assert (finding.section, finding.what) == ("parity", "torch/f32")
    assert ".pth" in finding.seen
    assert "1 could not be judged" in report.verdict()


def test_the_report_is_one_page_and_one_file_for_programs(whole: tuple[Report, Path]) -> None:
    report, folder = whole
    data = json.loads((folder / "check.json").read_text(encoding="utf-8"), parse_constant=no_constant)
    assert data["broken"] == 0
    assert [c["name"] for c in data["comparisons"]] == [c.name for c in report.comparisons]
    assert data["comparisons"][0]["difference"]["psnr"] is None or data["comparisons"][0]["difference"]["psnr"] > 80
    page = (folder / "check.html").read_text(encoding="utf-8")
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("data:image/jpeg;base64,") == len(report.comparisons)
    assert report.verdict() in page


def test_the_sheet_shows_input_both_pictures_and_their_difference(
    whole: tuple[Report, Path], asked: list[Question]
) -> None:
    _, folder = whole
    sheet = cv2.imread(str(folder / "sheet-openvino-f32.png"))
    assert sheet is not None
    assert sheet.shape[1] == 4 * ROI_SIZE
    first, second, apart = (sheet[24:344, ROI_SIZE * i : ROI_SIZE * (i + 1)] for i in (1, 2, 3))
    assert np.abs(first.astype(int) - second).max() <= 1
    assert np.abs(apart.astype(int) - 128).max() <= 10
    assert any(np.array_equal(sheet[24:344, :ROI_SIZE], question.roi) for question in asked)


def test_the_film_is_as_long_as_the_frames(whole: tuple[Report, Path]) -> None:
    _, folder = whole
    film = cv2.VideoCapture(str(folder / "film-openvino-f32.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES
    assert film.get(cv2.CAP_PROP_FRAME_WIDTH) == 4 * ROI_SIZE


def test_frames_can_be_chosen(avatar: Avatar, tmp_path: Path) -> None:
    plan = Plan([REFERENCE, Way("openvino", "f32")], frames=3, start=4)
    check(avatar, tmp_path, replace(plan, shown=(5, 6)))
    sheet = cv2.imread(str(tmp_path / "sheet-openvino-f32.png"))
    assert sheet is not None
    assert sheet.shape[0] == 2 * (ROI_SIZE + 24)
    with pytest.raises(LipwrightError, match=r"template frame 9 is not among the compared ones, 4\.\.6"):
        check(avatar, tmp_path, replace(plan, shown=(9,)))


def test_an_avatar_without_generator(tmp_path: Path, avatar: Avatar) -> None:
    empty = avatar.save(
        tmp_path / "empty.avatar", manifest=avatar.manifest.changed(models=Models()), contents={GENERATOR: None}
    )
    with pytest.raises(AvatarError, match="no generator"):
        check(empty, tmp_path, Plan())


# --- parity ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(avatar: Avatar, asked: list[Question]) -> Reference:
    runtime = REFERENCE.open(generator_of(avatar))
    outputs = np.concatenate([runtime.run(*question.inputs) for question in asked])
    return Reference(avatar, asked, builtin_sound(), runtime, outputs)


def broken_by(reference: Reference, outputs: FloatArray, reduced: bool) -> set[str]:
    limits = REDUCED if reduced else F32
    findings = measure(reference, outputs, limits).findings("parity", "it", limits)
    return {finding.what.removeprefix("it: ") for finding in findings if finding.verdict == "broken"}


def test_the_f32_limit(reference: Reference) -> None:
    outputs = reference.outputs.copy()
    outputs[3, 1, 7, 7] += 9e-5
    assert broken_by(reference, outputs, reduced=False) == set()
    outputs[3, 1, 7, 7] += 2e-5
    assert broken_by(reference, outputs, reduced=False) == {"largest difference"}


def test_the_mean_limit(reference: Reference) -> None:
    outputs = reference.outputs + np.float32(0.45 * LEVEL)
    assert broken_by(reference, outputs, reduced=True) == set()
    outputs += np.float32(0.1 * LEVEL)
    assert broken_by(reference, outputs, reduced=True) == {"mean difference"}


def test_the_percentile_limit(reference: Reference) -> None:
    outputs = reference.outputs.copy()
    outputs[:, :, :16, :16] += np.float32(3.9 * LEVEL)  # 0.25 % of the values
    assert broken_by(reference, outputs, reduced=True) == set()
    outputs[:, :, :16, :16] += np.float32(0.3 * LEVEL)
    assert broken_by(reference, outputs, reduced=True) == {"99.9th percentile"}


def test_values_that_are_no_numbers(reference: Reference) -> None:
    outputs = reference.outputs.copy()
    outputs[0, 0, 0, 0] = np.nan
    assert "NaN or infinite values" in broken_by(reference, outputs, reduced=True)


def test_another_network_breaks_parity(reference: Reference, tmp_path: Path) -> None:
    other = tiny_generator(tmp_path / "other.onnx", gain=0.06)
    findings, comparison = compare(Way("openvino", "f32"), other, reference, Pictures(tmp_path), lambda more: None)
    assert [finding.verdict for finding in findings] == ["broken"]
    assert comparison is not None
    assert comparison.difference.max_abs > 1e-3


def test_the_figures_are_those_of_numpy(reference: Reference) -> None:
    noise = np.random.default_rng(1).normal(0, 2 * LEVEL, reference.outputs.shape)
    outputs = reference.outputs + noise.astype(np.float32)
    found, apart = measure(reference, outputs, F32), np.abs(outputs.astype(np.float64) - reference.outputs)
    assert found.mean_abs == pytest.approx(apart.mean(), rel=1e-6)
    assert found.max_abs == pytest.approx(apart.max(), rel=1e-6)
    assert found.p999_abs == pytest.approx(np.percentile(apart, 99.9), abs=2e-5)
    assert found.psnr == pytest.approx(-10 * np.log10(np.square(apart).mean()), abs=1e-6)
    assert found.pixels_off == pytest.approx((apart.max(axis=1) > 2 * LEVEL).mean(), abs=1e-9)
    assert found.worst == int(apart.mean(axis=(1, 2, 3)).argmax())
    assert (found.got.mean, found.got.std) == pytest.approx((outputs.mean(), outputs.std()), rel=1e-5)


# --- a real face ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    """The synthetic presenter's face, whose mouth opens as far as its film is loud; long enough to hold frames back."""
    folder, count = tmp_path_factory.mktemp("speaker"), 80
    levels = openings(speech(count, skip=1.0))
    images = [at(face(level), 3 * np.sin(k / 9), 2 * np.cos(k / 7)) for k, level in enumerate(levels)]
    rect = rect_from_mesh(FaceFinder().find(images[0])[0].landmarks, SIDE, SIDE)
    contents: dict[str, Any] = {
        TEMPLATE: write_film(folder / "film.mp4", images),
        RECTS: np.array([[rect.x1, rect.y1, rect.x2, rect.y2]] * count, np.int32),
        FEATURES: np.repeat(levels[:, None], FEATURE_DIM, axis=1).astype(np.float32),
        GENERATOR: tiny_generator(folder / "generator.onnx"),
        ENCODER: tiny_encoder(folder / "encoder.onnx"),
    }
    records = {
        "generator": ModelRecord(file=GENERATOR, licence="CC0-1.0", origin="made by a test"),
        "audio_encoder": ModelRecord(file=ENCODER, licence="CC0-1.0", origin="made by a test"),
    }
    sizes = Sizes(width=SIDE, height=SIDE, frames=count)
    return Avatar.create(folder / "speaker.avatar", Manifest.new("speaker", sizes, models=Models(**records)), contents)


def test_the_lip_limit(speaker: Avatar) -> None:
    asked = questions(speaker, builtin_sound(), 16)
    outputs = np.stack([question.image[:3] for question in asked])  # whoever repeats the frame moves lips as it does
    reference = Reference(speaker, asked, builtin_sound(), REFERENCE.open(generator_of(speaker)), outputs)
    assert "lip gaps, r" not in broken_by(reference, outputs, reduced=True)
    assert "lip gaps, r" in broken_by(reference, np.roll(outputs, 4, axis=0), reduced=True)
    assert "lip gaps, r" in broken_by(reference, np.zeros_like(outputs), reduced=True)  # no face is no lips


def test_checkpoints_are_scored_side_by_side(speaker: Avatar, tmp_path: Path) -> None:
    names = {"good": 0.0, "bright": 3.0}
    paths = [tiny_generator(tmp_path / f"{name}.onnx", gain=gain) for name, gain in names.items()]
    found = contest(speaker, [paths[1], paths[0]])
    assert found.best == "good.onnx"
    assert [score.name for score in found.scores] == ["bright.onnx", "good.onnx", NEAREST]
    bright, good, nearest = found.scores
    assert good.psnr > bright.psnr + 3
    assert good.frames == nearest.frames == 8
    assert max(found.references) < 72 - 25
    assert found.sheet.shape[1] == 4 * ROI_SIZE


def test_a_checkpoint_that_is_another_network(speaker: Avatar, tmp_path: Path) -> None:
    with pytest.raises(LipwrightError, match="takes"):
        contest(speaker, [tiny_encoder(tmp_path / "encoder.onnx")])


def test_too_short_to_hold_frames_back(avatar: Avatar, tmp_path: Path) -> None:
    with pytest.raises(AvatarError, match="too few to hold some back"):
        contest(avatar, [tiny_generator(tmp_path / "a.onnx")])


# --- the fast path --------------------------------------------------------------------------------------------------


def broken_in_fast_path(avatar: Avatar, folder: Path) -> set[str]:
    findings, comparisons = fast_path(avatar, builtin_sound(), range(4), REFERENCE, folder, lambda more: None)
    assert len(comparisons) == 2
    return {finding.what.removeprefix("onnxruntime/f32, ") for finding in findings if finding.verdict == "broken"}


class Touched:
    """A finished frame somebody painted into."""

    def __init__(self, frame: Frame, paint: Callable[[UInt8Array], None]) -> None:
        self.image = frame.image.copy()
        paint(self.image)


def test_the_fast_path_limits(avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert broken_in_fast_path(avatar, tmp_path) == set()
    rendered = fast_room._rendered
    rect = avatar.rect(0)

    def painted(paint: Callable[[UInt8Array], None]) -> None:
        monkeypatch.setattr(
            fast_room, "_rendered", lambda plain, border: (Touched(frame, paint) for frame in rendered(plain, border))
        )

    def corner(image: UInt8Array) -> None:
        image[0, 0] ^= 1

    def pixel(image: UInt8Array) -> None:
        image[rect.y1 + FACE // 2, rect.x1 + FACE // 2] ^= 8

    def patch_of_it(image: UInt8Array) -> None:
        image[rect.y1 + 30 : rect.y1 + 60, rect.x1 + 30 : rect.x1 + 60] ^= 8

    painted(corner)
    assert broken_in_fast_path(avatar, tmp_path) == {f"{b} border: outside the rect" for b in ("soft", "exact")}
    painted(pixel)
    assert broken_in_fast_path(avatar, tmp_path) == {"exact border: largest difference"}
    painted(patch_of_it)
    assert "soft border: 99.9th percentile" in broken_in_fast_path(avatar, tmp_path)


def test_a_render_that_fails_is_a_broken_line(avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise LipwrightError("the film is damaged: copy it again")

    monkeypatch.setattr(Networks, "open", fail)
    findings, _ = fast_path(avatar, builtin_sound(), range(4), REFERENCE, tmp_path, lambda more: None)
    assert [(f.verdict, f.seen) for f in findings] == [("broken", "the film is damaged: copy it again")]


# --- the contract, item by item -------------------------------------------------------------------------------------

Node = onnx.NodeProto
IMAGE, SOUND, ANSWER = "image", "sound", "answer"


def network(path: Path, nodes: Sequence[Node], constants: dict[str, Any] | None = None) -> Path:
    """A generator of ``nodes`` from ``image`` and ``sound``, names that are told apart by shape, to ``answer``."""
    inputs: list[Port] = [(IMAGE, ["n", 6, ROI_SIZE, ROI_SIZE]), (SOUND, ["n", *AUDIO_SHAPE])]
    return save_graph(path, nodes, constants or {}, inputs, [(ANSWER, ["n", 3, ROI_SIZE, ROI_SIZE])])


def picked(channels: Sequence[int]) -> npt.NDArray[np.float32]:
    """Weights [3, 6, 1, 1] of a convolution that picks these channels of the input."""
    return np.eye(6, dtype=np.float32)[list(channels)].reshape(3, 6, 1, 1)


def mouthed(channels: Sequence[int], *more: Node, result: str = ANSWER) -> tuple[list[Node], dict[str, Any]]:
    """Nodes that pick channels and brighten them by the sound; ``more`` follow."""
    nodes = [
        helper.make_node("Conv", [IMAGE, "picked"], ["seen"]),
        helper.make_node("ReduceMean", [SOUND], ["loud"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["loud", "little"], ["some"]),
        helper.make_node("Add", ["seen", "some"], ["sum"]),
        helper.make_node("Clip", ["sum", "zero", "one"], [result]),
        *more,
    ]
    constants = {"picked": picked(channels), "little": np.float32(0.02), "zero": np.float32(0), "one": np.float32(1)}
    return nodes, constants


def then(op: str, value: float, **attributes: Any) -> tuple[list[Node], dict[str, Any]]:
    """A right generator whose answer then goes through one more operation with a constant."""
    nodes, constants = mouthed(
        (0, 1, 2), helper.make_node(op, ["right", "value"], [ANSWER], **attributes), result="right"
    )
    return nodes, {**constants, "value": np.float32(value)}


def not_a_number() -> tuple[list[Node], dict[str, Any]]:
    nodes, constants = then("Sub", 2)
    nodes[-1].output[0] = "negative"
    return [*nodes, helper.make_node("Sqrt", ["negative"], [ANSWER])], constants


def batch_matters() -> tuple[list[Node], dict[str, Any]]:
    more = [
        helper.make_node("ReduceMean", ["right"], ["shared"], axes=[0], keepdims=1),
        helper.make_node("Mul", ["shared", "right"], [ANSWER]),
    ]
    return mouthed((0, 1, 2), *more, result="right")


def dice() -> tuple[list[Node], dict[str, Any]]:
    more = [
        helper.make_node("RandomUniformLike", ["right"], ["noise"], high=0.01, low=0.0),
        helper.make_node("Mul", ["noise", "right"], ["bit"]),
        helper.make_node("Sub", ["right", "bit"], [ANSWER]),
    ]
    return mouthed((0, 1, 2), *more, result="right")


def deaf() -> tuple[list[Node], dict[str, Any]]:
    nodes, constants = mouthed((0, 1, 2))
    return nodes, {**constants, "little": np.float32(0)}


def hears_one() -> tuple[list[Node], dict[str, Any]]:
    nodes, constants = mouthed((0, 1, 2))
    cut = helper.make_node("Slice", [SOUND, "first", "last", "axis"], ["own"])
    nodes[1].input[0] = "own"
    bounds = {"first": np.array([16]), "last": np.array([18]), "axis": np.array([1])}
    return [cut, *nodes], {**constants, **bounds}


WRONG: dict[str, Callable[[], tuple[list[Node], dict[str, Any]]]] = {
    "output: NaN or infinite values": not_a_number,
    "output: range": lambda: then("Mul", 255),
    "colour order": lambda: mouthed((2, 1, 0)),
    "halves of the input": lambda: mouthed((3, 4, 5)),
    "the sound drives the picture": deaf,
    "features of the window": hears_one,
    "batch": batch_matters,
    "asked twice": dice,
}


def broken_items(avatar: Avatar, asked: list[Question], model: Path) -> dict[str, str]:
    subject = Subject(avatar, asked, REFERENCE.open(model))
    return {finding.what: finding.seen for finding in checklist(subject) if finding.verdict == "broken"}


def test_a_right_network_under_other_names_keeps_the_contract(
    avatar: Avatar, asked: list[Question], tmp_path: Path
) -> None:
    assert broken_items(avatar, asked, network(tmp_path / "right.onnx", *mouthed((0, 1, 2)))) == {}


@pytest.mark.parametrize("item", WRONG)
def test_each_item_breaks(item: str, avatar: Avatar, asked: list[Question], tmp_path: Path) -> None:
    broken = broken_items(avatar, asked, network(tmp_path / "wrong.onnx", *WRONG[item]()))
    assert item in broken


@pytest.mark.parametrize(
    ("operation", "hint"),
    [(then("Mul", 255), "0..255"), (then("Sub", 0.5), "-1..1"), (then("Mul", 0), "one colour")],
)
def test_a_wrong_range_is_explained(
    operation: tuple[list[Node], dict[str, Any]], hint: str, avatar: Avatar, asked: list[Question], tmp_path: Path
) -> None:
    assert hint in broken_items(avatar, asked, network(tmp_path / "wrong.onnx", *operation))["output: range"]


def test_a_network_that_answers_in_rgb_turns_skin_blue(avatar: Avatar, asked: list[Question], tmp_path: Path) -> None:
    seen = broken_items(avatar, asked, network(tmp_path / "rgb.onnx", *mouthed((2, 1, 0))))["colour order"]
    assert "skin turned blue" in seen


def test_a_template_in_rgb_is_recognised(tmp_path: Path) -> None:
    right = make_avatar(tmp_path)
    with_blue = write_film(tmp_path / "blue.mp4", [image[..., ::-1].copy() for image in film_of(right)])
    wrong = right.save(tmp_path / "blue.avatar", contents={TEMPLATE: with_blue})
    asked = questions(wrong, builtin_sound(), 3)
    broken = broken_items(wrong, asked, generator_of(wrong))
    assert "skin turned blue" in broken["colour order"]
    assert "red and blue look swapped" in broken["package"]


def film_of(avatar: Avatar) -> list[UInt8Array]:
    film = cv2.VideoCapture(str(avatar.template))
    return [np.asarray(film.read()[1], np.uint8) for _ in range(avatar.frame_count)]


def test_a_changed_file_breaks_the_package(tmp_path: Path) -> None:
    avatar = make_avatar(tmp_path)
    asked = questions(avatar, builtin_sound(), 3)
    features = np.load(avatar.path / FEATURES)
    np.save(avatar.path / FEATURES, np.ones_like(features))
    broken = broken_items(Avatar.open(avatar.path), asked, generator_of(avatar))
    assert "sha256" in broken["package"]
    assert "features of the template" in broken


def test_mask_and_window_of_another_family(avatar: Avatar, asked: list[Question]) -> None:
    manifest = avatar.manifest
    window = manifest.window.model_copy(update={"past": 4})
    other = Avatar(avatar.path, manifest.model_copy(update={"mask": (0, 0, 320, 160), "window": window}))
    assert {"mask", "window"} <= set(broken_items(other, asked, generator_of(avatar)))


def test_rects_that_jump_and_rects_that_are_missing(tmp_path: Path) -> None:
    avatar = make_avatar(tmp_path)
    asked = questions(avatar, builtin_sound(), 3)
    rects = avatar.rects.copy()
    rects[6:, [0, 2]] += 40
    jumping = avatar.save(tmp_path / "jumping.avatar", contents={RECTS: rects})
    assert set(broken_items(jumping, asked, generator_of(avatar))) == {"rects: steps"}
    cut = jumping.manifest.changed(segments=[{"start": 0, "stop": 6}, {"start": 6, "stop": 12}])
    assert broken_items(Avatar(jumping.path, cut), asked, generator_of(avatar)) == {}
    none = avatar.save(tmp_path / "none.avatar", contents={RECTS: np.full_like(rects, -1)})
    assert "rects: usable" in broken_items(none, asked, generator_of(avatar))
    with pytest.raises(AvatarError, match="no frame from 0 on has a usable face"):
        questions(none, builtin_sound(), 3)


def test_an_encoder_of_another_shape(avatar: Avatar, asked: list[Question], tmp_path: Path) -> None:
    folder = tmp_path / "other.avatar"
    shutil.copytree(avatar.path, folder)
    tiny_generator(folder / ENCODER)
    broken = broken_items(Avatar(folder, avatar.manifest), asked, generator_of(avatar))
    assert "audio encoder: inputs and outputs" in broken


# --- the command ----------------------------------------------------------------------------------------------------


def run(*args: str | Path) -> int:
    with pytest.raises(SystemExit) as leaving:
        cli.main([str(arg) for arg in args])
    return int(leaving.value.code or 0)


def test_the_command_leaves_with_1_where_a_limit_is_broken(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    avatar = make_avatar(tmp_path)
    options = ("--runtime", "openvino/f32", "--frames", "3")
    assert run("check", avatar.path, "-o", tmp_path / "report", *options) == 0
    assert "limits are kept" in capfd.readouterr().out
    wrong = avatar.put_model("generator", network(tmp_path / "rgb.onnx", *mouthed((2, 1, 0))), licence="x", origin="y")
    assert run("check", wrong.path, "-o", tmp_path / "report", *options) == 1
    assert "BAD  contract: colour order" in capfd.readouterr().out
    assert json.loads((tmp_path / "report" / "check.json").read_text(encoding="utf-8"))["broken"] >= 1


def test_a_way_that_does_not_exist(avatar: Avatar, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("check", avatar.path, "-o", tmp_path, "--runtime", "openvino/int3") == 1
    assert "RUNTIME/f32" in capfd.readouterr().err
