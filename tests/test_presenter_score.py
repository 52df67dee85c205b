"""tools/presenter/measure: each figure of a case notices what it is there for, on a film whose truth is known."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from lipwright.avatar import builtin_avatar
from lipwright.contract import FPS, SAMPLE_RATE, FloatArray, UInt8Array
from lipwright.face import meshes
from lipwright.quality import closed_lips, psnr
from lipwright.training.pack import Pack
from media import write_film
from talking import ROOT, SIDE, face
from tools.presenter import measure
from tools.presenter.film import Film
from tools.presenter.measure import Case, Task, held_back, load_rois, make_task, paired, pasted, phones_of, score
from tools.presenter.pack import HELD_OUT

#: How far the mouth is open in each frame: it talks, keeps still, and talks again.
TALK = (1 - np.cos(np.arange(24) * 2 * np.pi / 8)) / 2
OPENINGS = np.concatenate([TALK, np.zeros(20), TALK])
PHONES = [["aa", 0.0, 0.96], ["pau", 0.96, 1.6], ["m", 1.6, 1.76], ["aa", 1.76, 2.72]]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    folder, count = tmp_path_factory.mktemp("film"), len(OPENINGS)
    picture = cv2.imread(str(ROOT / "tests" / "data" / "face" / "open.jpg"))
    assert picture is not None
    points = np.load(ROOT / "tests" / "data" / "face" / "landmarks68.npy")[0] * (SIDE / picture.shape[1])
    sound = np.zeros((count * SAMPLE_RATE // 25, 1), np.float32)
    write_film(folder / "nod.mp4", [face(opening) for opening in OPENINGS], samples=sound)
    truth = {"landmarks68": np.repeat(points[None], count, axis=0).astype(np.float32), "lip_gap": OPENINGS}
    np.savez(folder / "nod_truth.npz", allow_pickle=False, **truth)
    (folder / "nod_truth.json").write_text(json.dumps({"phones": PHONES}), encoding="utf-8")
    return Film.open(folder / "nod.mp4")


@pytest.fixture(scope="module")
def pack(film: Film) -> Pack:
    return load_rois(film)


@pytest.fixture(scope="module")
def task(film: Film, pack: Pack) -> Task:
    return make_task("all of it", film, pack, range(len(OPENINGS)))


@pytest.fixture(scope="module")
def mesh(task: Task) -> FloatArray:
    return meshes(pasted(task, task.rois))


def scored(task: Task, rois: UInt8Array, mesh: FloatArray) -> dict[str, float]:
    return score(task, Case("case", rois), mesh)


@pytest.fixture(scope="module")
def truth(task: Task, mesh: FloatArray) -> dict[str, float]:
    return scored(task, task.rois, mesh)


def test_the_truth_is_like_itself(truth: dict[str, float]) -> None:
    assert truth["psnr_db"] > 60 and truth["ssim"] == pytest.approx(1) and truth["sharpness"] == pytest.approx(1)
    assert truth["lip_gap_r"] > 0.95 and truth["lip_gap_lag"] == 0 and truth["lip_gap_amplitude"] == pytest.approx(1)
    assert truth["lmd"] == pytest.approx(0, abs=1e-6)


def test_a_blurred_mouth_is_as_well_timed_and_not_as_sharp(
    task: Task, mesh: FloatArray, truth: dict[str, float]
) -> None:
    found = scored(task, np.stack([cv2.GaussianBlur(roi, (0, 0), 4) for roi in task.rois]), mesh)
    assert found["sharpness"] < 0.5 and found["psnr_db"] < truth["psnr_db"] - 20 and found["ssim"] < 0.95
    assert found["lip_gap_r"] > 0.9


def test_a_frozen_mouth_follows_nothing(task: Task, mesh: FloatArray) -> None:
    found = scored(task, np.repeat(task.rois[4:5], len(task.rois), axis=0), mesh)
    assert not found["lip_gap_r"] > 0.5 and found["lip_gap_amplitude"] < 0.2 and found["lmd"] > 0.005


def test_lips_that_are_late_are_known_by_their_lag(task: Task, mesh: FloatArray) -> None:
    found = scored(task, np.roll(task.rois, 2, axis=0), mesh)
    assert found["lip_gap_lag"] == 2 and found["lip_gap_r"] < 0.6, "r is that at the film's own time"


def test_a_mouth_that_moves_in_silence_is_not_at_rest(task: Task, mesh: FloatArray, truth: dict[str, float]) -> None:
    restless = task.rois.copy()
    restless[24:44] = task.rois[2:22]
    found = scored(task, restless, mesh)
    assert found["rest_gap_99"] > 2 * truth["rest_gap_99"] and found["rest_step_99"] > 5 * truth["rest_step_99"]


def test_a_closed_sound_said_with_open_lips_is_missed(
    task: Task, mesh: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This head's lips are 2 % of its height apart when it rests, more than what counts as closed.
    monkeypatch.setattr(measure, "closed_lips", partial(closed_lips, closed=0.025))
    said = scored(task, task.rois, mesh)
    assert (said["closed_recall"], said["closed_phones"]) == (1, 1)
    gaping = task.rois.copy()
    gaping[36:48] = task.rois[4]
    missed = scored(task, gaping, mesh)
    assert (missed["closed_recall"], missed["closed_phones"]) == (0, 1)


def test_sounds_are_counted_from_the_first_frame_that_is_scored(film: Film, pack: Pack) -> None:
    said = phones_of(make_task("its end", film, pack, range(40, len(OPENINGS))))
    assert [(phone.name, round(phone.start, 6), round(phone.end, 6)) for phone in said] == [
        ("m", 0.0, 0.16),
        ("aa", 0.16, 1.12),
    ]
    cut = phones_of(make_task("a stretch", film, pack, range(42, 46)))
    assert [(phone.name, round(phone.start, 6), round(phone.end, 6)) for phone in cut] == [
        ("m", 0.0, 0.08),
        ("aa", 0.08, 0.16),
    ]


# --- what the generator is shown --------------------------------------------------------------------------------------
def test_what_is_held_back_is_drawn_from_what_was_learnt_from(film: Film, pack: Pack) -> None:
    question = held_back(film, pack)
    first, stop = len(OPENINGS) - len(OPENINGS) // HELD_OUT, len(OPENINGS)
    learnt = pack.training_frames()
    assert question.task.frames == range(first, stop) and max(learnt) < first - FPS
    np.testing.assert_array_equal(question.task.rois, pack.rois[first:stop])
    nearest, mean = question.baselines
    assert all(any(np.array_equal(roi, pack.rois[k]) for k in learnt) for roi in nearest.rois)
    assert psnr(question.references[4], nearest.rois[4]) > 45, "a still head: to move it onto the pose moves nothing"
    assert psnr(mean.rois[0], pack.rois[learnt].mean(0).round().astype(np.uint8)) > 60
    assert psnr(question.references[4], question.task.rois[4]) < 35, "another mouth than the one that is asked for"
    assert len(held_back(film, pack, 3).task.frames) == 3


def test_what_is_dubbed_anew_is_drawn_onto_the_template(film: Film, pack: Pack) -> None:
    other = replace(pack, rois=pack.rois[::-1].copy())
    question = paired(pack, film, other)
    assert question.task.frames == range(len(OPENINGS))
    np.testing.assert_array_equal(question.references, pack.rois)
    np.testing.assert_array_equal(question.task.rois, other.rois)
    assert [case.name for case in question.baselines] == ["template itself", "nearest pose", "mean picture"]
    np.testing.assert_array_equal(question.baselines[0].rois, pack.rois)
    short = paired(pack, film, other, 5)
    assert len(short.references) == len(short.task.rois) == len(short.task.frames) == 5


def test_the_command_measures_both_tasks_beside_their_baselines(
    film: Film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [str(builtin_avatar()), str(film.path), str(film.path), "--quality", "fast", "--frames", "3"]
    told = ["--json", str(tmp_path / "figures.json"), "--sheets", str(tmp_path / "sheets")]
    monkeypatch.setattr(sys, "argv", ["measure", *asked, *told])
    measure.main()
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert list(figures["held-back"]) == ["lipwright", "nearest pose", "mean picture", "truth"]
    assert list(figures["paired"]) == ["lipwright", "template itself", "nearest pose", "mean picture", "truth"]
    assert figures["paired"]["template itself"]["psnr_db"] > 60 > figures["paired"]["lipwright"]["psnr_db"] > 5
    assert {path.name for path in (tmp_path / "sheets").iterdir()} == {"held-back.png", "paired.png"}
    monkeypatch.setattr(sys, "argv", ["measure", *asked, "--lookahead", "0"])
    measure.main()
    table = capsys.readouterr().out
    assert table.count("| held-back |") == table.count("| paired |") == 2
    assert "lowest look-ahead that keeps" in table
