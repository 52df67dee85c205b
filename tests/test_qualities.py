"""An avatar with a second generator: opened, chosen, proven and drawn with like the first, and never by mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avatars import make_avatar, tiny_encoder, tiny_generator
from command import Command
from lipwright.avatar import FAST_GENERATOR, GENERATOR, WEIGHTS, Avatar, builtin_avatar, builtin_sound
from lipwright.bench.measures import Task
from lipwright.bench.walk import Plan, tasks
from lipwright.contract import FloatArray
from lipwright.errors import AvatarError, RuntimeUnavailableError
from lipwright.render import Networks
from lipwright.runtimes.torch import find_weights, weights_beside
from lipwright.serve.faces import Face
from lipwright.training.collect import PRESENTER, find_beginning
from lipwright.trial import Way, generator_of

DEMO = builtin_sound()
ONNX = Way("onnxruntime", "f32")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    """An avatar with one generator, of full quality."""
    folder = tmp_path_factory.mktemp("plain")
    made, wide = make_avatar(folder, name="plain"), tiny_generator(folder / "wide.onnx")
    return made.put_model("generator", wide, licence="CC0-1.0", origin="made by a test", width="full")


@pytest.fixture
def both(plain: Avatar, tmp_path: Path) -> Avatar:
    """The same with a second one, whose mouth follows the sound four times as much."""
    copy = plain.save(tmp_path / "both.avatar")
    fast = tiny_generator(tmp_path / "fast.onnx", gain=0.2)
    return copy.put_model("generator_fast", fast, licence="CC0-1.0", origin="made by a test", width="mobile")


def drawn(avatar: Avatar) -> FloatArray:
    """A grey picture to a constant sound."""
    networks = Networks.open(avatar, "onnxruntime")
    grey = np.full((1, 6, 320, 320), 0.25, np.float32)
    return networks.draw(grey, np.ones((1, 32, 16, 16), np.float32))


# --- a base -----------------------------------------------------------------------------------------------------------


def test_a_training_begins_from_the_generator_as_wide_as_its_own(both: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    presenter = Avatar.open(builtin_avatar())
    taken: list[Path] = []

    def exported(model: Path) -> dict[str, FloatArray]:
        taken.append(model)
        return {}

    monkeypatch.setattr("lipwright.training.base.exported_weights", exported)
    find_beginning(both, both, "full")
    find_beginning(both, both, "mobile")
    assert find_beginning(presenter, None, "full").name == PRESENTER
    find_beginning(presenter, None, "mobile")
    assert taken == [each.path / file for each in (both, presenter) for file in (GENERATOR, FAST_GENERATOR)]


# --- choice ---------------------------------------------------------------------------------------------------------


def test_an_avatar_is_of_full_quality_unless_another_is_chosen(both: Avatar) -> None:
    assert (both.quality, both.qualities) == ("full", ("full", "fast"))
    fast = both.at("fast")
    assert (both.generator, fast.generator) == (both.path / GENERATOR, both.path / FAST_GENERATOR)
    assert fast.drawing is not None
    assert (fast.drawing.file, fast.drawing.width) == (FAST_GENERATOR, "mobile")
    assert fast.encoder == both.encoder
    assert fast.at("full") == both
    assert Avatar.open(fast.path) == both, "the choice is not written down"


def test_the_chosen_generator_draws(both: Avatar) -> None:
    assert drawn(both).max() == pytest.approx(0.30, abs=1e-6)
    assert drawn(both.at("fast")).max() == pytest.approx(0.45, abs=1e-6)


def test_sessions_are_drawn_by_the_chosen_one(both: Avatar) -> None:
    for avatar, brightest in ((both, 0.30), (both.at("fast"), 0.45)):
        face = Face.open(avatar, "onnxruntime")
        grey = np.full((1, 6, 320, 320), 0.25, np.float32)
        answer = face.networks.draw(grey, np.ones((1, 32, 16, 16), np.float32))
        face.close()
        assert answer.max() == pytest.approx(brightest, abs=1e-6)


def test_an_avatar_without_a_fast_one_says_how_to_make_it(plain: Avatar) -> None:
    assert plain.qualities == ("full",)
    assert plain.manifest.models.generator_fast is None
    assert plain.at("full") == plain
    with pytest.raises(AvatarError, match=r"has no fast generator: .*lipwright export .* --fast WEIGHTS\.pth"):
        plain.at("fast")


def test_an_only_generator_of_mobile_width_is_fast_enough(plain: Avatar, tmp_path: Path) -> None:
    copy, narrow = plain.save(tmp_path / "narrow.avatar"), tiny_generator(tmp_path / "narrow.onnx", gain=0.2)
    avatar = copy.put_model("generator", narrow, licence="CC0-1.0", origin="made by a test", width="mobile")
    assert avatar.at("fast") == avatar
    assert drawn(avatar.at("fast")).max() == pytest.approx(0.45, abs=1e-6)


def test_saving_keeps_both_whatever_is_chosen(both: Avatar, tmp_path: Path) -> None:
    saved = both.at("fast").save(tmp_path / "copy.avatar")
    assert saved.manifest == both.manifest
    assert saved.verify() == []


# --- the package ----------------------------------------------------------------------------------------------------


def test_a_manifest_from_before_there_were_two_opens(plain: Avatar, tmp_path: Path) -> None:
    old = plain.save(tmp_path / "old.avatar")
    data = json.loads((old.path / "avatar.json").read_text(encoding="utf-8"))
    assert data["format_version"] == 1
    del data["models"]["generator_fast"]
    (old.path / "avatar.json").write_text(json.dumps(data), encoding="utf-8")
    assert Avatar.open(old.path) == old


def remove(avatar: Avatar) -> None:
    (avatar.path / FAST_GENERATOR).unlink()


def unlist(avatar: Avatar) -> None:
    text = (avatar.path / "avatar.json").read_text(encoding="utf-8")
    data = json.loads(text)
    del data["files"][FAST_GENERATOR]
    (avatar.path / "avatar.json").write_text(json.dumps(data), encoding="utf-8")


@pytest.mark.parametrize(
    ("harm", "message"), [(remove, "is missing"), (unlist, "generator_fast.file .* is not listed")]
)
def test_a_package_that_lacks_it_does_not_open(harm: Callable[[Avatar], None], message: str, both: Avatar) -> None:
    harm(both)
    with pytest.raises(AvatarError, match=message):
        Avatar.open(both.path)


def test_verify_looks_into_it(both: Avatar, tmp_path: Path) -> None:
    assert both.verify() == []
    wrong = both.put_model("generator_fast", tiny_encoder(tmp_path / "e.onnx"), licence="x", origin="y")
    (problem,) = wrong.verify()
    assert "model_fast.onnx" in problem
    assert "a generator takes" in problem
    (both.path / FAST_GENERATOR).write_bytes(b"damaged")
    assert any("model_fast.onnx: sha256" in problem for problem in both.verify())
    assert any("model_fast.onnx is damaged" in problem for problem in both.verify())


def test_both_belong_to_one_encoder(both: Avatar, tmp_path: Path) -> None:
    """The binding is the avatar's: an encoder that is not the bound one is refused for both."""
    with pytest.raises(AvatarError, match="not the audio encoder that the generator hears by"):
        both.put_model("audio_encoder", tiny_encoder(tmp_path / "e.onnx", seed=9), licence="x", origin="y")


def test_the_weights_of_the_first_are_not_those_of_the_second(both: Avatar, tmp_path: Path) -> None:
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"not looked at")
    trained = both.put_model("generator_weights", weights, licence="x", origin="y")
    assert weights_beside(generator_of(trained)) == trained.path / WEIGHTS
    fast = generator_of(trained.at("fast"))
    assert weights_beside(fast) is None
    with pytest.raises(RuntimeUnavailableError, match=r"put model_fast\.pth there"):
        find_weights(fast)


# --- the command ----------------------------------------------------------------------------------------------------


def test_render_in_either_quality(lipwright: Command, both: Avatar, tmp_path: Path) -> None:
    common = ("render", DEMO, "--avatar", both.path, "--frames", 2, "--runtime", "onnxruntime", "--json")
    qualities = {}
    for quality in ("full", "fast"):
        told = lipwright(*common, "-o", tmp_path / f"{quality}/", "--quality", quality).json
        qualities[told["quality"]] = (tmp_path / quality / "000000.png").read_bytes()
    assert qualities["full"] != qualities["fast"]
    again = lipwright(*common, "-o", tmp_path / "default/").json
    assert again["quality"] == "full"
    assert (tmp_path / "default" / "000000.png").read_bytes() == qualities["full"]


@pytest.mark.parametrize("command", ["render", "check", "bench", "vectors"])
def test_a_quality_that_is_not_there_is_one_line(
    command: str, lipwright: Command, plain: Avatar, tmp_path: Path
) -> None:
    named = (DEMO, "--avatar", plain.path) if command == "render" else (plain.path,)
    told = lipwright(command, *named, "-o", tmp_path / "out", "--quality", "fast")
    assert (told.code, told.err.count("\n")) == (1, 1)
    assert "lipwright export" in told.err
    assert not (tmp_path / "out").exists()


def test_info_names_both(lipwright: Command, both: Avatar, plain: Avatar) -> None:
    told = lipwright("info", both.path).out
    assert "draws in: full and fast quality" in told
    assert f"generator_fast: {FAST_GENERATOR}" in told
    assert lipwright("info", both.path, "--json").json["qualities"] == ["full", "fast"]
    assert "draws in: full quality" in lipwright("info", plain.path).out


# --- bench ----------------------------------------------------------------------------------------------------------


def planned(avatar: Avatar, plan: Plan) -> list[tuple[str, str, str]]:
    base = Task("inference", "it", str(avatar.path), str(DEMO))
    return [(task.kind, task.label, task.quality) for task in tasks(avatar, plan, base)]


def test_bench_has_a_row_for_each_quality(both: Avatar, plain: Avatar) -> None:
    assert planned(both, Plan([ONNX])) == [
        ("inference", "onnxruntime/f32", "full"),
        ("render", "onnxruntime/f32", "full"),
        ("inference", "onnxruntime/f32, fast quality", "fast"),
        ("render", "onnxruntime/f32, fast quality", "fast"),
        ("baseline", "baseline: sequential, onnxruntime/f32", "full"),
    ]
    only = planned(both, Plan([ONNX], quality="fast"))
    assert [quality for kind, _, quality in only if kind != "baseline"] == ["fast", "fast"]
    assert {quality for _, _, quality in planned(plain, Plan([ONNX]))} == {"full"}


def test_slow_processors_have_their_rows_in_both_qualities(both: Avatar) -> None:
    rows = planned(both, Plan([Way("openvino", "f32")]))
    limited = [(kind, quality) for kind, label, quality in rows if "AVX2 only" in label]
    expected = [(kind, quality) for quality in ("full", "fast") for kind in ("inference", "render")]
    assert limited in (expected, []), "processors other than x86 have none"


def test_the_measured_process_draws_with_the_quality_it_was_told(both: Avatar) -> None:
    from lipwright.bench.worker import inference

    task = Task("inference", "it", str(both.path), str(DEMO), "onnxruntime", "f32", frames=1, quality="fast")
    (both.path / GENERATOR).write_bytes(b"damaged")
    assert inference(task, 0.0, lambda done: None).frames == 1
    with pytest.raises(AvatarError, match="model_best"):
        inference(replace(task, quality="full"), 0.0, lambda done: None)
