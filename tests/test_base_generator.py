"""A base generator: people from a seed, packs of many people as one, and what a base is worth."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lipwright.avatar import Avatar, builtin_avatar
from lipwright.contract import FPS, ROI_SIZE, SAMPLE_RATE
from lipwright.errors import LipwrightError
from lipwright.models.generator import Generator
from lipwright.training import lessons
from lipwright.training.base import base_width, exported_weights
from lipwright.training.loop import Phase
from lipwright.training.pack import Pack
from lipwright.training.plan import Plan, without
from lipwright.training.speech import Speech, own_speech
from networks import formula_weights
from people import person
from presenter_head import make_head
from tools import running
from tools.presenter import skin, train_base
from tools.presenter.backdrop import Backdrop, room
from tools.presenter.compare_base import Row, compare, generator_file, needed, plan_for, table, verdict
from tools.presenter.crowd import CrowdSampler, mouth_scale, wholly
from tools.presenter.figure import Figure
from tools.presenter.film_people import Known, film, scripts_of
from tools.presenter.lights import KEY, Light, room_light
from tools.presenter.make_people import hearing, known, make_people, readers, script_for
from tools.presenter.people import Sitter, sitter
from tools.presenter.place import Place
from tools.presenter.render import claim, frame_path
from tools.presenter.script import Script
from tools.presenter.talk import Talk
from tools.presenter.train import PHASES as LESSONS
from tools.speech.phones import Phone, shapes_of_cmu
from tools.speech.texts import held_out

WORDS = "pau hh ax l ow m aa m pau"
FILMED = 3


# --- people -----------------------------------------------------------------------------------------------------------
def test_people_are_the_same_for_the_same_seed_and_no_two_are_alike() -> None:
    people = [sitter(1, number) for number in range(20)]
    assert people == [sitter(1, number) for number in range(20)]
    assert len({each.person.identity for each in people}) == len({each.place for each in people}) == 20
    assert sitter(2, 0) != people[0]


def test_skins_spread_from_fair_to_dark_and_dark_people_have_dark_hair_and_eyes() -> None:
    people = [sitter(3, number).person for number in range(30)]
    green = np.array([p.skin.tone[1] for p in people])
    assert green.min() < 0.26 and green.max() > 0.60 and np.abs(np.diff(np.sort(green))).max() < 0.06
    dark = [p for p in people if p.skin.tone[1] < 0.3]
    assert dark and all(max(p.iris) < 0.25 and p.skin.redness < 0.6 for p in dark)
    assert {p.hair.style for p in people} == {"short", "tied"}
    assert {p.skin.stubble > 0 for p in people} == {True, False}
    assert max(abs(v) for p in people for v in p.identity) < 2


def test_a_camera_that_sees_a_dim_room_or_a_dark_skin_is_set_brighter() -> None:
    people = [sitter(4, number) for number in range(40)]
    light = [each.place.light.key.strength * each.place.light.key.towards[2] for each in people]
    exposure = np.log([each.look.exposure for each in people])
    assert np.corrcoef(np.log(light), exposure)[0, 1] < -0.4
    assert np.corrcoef([each.person.skin.tone[1] for each in people], exposure)[0, 1] < -0.4


def test_voices_are_those_that_may_be_heard() -> None:
    for number in range(12):
        chosen = readers(np.random.default_rng(number), bearded=number % 2 == 0)
        assert len({reader.voice.voice for reader in chosen}) == 2
        assert not {f"flite:{reader.voice.voice}" for reader in chosen} & set(held_out().voices)
        assert all((reader.lift > 1.1) == (number % 2 == 1) or reader.lift < 1.15 for reader in chosen)


# --- places -----------------------------------------------------------------------------------------------------------
def test_a_key_light_from_the_right_and_a_dimmer_room() -> None:
    usual, light = room_light(), Light()
    assert np.array_equal(room_light(Light()).colour, usual.colour)
    x, y, z = light.key.towards
    other = room_light(replace(light, key=replace(light.key, towards=(-x, y, z), strength=1.0), room=0.1))
    before, after = usual.lamps(), other.lamps()
    assert after[0][KEY, 0] == pytest.approx(-before[0][KEY, 0], abs=0.02)
    assert after[1][KEY].sum() == pytest.approx(before[1][KEY].sum() / 2.25)
    assert other.colour.sum() < usual.colour.sum()


def test_a_backdrop_is_mirrored_emptied_and_dimmed() -> None:
    usual, mirrored = room(160, 90, 5), room(160, 90, 5, Backdrop(mirrored=True))
    assert np.allclose(mirrored[:, ::-1], usual, atol=0.02)
    bare = room(160, 90, 5, Backdrop(window=False, shelf=False, plant=False))
    assert bare.std() < 0.5 * usual.std()
    assert np.allclose(room(160, 90, 5, Backdrop(brightness=0.5)), usual / 2, atol=1e-6)


# --- scripts and packs ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def figure() -> Figure:
    return Figure(make_head(), small(1).person)


def small(number: int) -> Sitter:
    """Somebody with few hairs, filmed small."""
    who = sitter(1, number)
    thin = replace(who.person, hair=replace(who.person.hair, strands=300, brow_strands=60))
    return replace(who, person=thin, camera=replace(who.camera, width=160, height=90))


def said() -> Talk:
    names = WORDS.split()
    phones = tuple(Phone(s, 0.12 * k, 0.12 * (k + 1), shapes_of_cmu(s)) for k, s in enumerate(names))
    count = int(phones[-1].end * FPS) * SAMPLE_RATE // FPS
    sound = 9000 * np.sin(np.arange(count) / 9) * np.sin(np.arange(count) / 900)
    return Talk(sound.astype(np.int16), phones, ("Hello.",))


@pytest.fixture(scope="module")
def filmed(figure: Figure, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The head model's file, and a folder with a person of FILMED frames."""
    folder = tmp_path_factory.mktemp("filmed")
    figure.head.save(folder / "head.npz")
    script = script_for(figure, small(1), said(), FILMED, 7)
    hear = hearing(Avatar.open(builtin_avatar()))
    known(figure, script, said(), hear, 3).save(script.save(folder / "people"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(skin, "TILES", (128, 64))
        yield folder / "head.npz", folder / "people"


def test_a_script_keeps_its_place_and_the_usual_one_is_not_written(figure: Figure, tmp_path: Path) -> None:
    script = script_for(figure, small(1), said(), 5, 7)
    assert Script.load(script.save(tmp_path)).place == small(1).place != Place()
    usual = replace(script, place=Place()).save(tmp_path)
    assert "place" not in json.loads(usual.read_text()) and Script.load(usual).place == Place()


def test_what_is_known_before_filming(filmed: tuple[Path, Path]) -> None:
    (script,) = scripts_of(filmed[1])
    found = Known.load(script)
    assert (
        found.rects.shape == (FILMED, 4)
        and found.mouth.shape == (FILMED, 14)
        and found.features.shape == (3, FILMED, 512)
    )
    assert not np.array_equal(found.features[0], found.features[1])
    lips = found.landmarks[:, found.lips]
    assert lips.min() > 0 and lips.max() < ROI_SIZE
    assert np.abs(found.landmarks[:, 0, 0]).max() < 20  # the temple is the ROI's left edge


def test_a_face_outside_the_picture_is_refused(figure: Figure) -> None:
    who = small(1)
    aside = replace(who, camera=replace(who.camera, target=(30.0, 0.0, 3.0)))
    with pytest.raises(LipwrightError, match=r"p001 leaves the picture.*--seed"):
        known(figure, script_for(figure, aside, said(), 3, 7), said(), lambda samples: samples, 1)


def test_a_person_is_filmed_into_a_pack_once_and_a_damaged_frame_is_named(
    filmed: tuple[Path, Path], tmp_path: Path
) -> None:
    head, people = filmed
    (script,) = scripts_of(people)
    frames = tmp_path / "frames" / script.stem
    claim(frames, script)
    frame_path(frames, 1, "jpg").write_bytes(b"half a frame")
    with pytest.raises(LipwrightError, match=r"frame 1 .*delete it"):
        film(head, script, tmp_path)
    frame_path(frames, 1, "jpg").unlink()
    path = film(head, script, tmp_path)
    pack = Pack.load(path)
    assert pack.rois[:].shape == (FILMED, ROI_SIZE, ROI_SIZE, 3) and pack.held_out == (FILMED, FILMED)
    assert np.array_equal(pack.landmarks, Known.load(script).landmarks)
    assert pack.rois[:].std() > 5 and not list((tmp_path / "frames").iterdir())
    made = path.stat().st_mtime_ns
    assert film(head, script, tmp_path) == path and path.stat().st_mtime_ns == made


def test_people_who_are_there_are_not_written_again(figure: Figure, tmp_path: Path) -> None:
    for number in range(2):
        path = tmp_path / f"p{number:03d}.json"
        np.savez(Known.path(path), rects=np.zeros((1, 4), np.int32))
    # no voice is needed and nothing is heard
    paths = make_people(figure.head, tmp_path, range(2), 12, 1, 3, lambda samples: samples)
    assert [p.name for p in paths] == ["p000.json", "p001.json"] and not any(p.exists() for p in paths)


def test_missing_people_say_who_makes_them(tmp_path: Path) -> None:
    with pytest.raises(LipwrightError, match="make_people"):
        scripts_of(tmp_path)
    with pytest.raises(LipwrightError, match=r"p000_known\.npz.*make_people"):
        Known.load(tmp_path / "p000.json")


# --- many packs as one ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def packs() -> list[Pack]:
    """Three people who are easily told apart: by their brightness."""
    plain = person()
    return [replace(plain, rois=(plain.rois[:] // 4 + 64 * k).astype(np.uint8)) for k in range(3)]


def test_a_pack_with_nothing_held_out_is_learnt_from_wholly(packs: list[Pack]) -> None:
    few = replace(packs[1], **{n: getattr(packs[1], n)[:40] for n in ("rois", "landmarks", "mouth")}, held_out=(30, 40))
    assert wholly(few).training_frames().tolist() == list(range(40))


def test_every_batch_holds_many_people_and_references_are_of_the_same_one(packs: list[Pack]) -> None:
    sampler = CrowdSampler(packs, seed=5)
    for step in range(3):
        batch = sampler.batch(step, 7, 160)
        reference, truth = batch.x[:, :3].mean(dim=(1, 2, 3)), batch.y.mean(dim=(1, 2, 3))
        assert torch.allclose(reference, truth, atol=0.03)
        who = torch.round((truth - truth.min()) / 0.25).int().tolist()
        assert {who.count(k) for k in range(3)} == {2, 3}
        assert batch.mouth.shape == (7, 2) and batch.audio.shape == (7, 32, 16, 16)


def test_a_step_gets_the_same_batch_whenever_it_is_asked(packs: list[Pack]) -> None:
    one, two = CrowdSampler(packs, seed=5), CrowdSampler(packs, seed=5)
    one.batch(0, 4, 160)
    for first, second in (
        (one.batch(9, 4, 160), two.batch(9, 4, 160)),
        (one.clips(3, 10, 160, 5), two.clips(3, 10, 160, 5)),
    ):
        assert first is not None and second is not None
        for field in ("x", "y", "audio", "mouth", "weight"):
            assert torch.equal(getattr(first, field), getattr(second, field)), field
    assert not torch.equal(one.batch(8, 4, 160).y, two.batch(9, 4, 160).y)


def test_clips_are_of_one_person_each(packs: list[Pack]) -> None:
    batch = CrowdSampler(packs, seed=5).clips(1, 15, 160, 5)
    assert batch is not None and batch.heard is not None
    assert batch.clip == 5 and len(batch.y) == 15 and batch.heard.shape == (3, 2, 5, 512)
    brightness = batch.y.mean(dim=(1, 2, 3)).reshape(3, 5)
    assert brightness.std(dim=1).max() < 0.02 < 0.1 < brightness.mean(dim=1).std()
    short = [replace(p, cuts=tuple(range(len(p.rois)))) for p in packs]
    assert CrowdSampler(short, seed=5).clips(1, 15, 160, 5) is None


def test_frames_are_counted_through_all_packs(packs: list[Pack]) -> None:
    count = len(packs[0].rois)
    batch = CrowdSampler(packs, seed=5).samples(np.array([3, 2 * count + 3]), 160, np.random.default_rng(0))
    assert torch.allclose(batch.mouth[0], batch.mouth[1])
    assert batch.y[1].mean() - batch.y[0].mean() == pytest.approx(128 / 255, abs=0.01)


def test_the_mouth_is_scaled_by_everybody(packs: list[Pack]) -> None:
    wide = replace(packs[1], mouth=packs[1].mouth * 3 + 1)
    mean, spread = mouth_scale([packs[0], wide])
    both = np.concatenate([p.mouth[p.training_frames()] for p in (packs[0], wide)])
    assert np.allclose(mean, both.mean(axis=0)) and np.allclose(spread, both.std(axis=0), atol=1e-5)
    with pytest.raises(LipwrightError, match=r"\[2, 3\] channels"):
        mouth_scale([packs[0], replace(packs[1], mouth=np.zeros((len(packs[1].mouth), 3), np.float32))])


# --- training ---------------------------------------------------------------------------------------------------------
PHASES = (Phase("draw", 160, 2, 1, 1e-3), Phase("listen", 0, 2, 1, 1e-3), Phase("speak160", 160, 2, 2, 1e-3))


@pytest.fixture(scope="module")
def speech(packs: list[Pack]) -> Speech:
    return own_speech(packs[0])


@pytest.fixture(scope="module")
def base(packs: list[Pack], speech: Speech, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Generator]:
    run = tmp_path_factory.mktemp("base")
    return run, train_base.train_base(packs[:2], speech, run, PHASES, "mobile", "cpu")


def test_a_base_that_was_interrupted_ends_like_one_that_was_not(
    base: tuple[Path, Generator], packs: list[Pack], speech: Speech, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lessons, "speaking", stopped)
        train_base.train_base(packs[:2], speech, tmp_path, PHASES, "mobile", "cpu")
    assert not (tmp_path / train_base.WEIGHTS).exists()
    resumed = train_base.train_base(packs[:2], speech, tmp_path, PHASES, "mobile", "cpu").state_dict()
    saved = torch.load(base[0] / train_base.WEIGHTS, weights_only=True)
    for name, value in base[1].state_dict().items():
        assert torch.equal(value, resumed[name]) and torch.equal(value, saved[name]), name


def test_strangers_are_scored_beside_what_costs_nothing(base: tuple[Path, Generator], packs: list[Pack]) -> None:
    shorter = replace(packs[2], held_out=(len(packs[2].rois) - 12, len(packs[2].rois)))
    scores = train_base.strangers_scores(base[1], [shorter], "cpu")
    assert set(scores) == {"base", "nearest pose", "mean picture", "truth"}
    psnr = scores["base"]["psnr"]
    assert psnr is not None and 0 < psnr < 40 and scores["truth"]["ssim"] == pytest.approx(1)


def test_a_folder_belongs_to_one_training(tmp_path: Path) -> None:
    running.claim(tmp_path / "run", {"packs": ["a"]})
    running.claim(tmp_path / "run", {"packs": ["a"]})
    with pytest.raises(LipwrightError, match="other files or arguments"):
        running.claim(tmp_path / "run", {"packs": ["b"]})


def test_a_base_is_written_as_an_avatar_to_start_from(base: tuple[Path, Generator], tmp_path: Path) -> None:
    train_base.save_avatar(base[0] / train_base.WEIGHTS, tmp_path / "base.avatar")
    made, presenter = Avatar.open(tmp_path / "base.avatar"), Avatar.open(builtin_avatar())
    assert made.manifest.encoder.sha256 == presenter.manifest.encoder.sha256
    assert made.weights is None and made.manifest.models.generator is not None
    assert "train_base" in made.manifest.models.generator.origin
    weights = exported_weights(generator_file(tmp_path / "base.avatar"))
    assert base_width(weights) == "mobile"


# --- what a base is worth ---------------------------------------------------------------------------------------------
def rows(start: str, *scores: float) -> list[Row]:
    return [Row(start, 1000 * 4**k, "none", score, score / 40, None, 0.5) for k, score in enumerate(scores)]


def test_samples_that_a_base_needs_are_interpolated() -> None:
    found = needed([*rows("scratch", 20, 22, 24), *rows("base", 22, 25, 26)], "psnr")
    assert found["scratch"] == 16_000 and found["score"] == 24 and not found["at_most"]
    assert found["base"] == pytest.approx(1000 * 4 ** (2 / 3)) and found["share"] == pytest.approx(4 ** (2 / 3) / 16)
    assert "from the base with 2520, 0.16 of them" in verdict("psnr", found)


@pytest.mark.parametrize(
    ("scores", "said"),
    [((25.0, 26.0, 27.0), "at most 1000, at most 0.06"), ((19.0, 20.0, 21.0), "not reached from the base")],
)
def test_a_base_may_need_less_than_was_tried_or_never_get_there(scores: tuple[float, ...], said: str) -> None:
    assert said in verdict("psnr", needed([*rows("scratch", 20, 22, 24), *rows("base", *scores)], "psnr"))


def test_what_cannot_be_measured_is_said() -> None:
    both = [*rows("scratch", 20), *rows("base", 21)]
    assert verdict("lip_gap_r", needed(both, "lip_gap_r")) == "lip_gap_r: not measurable on this film"
    assert "| base (none) | 1000 | 21.0 | 0.525 | - | 0.500 |" in table(both, {})


def test_a_plan_looks_at_as_many_pictures_as_were_asked_for() -> None:
    for phases in (LESSONS, without(LESSONS, "draw")):
        plan = plan_for(8000, "full", 300, phases)
        seen = sum(phase.steps * phase.batch for phase in plan.phases if phase.size)
        assert 8000 <= seen < 8000 + sum(phase.batch for phase in plan.phases)
        listen = next(phase for phase in plan.phases if phase.name == "listen")
        assert listen in plan_for(2000, "full", 300, phases).phases
        assert plan.checked_frames == 48 and plan.folded
        short = plan_for(8000, "full", 300, phases, unseen_steps=7)
        assert [short.expert.steps] + [p.steps for p in short.phases if not p.size] == [7, 7]
        assert [p for p in short.phases if p.size] == [p for p in plan.phases if p.size]


def tiny(samples: int, width: str, held: int, phases: Sequence[Phase]) -> Plan:
    assert width == "mobile"
    plan = plan_for(samples, "mobile", held, phases)
    phases = tuple(replace(p, batch=1, steps=min(p.steps, 2)) for p in plan.phases)
    return replace(plan, phases=phases, expert=replace(plan.expert, steps=1, batch=4), checks=1, checked_frames=4)


def test_both_starts_are_compared_and_nothing_is_trained_twice(tmp_path: Path) -> None:
    start = {name: value.numpy() for name, value in formula_weights(Generator("mobile")).state_dict().items()}
    found, beside = compare(person(held_out=(230, 260)), start, [8], tmp_path, "cpu", tiny)
    assert [(row.start, row.began_from) for row in found] == [("scratch", "none"), ("base", "whole generator")]
    assert found[0].psnr != found[1].psnr and set(beside) == {"nearest pose", "mean picture", "truth"}
    made = (tmp_path / "base8" / "speak320.pth").stat().st_mtime_ns
    again, _ = compare(person(held_out=(230, 260)), start, [8], tmp_path, "cpu", tiny)
    assert again == found and (tmp_path / "base8" / "speak320.pth").stat().st_mtime_ns == made


def test_of_what_the_pack_brings_scratch_takes_the_ear_alone(tmp_path: Path) -> None:
    start = {name: value.numpy() for name, value in formula_weights(Generator("mobile")).state_dict().items()}
    brought = person(held_out=(230, 260), base=start)
    found, _ = compare(brought, start, [8], tmp_path, "cpu", tiny)
    assert [(row.start, row.began_from) for row in found] == [("scratch", "ear"), ("base", "whole generator")]
