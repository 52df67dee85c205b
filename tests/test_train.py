"""The training of one person: what it is shown, that it resumes to the bit, keeps the best, and needs little."""

from __future__ import annotations

import importlib.machinery
import json
import math
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from lipwright.avatar import Avatar, builtin_avatar
from lipwright.contract import ROI_SIZE, WINDOW_PAST, UInt8Array
from lipwright.errors import LipwrightError
from lipwright.face import CHIN, POSE_POINTS, FaceFinder
from lipwright.models.generator import Generator, Width
from lipwright.models.lean import lean
from lipwright.models.sync_expert import SyncExpert
from lipwright.runtimes import torch as torch_runtime
from lipwright.training import data as training_data
from lipwright.training import losses
from lipwright.training import person as person_training
from lipwright.training import plan as planning
from lipwright.training.base import (
    EAR,
    base_width,
    begin,
    ear_of,
    exported_weights,
    is_whole,
    speak_like,
    start,
    take,
    whole_weights,
)
from lipwright.training.copying import begin_by_copying
from lipwright.training.data import Ahead, Chances, Frames, References, Sampler, unlike
from lipwright.training.folded import unfolded
from lipwright.training.hearing import heard
from lipwright.training.held_out import HeldOut, LipReader, Score, draw, unchosen
from lipwright.training.lessons import (
    CARD_WORKERS,
    NOBODY,
    PERCEPTUAL,
    Teachers,
    _picture_error,
    lesson,
    pictures_shown,
    speaking,
    spoken,
)
from lipwright.training.loop import Checks, Phase, Record, Student, Trainer
from lipwright.training.losses import (
    PerceptualLoss,
    detail_loss,
    motion_loss,
    picture_loss,
    pyramid_loss,
    similarity_loss,
)
from lipwright.training.mouth import CHANNELS, mouth_code
from lipwright.training.pack import Pack
from lipwright.training.person import (
    FIGURES,
    PLAIN,
    PLAN,
    SHEET,
    WEIGHTS,
    Progress,
    _plain_phases,
    _taken,
    check_enough,
    joined,
    split,
    train_person,
)
from lipwright.training.plan import TELLING, Plan, make_plan, without
from lipwright.training.speech import SpeechSampler, own_speech
from people import FRAMES, SCORED, person
from talking import face
from tools import hearing as hearing_tool
from tools.presenter import train as presenter

SOURCE = Path(__file__).parent.parent / "src"


@pytest.fixture(autouse=True, scope="module")
def few_are_scored() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(person_training, "_SCORED", SCORED)
        yield


@pytest.fixture(scope="module")
def pack() -> Pack:
    return person()


TINY = Plan(
    width="mobile",
    expert=Phase("expert", 0, 16, 8, 2e-3),
    phases=(
        Phase("draw", 160, 2, 2, 1e-3),
        Phase("listen", 0, 4, 2, 1e-3),
        Phase("speak160", 160, 2, 5, 1e-3),
        Phase("speak320", 320, 1, 2, 1e-3),
    ),
    costs=dict.fromkeys(("expert", "draw", "listen", "speak160", "speak320"), 1000.0),
    checks=2,
    checked_frames=6,
    minutes=60,
    checkpoint_seconds=0,
    threads=1,
    folded=True,
)


@pytest.fixture(scope="module")
def trained(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[Progress]]:
    folder = tmp_path_factory.mktemp("trained") / "run"
    steps: list[Progress] = []
    return folder, train_person(pack, folder, plan=TINY, progress=steps.append), steps


# --- the whole walk -------------------------------------------------------------------------------------------------
def test_a_training_leaves_weights_figures_and_pictures(
    trained: tuple[Path, dict[str, Any], list[Progress]], pack: Pack
) -> None:
    folder, figures, _ = trained
    Generator("mobile").load_state_dict(torch.load(folder / WEIGHTS, weights_only=True))
    assert json.loads((folder / FIGURES).read_text()) == figures
    sheet = cv2.imread(str(folder / SHEET))
    assert sheet is not None and sheet.shape[0] == 400
    assert set(figures["scores"]) == {"own sound", "another voice", "nearest pose", "mean picture", "truth"}
    assert figures["scores"]["truth"] == pytest.approx(
        {
            "psnr": None,
            "ssim": 1.0,
            "sharpness": 1.0,
            "edges": 1.0,
            "lip_gap_r": figures["scores"]["truth"]["lip_gap_r"],
        }
    )
    assert figures["scores"]["truth"]["lip_gap_r"] > 0.95
    first, told = FRAMES - 40, {"frames": 40, "checked": 6, "measured": 40}
    assert figures["held_out"] == {"first": first, "stop": FRAMES, "measured_from": first, **told}
    assert figures["expert"]["used"] is (figures["expert"]["accuracy"] >= 0.75)
    assert figures["pictures"] == 2 * 2 + (4 * 2 + 7) + 2 * 1  # the fourth step shows a clip of 5, and 2 beside it
    assert [p["name"] for p in figures["phases"]] == ["draw", "listen", "speak160", "speak320"]
    assert all(len(p["scores"]) == 2 for p in figures["phases"][2:])
    assert all(p["ended"] == "steps" for p in figures["phases"])


def test_progress_comes_to_its_end(trained: tuple[Path, dict[str, Any], list[Progress]]) -> None:
    steps = trained[2]
    assert [s.done for s in steps] == sorted(s.done for s in steps)
    assert steps[-1].done == steps[-1].total == 1000 * (8 + 2 + 2 + 5 + 2)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / WEIGHTS, weights_only=True)
    return state


def assert_same_training(one: Path, other: Path) -> None:
    first, second = weights_of(one), weights_of(other)
    assert all(torch.equal(first[name], second[name]) for name in first) and first.keys() == second.keys()
    told = [json.loads((folder / FIGURES).read_text()) for folder in (one, other)]
    assert told[0]["scores"] == told[1]["scores"] and told[0]["expert"] == told[1]["expert"]
    curves = [[(p["curve"], p["scores"]) for p in each["phases"]] for each in told]
    assert curves[0] == curves[1]


def test_a_training_that_is_stopped_in_every_phase_ends_with_the_same_bits(
    trained: tuple[Path, dict[str, Any], list[Progress]], pack: Pack, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    for words in ("do lips", "draw", "listen", "speak", "details"):

        def interrupt(progress: Progress, words: str = words) -> None:
            if words in progress.step and "step 1 " not in progress.step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_person(pack, folder, plan=TINY, progress=interrupt)
    train_person(pack, folder, plan=TINY)
    assert_same_training(trained[0], folder)


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="for a machine with a CUDA card")
def test_on_a_card_a_stopped_training_ends_with_nearly_the_same_weights(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a hundredth of the weights' spread (docs/create.md): less than half of what these few steps move them by.

    In f32, where only sums differ: in bf16 their last bits decide which way a weight goes whose gradient is near zero.
    """
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    plan, ended = replace(TINY, bf16=False, checks=1), []

    def stop(progress: Progress) -> None:
        if "speak, step 3" in progress.step:
            raise KeyboardInterrupt

    train_person(pack, tmp_path / "whole", plan=plan, device="cuda")
    with pytest.raises(KeyboardInterrupt):
        train_person(pack, tmp_path / "cut", plan=plan, device="cuda", progress=stop)
    train_person(pack, tmp_path / "cut", plan=plan, device="cuda")
    names = [name for name, _ in Generator("mobile").named_parameters()]
    for folder in ("whole", "cut"):
        weights = weights_of(tmp_path / folder)
        ended.append(torch.cat([weights[name].cpu().flatten() for name in names]))
    assert (ended[0] - ended[1]).square().mean().sqrt() < 1e-2 * ended[0].std()


def test_plain_training_takes_as_many_pictures_as_were_taken_and_not_as_were_planned() -> None:
    sizes = {"draw": (160, 16), "listen": (0, 8), "speak160": (160, 8), "speak320": (320, 4)}
    plan = replace(TINY, phases=tuple(Phase(name, *each, steps=100, rate=1e-3) for name, each in sizes.items()))
    taken = {"draw": 100, "listen": 100, "speak160": 40, "speak320": 70}
    records = {name: Record(curve=[[1, 0.1], [steps, 0.1]]) for name, steps in taken.items()}
    large = ("plain320", 320, 83, 6e-4)  # 17 of the 70 steps showed 7 pictures and not 4
    assert [(p.name, p.size, p.steps, p.rate) for p in _plain_phases(plan, _taken(records))] == [
        ("plain160", 160, 240, 8e-4),
        large,
    ]
    drawing = replace(plan, phases=without(plan.phases, "draw"))
    assert [(p.name, p.size, p.steps, p.rate) for p in _plain_phases(drawing, _taken(records))] == [
        ("plain160", 160, 40, 8e-4),
        large,
    ]


def test_compiled_and_beside_plain_training_it_ends_with_the_same_weights(
    trained: tuple[Path, dict[str, Any], list[Progress]],
    pack: Pack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What torch.compile makes of a network is torch's business; that it is asked once for each network is ours."""
    asked: list[bool] = []

    def compile_nothing(call: Any, *, dynamic: bool) -> Any:
        asked.append(dynamic)
        return call

    monkeypatch.setattr(torch, "compile", compile_nothing)
    figures = train_person(pack, tmp_path, plan=replace(TINY, compiled=True), baselines=True)
    assert asked == [False, False]
    first, second = weights_of(trained[0]), weights_of(tmp_path)
    assert all(torch.equal(first[name], second[name]) for name in first) and first.keys() == second.keys()
    assert set(figures["scores"]["plain L1"]) == set(figures["scores"]["own sound"])
    Generator("mobile").load_state_dict(torch.load(tmp_path / PLAIN, weights_only=True))


def test_killed_in_every_phase_it_ends_with_the_same_bits(
    trained: tuple[Path, dict[str, Any], list[Progress]], tmp_path: Path
) -> None:
    """By SIGKILL, at random moments: in the middle of a step, of a check, of a file that is written."""
    run = tmp_path / "run"
    run.mkdir()
    TINY.save(run / PLAN)
    command = [sys.executable, str(Path(__file__).with_name("killed.py")), str(run)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same_training(trained[0], run)


@pytest.mark.slow
def test_kill_9_again_and_again(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command on the packed file, killed at random moments."""
    monkeypatch.setattr(person_training, "_SCORED", FRAMES)  # as the command does
    pack.save(tmp_path / "pack.npz")
    loaded = Pack.load(tmp_path / "pack.npz")
    plans = [tmp_path / name for name in ("whole", "killed")]
    for folder in plans:
        folder.mkdir()
        TINY.save(folder / PLAN)
    train_person(loaded, plans[0])
    command = [sys.executable, "-m", "lipwright.training", str(tmp_path / "pack.npz"), str(plans[1]), "--device", "cpu"]
    rng = np.random.default_rng(0)
    kills = 0
    for _ in range(30):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=float(rng.uniform(4, 14)))
            break
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
    assert kills and process.returncode == 0
    assert_same_training(*plans)


BLOCKED = ("av", "openvino", "onnxruntime", "onnx", "pydantic", "typer", "rich", "scipy")


def on_a_bare_machine(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Train on the processor, where every other library is made impossible to import."""
    code = (
        "import sys, runpy\n"
        f"for name in {BLOCKED!r}: sys.modules[name] = None\n"
        "runpy.run_module('lipwright.training', run_name='__main__')\n"
    )
    command = [sys.executable, "-c", code, *map(str, arguments), "--device", "cpu"]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SOURCE)})


def test_a_bare_machine_with_torch_and_opencv_trains_to_the_end(pack: Pack, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    pack.save(tmp_path / "pack.npz")
    TINY.save(run / PLAN)
    done = on_a_bare_machine(tmp_path / "pack.npz", run, "--parts")
    assert done.returncode == 0, done.stderr
    assert json.loads((run / FIGURES).read_text())["scores"]["own sound"]
    assert cv2.imread(str(run / SHEET)) is not None
    whole = (run / WEIGHTS).read_bytes()
    Generator("mobile").load_state_dict(weights_of(run))
    (run / WEIGHTS).unlink()
    assert joined(run / WEIGHTS).read_bytes() == whole


def test_a_bare_machine_says_that_a_film_is_too_short(pack: Pack, tmp_path: Path) -> None:
    short = replace(
        pack,
        rois=pack.rois[:80],
        landmarks=pack.landmarks[:80],
        mouth=pack.mouth[:80],
        features=pack.features[:, :80],
        held_out=(70, 80),
    )
    short.save(tmp_path / "pack.npz")
    done = on_a_bare_machine(tmp_path / "pack.npz", tmp_path / "run")
    assert done.returncode == 1
    assert "film longer" in done.stderr and "Traceback" not in done.stderr


# --- what it computes in, and who teaches ---------------------------------------------------------------------------
@dataclass
class Rehearsal:
    """What a training asked of those who teach and draw."""

    teachers: dict[str, Teachers] = field(default_factory=dict)
    """Of each phase, by its name."""
    bf16: list[bool] = field(default_factory=list)
    """Of each step and each drawing: whether it was made in bf16."""


@pytest.fixture
def rehearsal(monkeypatch: pytest.MonkeyPatch) -> Rehearsal:
    """Trainings take all their steps and learn nothing; what they draw is the nearest pose."""
    asked = Rehearsal()

    def nothing(network: nn.Module, _step: int) -> torch.Tensor:
        asked.bf16.append(torch.is_autocast_enabled("cpu"))
        return 0 * next(network.parameters()).sum()

    def lesson(phase: Phase, _sampler: Any, _voices: Any, _device: Any, teachers: Teachers, *_: Any) -> Any:
        asked.teachers[phase.name] = teachers
        return nothing

    def nearest(_generator: Generator, held: HeldOut, device: Any, *, bf16: bool, **_: Any) -> UInt8Array:
        asked.bf16.append(bf16)
        return held.nearest

    for name, double in (("lesson", lesson), ("expert_loss", lambda *_: nothing), ("plainly", lambda *_: nothing)):
        monkeypatch.setattr(person_training, name, double)
    monkeypatch.setattr(person_training, "draw", nearest)
    return asked


@pytest.mark.parametrize("native", [True, False])
def test_layers_multiply_in_bf16_where_that_is_native(
    native: bool, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_runtime, "cpu_has", lambda precision: native and precision == "bf16")
    seen: list[torch.dtype] = []

    def loss(network: nn.Linear, _step: int) -> torch.Tensor:
        seen.append(network(torch.ones(1, 3)).dtype)
        return network.weight.sum()

    class Asked(Generator):
        def forward(self, x: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
            seen.append(torch.mm(x[0, 0], x[0, 0]).dtype)
            return x[:, :3]

    Trainer(nn.Linear(3, 3), tmp_path).run(Phase("one", 0, 1, 1, 0.1), loss, lambda network: network)
    draw(Asked("mobile"), HeldOut(pack, pack.held_frames()[:1]), torch.device("cpu"))
    assert seen == 2 * [torch.bfloat16 if native else torch.float32]


@pytest.mark.parametrize("native", [True, False])
def test_a_card_is_asked_for_bf16_of_its_own(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch_runtime, "cpu_has", lambda _precision: not native)
    assert torch_runtime.has_bf16("cuda") is native


def test_a_resumed_training_computes_as_it_began(pack: Pack, tmp_path: Path, rehearsal: Rehearsal) -> None:
    """Whatever this processor has. Steps, checks, last drawings, plain steps, their checks and their drawing."""
    for bf16 in (False, True):
        folder = tmp_path / str(bf16)
        folder.mkdir()
        replace(TINY, bf16=bf16).save(folder / PLAN)
        rehearsal.bf16.clear()
        assert train_person(pack, folder, baselines=True)["bf16"] is bf16
        assert rehearsal.bf16 == (19 + 4 + 2 + 12 + 4 + 1) * [bf16]


def test_a_plan_without_a_word_on_it_was_made_in_bf16_and_with_norms(tmp_path: Path) -> None:
    replace(TINY, bf16=False, folded=True).save(tmp_path / PLAN)
    new = Plan.load(tmp_path / PLAN)
    assert new.bf16 is False and new.folded is True
    told = json.loads((tmp_path / PLAN).read_text())
    del told["bf16"], told["folded"]
    (tmp_path / PLAN).write_text(json.dumps(told))
    old = Plan.load(tmp_path / PLAN)
    assert old.bf16 is True and old.folded is False


@pytest.mark.parametrize(("right", "used"), [(0.9, True), (0.6, False)])
def test_an_expert_teaches_if_it_can_be_trusted(
    right: float, used: bool, pack: Pack, tmp_path: Path, rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(person_training, "held_accuracy", lambda *_: right)
    figures = train_person(pack, tmp_path, plan=TINY)["expert"]
    assert list(rehearsal.teachers) == ["draw", "listen", "speak160", "speak320"]
    assert {isinstance(each.expert, SyncExpert) for each in rehearsal.teachers.values()} == {used}
    assert figures["used"] is used and figures["accuracy"] == right
    assert ("accuracy_drawn" in figures) is used
    if used:
        assert 0 <= figures["accuracy_drawn"] <= 1


# --- what it is shown -----------------------------------------------------------------------------------------------
def test_clips_hold_frames_in_a_row_that_share_everything_but_speech() -> None:
    film = person(cuts=(100,), unusable=(150,))
    starts = film.clips(film.training_frames(), 5)
    frames = starts[:, None] + np.arange(5)
    assert frames.max() < FRAMES - 50 and 150 not in frames
    assert not {97, 98, 99} & set(starts.tolist()) and {95, 100} <= set(starts.tolist())
    batch = Sampler(film, film.training_frames(), 0).clips(3, 10, 160, 5)
    assert batch is not None and batch.clip == 5 and batch.heard is not None
    assert batch.x.shape == (10, 6, 160, 160) and batch.heard.shape == (2, 2, 5, 512)
    assert torch.equal(batch.x, Sampler(film, film.training_frames(), 0).clips(3, 10, 160, 5).x)  # type: ignore[union-attr]
    own = film.features[0].astype(np.float32)
    for clip in range(2):
        code = batch.mouth[5 * clip].numpy()
        start = int(np.abs(film.mouth - code).sum(axis=1).argmin())
        np.testing.assert_array_equal(batch.mouth[5 * clip : 5 * clip + 5].numpy(), film.mouth[start : start + 5])
        np.testing.assert_array_equal(batch.heard[clip, 0].numpy(), own[start : start + 5])
        assert not torch.equal(batch.heard[clip, 0], batch.heard[clip, 1])


def test_beside_a_clip_stand_pictures_of_other_times() -> None:
    film = person()
    sampler = Sampler(film, film.training_frames(), 0)
    for size, rows in ((8, 8), (4, 7), (20, 20)):
        phase = Phase("speak320", 160, size, 100, 1e-3)
        mixed, clips = spoken(sampler, phase, 3), max(size // 10, 1)
        assert len(mixed.x) == len(mixed.audio) == rows and mixed.in_clips == 5 * clips
        assert torch.equal(mixed.y[: 5 * clips], sampler.clips(3, 5 * clips, 160, 5).y)  # type: ignore[union-attr]
        assert torch.equal(mixed.y[5 * clips :], sampler.batch(3, rows - 5 * clips, 160).y)
        usual = spoken(sampler, phase, 4)
        assert len(usual.x) == size and usual.in_clips == 0
        assert pictures_shown(phase, 4) == sum(len(spoken(sampler, phase, step).x) for step in range(4))


def test_time_is_judged_in_clips_and_nowhere_else() -> None:
    """The rows beside a clip may tremble as they like: they are not neighbours."""
    film = person()
    batch = spoken(Sampler(film, film.training_frames(), 0), Phase("speak160", 160, 8, 100, 1e-3), 3)
    still = replace(batch, weight=torch.ones_like(batch.weight))
    sign = torch.tensor([1.0, -1.0] * 4)[:, None, None, None]

    def error(rows: slice) -> float:
        wrong = batch.y.clone()
        wrong[rows] += (0.1 * sign)[rows]
        return (
            _picture_error(wrong, still, NOBODY).item()
            - _picture_error(wrong, replace(still, heard=None), NOBODY).item()
        )

    assert error(slice(0, 5)) == pytest.approx(0.2, rel=0.01)
    assert error(slice(5, 8)) == pytest.approx(0, abs=1e-5)


def test_a_film_without_a_stretch_gives_no_clip() -> None:
    scraps = person(unusable=tuple(range(0, FRAMES, 4)))
    sampler = Sampler(scraps, scraps.training_frames(), 0)
    assert sampler.clips(0, 10, 160, 5) is None
    assert len(spoken(sampler, Phase("speak160", 160, 8, 100, 1e-3), 3).x) == 8


def test_half_of_the_samples_hear_the_recording_and_none_the_voice_kept_for_the_end(pack: Pack) -> None:
    levels = pack.features.astype(np.float32).mean(axis=2)
    sampler = Sampler(pack, pack.training_frames(), 0)
    rng = np.random.default_rng(0)
    frames = rng.choice(pack.training_frames(), 200)
    audio = sampler.samples(frames, 160, rng).audio.reshape(200, 16, 512)[:, 8].mean(dim=1).numpy()
    version = np.abs(levels[:, frames] - audio).argmin(axis=0)
    shares = np.bincount(version, minlength=3) / 200
    assert 0.6 < shares[0] < 0.9 and shares[1] > 0.1 and shares[2] == 0


def test_nearly_half_of_the_samples_know_less_of_the_future(pack: Pack) -> None:
    """As a live session does: beyond the features that it knows the last of them is repeated."""
    rng, sampler = np.random.default_rng(1), Sampler(pack, pack.training_frames(), 0)
    frames = rng.choice(pack.training_frames()[8:], 400)
    audio = sampler.samples(frames, 16, rng).audio.numpy().reshape(400, 1, 1, 16, 512)
    known = np.minimum(np.arange(-8, 8), np.arange(8)[:, None])
    possible = pack.features[: pack.trained_versions, frames[:, None, None] + known].astype(np.float32)
    same = (possible.swapaxes(0, 1) == audio).all(axis=(3, 4))
    assert (same.sum(axis=(1, 2)) == 1).all()
    shares = same.any(axis=1).mean(axis=0)
    assert shares[7] == pytest.approx(9 / 16, abs=0.06)
    assert shares[:7] == pytest.approx(np.full(7, 1 / 16), abs=0.04)


def test_own_speech_leaves_out_the_held_out_time(pack: Pack) -> None:
    audio, mouth = SpeechSampler(own_speech(pack), 0).batch(0, 300)
    assert audio.shape == (300, 32, 16, 16)
    known = {row.tobytes() for row in pack.mouth[pack.training_frames()]}
    assert all(row.tobytes() in known for row in mouth.numpy())


def test_work_ahead_gives_what_was_asked() -> None:
    ahead = Ahead(lambda step: step * step, workers=3)
    assert [ahead(step) for step in (0, 1, 2, 7, 8)] == [0, 1, 4, 49, 64]


def together(
    code: np.ndarray[Any, Any], chance: np.ndarray[Any, Any], candidates: Sequence[Frames], likely: Sequence[Chances]
) -> np.ndarray[Any, Any]:
    """[K] r of each channel between targets and their references."""
    target = np.concatenate([np.repeat(row[None], len(each), 0) for row, each in zip(code, candidates, strict=True)])
    weight = np.concatenate([c * w for c, w in zip(chance, likely, strict=True)])[:, None]
    reference = code[np.concatenate(candidates)]
    target, reference = target - (weight * target).sum(0), reference - (weight * reference).sum(0)
    spread = np.sqrt((weight * target**2).sum(0) * (weight * reference**2).sum(0))
    return np.asarray((weight * target * reference).sum(0) / spread)


def test_a_references_mouth_tells_nothing_of_its_targets() -> None:
    rng = np.random.default_rng(0)
    code = rng.normal(2.0, [1.0, 5.0, 0.1], (300, 3)).astype(np.float32)
    pose = 0.3 * code[:, 1] - 0.5 * code[:, 0] + rng.normal(0, 1.6, 300)  # he nods as he opens his mouth
    candidates = [np.argsort(np.abs(pose - own))[1 : 25 - (k < 10)] for k, own in enumerate(pose)]
    chance = rng.random(300) ** 2
    chance /= chance.sum()
    even = [np.full(len(each), 1 / len(each)) for each in candidates]
    likely = unlike(code, np.arange(300), candidates, chance)
    assert together(code, chance, candidates, even)[1] > 0.3
    assert np.abs(together(code, chance, candidates, likely)).max() < 0.02
    assert [len(each) for each in likely] == [len(each) for each in candidates]
    assert all(each.min() > 0 and each.sum() == pytest.approx(1) for each in likely)
    # Hardly any reference is given up for it.
    assert np.exp(chance @ [-(each * np.log(each)).sum() for each in likely]) > 18


def test_references_are_drawn_as_likely_as_they_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    pack, shown = person(), set[tuple[int, int]]()

    def only_the_last(
        code: np.ndarray[Any, Any], frames: Frames, candidates: Sequence[Frames], chance: Chances
    ) -> list[Chances]:
        assert code is pack.mouth
        return [np.eye(len(each))[-1] for each in candidates]

    def remembered(references: References, frame: int, reference: int) -> np.ndarray[Any, Any]:
        shown.add((frame, reference))
        return picture(references, frame, reference)

    picture = References.picture
    monkeypatch.setattr(training_data, "unlike", only_the_last)
    monkeypatch.setattr(References, "picture", remembered)
    references = References(pack, pack.training_frames())
    Sampler(pack, pack.training_frames(), 0).batch(0, 12, 160)
    assert len(shown) > 6 and shown == {(frame, int(references.candidates(frame)[-1])) for frame, _ in shown}


def test_references_are_drawn_evenly_where_poses_tell_nothing_of_mouths() -> None:
    rng = np.random.default_rng(0)
    code = np.repeat(rng.normal(size=(1, 4)).astype(np.float32), 60, axis=0)  # nobody speaks
    candidates = [rng.permutation(60)[:24] for _ in range(60)]
    likely = unlike(code, np.arange(60), candidates, np.full(60, 1 / 60))
    np.testing.assert_allclose(np.stack(likely), 1 / 24, rtol=1e-6)


def test_a_pack_keeps_cuts_and_base(tmp_path: Path) -> None:
    base = {f"{EAR}conv7.conv.6.weight": np.arange(256, dtype=np.float16)[:, None, None, None]}
    person(cuts=(7, 9), base=base, base_name="ada").save(tmp_path / "pack.npz")
    back = Pack.load(tmp_path / "pack.npz")
    assert back.cuts == (7, 9) and base_width(back.base) == "mobile" and back.base_name == "ada"
    (name,) = base
    np.testing.assert_array_equal(back.base[name], base[name])


# --- the mouth code -------------------------------------------------------------------------------------------------
def meshes() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """[12, 468, 3]: a mouth that opens and closes, between two faces that the mesh network found."""
    finder = FaceFinder()
    shut, wide = (finder.find(face(opening))[0].landmarks for opening in (0.0, 1.0))
    share = (1 - np.cos(np.arange(12) / 2)) / 2
    between = shut + share[:, None, None] * (wide - shut)
    between[:, POSE_POINTS] = shut[list(POSE_POINTS)]
    return np.asarray(between, np.float32)


def turned(mesh: np.ndarray[tuple[int, ...], np.dtype[np.float32]], degrees: float) -> np.ndarray[Any, Any]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    about_y = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    about_x = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return np.asarray(0.8 * mesh @ about_y @ about_x + 30, np.float32)


def test_the_code_is_of_the_mouth_and_not_of_the_head() -> None:
    still = meshes()
    code = mouth_code(still)
    assert code.shape == (12, len(CHANNELS)) and code.dtype == np.float32
    share = (1 - np.cos(np.arange(12) / 2)) / 2
    assert np.corrcoef(code[:, 0], share)[0, 1] > 0.99
    np.testing.assert_allclose(code.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(code.std(axis=0), 1, atol=1e-4)
    nodding = np.stack([turned(mesh, 15 * math.sin(k)) for k, mesh in enumerate(still)])
    np.testing.assert_allclose(mouth_code(nodding), code, atol=0.02)


def test_frames_without_a_face_have_no_code_and_slips_of_the_mesh_are_cut_off() -> None:
    film = np.tile(meshes(), (10, 1, 1))
    film[3] = np.nan
    film[50, CHIN, 1] += 500
    code = mouth_code(film)
    assert np.isnan(code[3]).all() and np.isfinite(np.delete(code, 3, axis=0)).all()
    assert np.nanmax(np.abs(code)) < 10
    assert np.isnan(mouth_code(np.full((4, 468, 3), np.nan, np.float32))).all()


# --- the losses -----------------------------------------------------------------------------------------------------
def stripes(shift: int = 0) -> torch.Tensor:
    wave = torch.sin((torch.arange(64) + shift) * math.pi / 2)
    return (0.5 + 0.3 * wave).expand(1, 3, 64, 64)


def test_missing_detail_costs_more_than_detail_in_another_place() -> None:
    truth, beside, blurred = stripes(), stripes(2), stripes().mean(dim=3, keepdim=True).expand(1, 3, 64, 64)
    weight = torch.ones(1, 1, 64, 64)
    assert detail_loss(truth, truth, weight).item() == 0
    assert detail_loss(beside, truth, weight) < 0.2 * detail_loss(blurred, truth, weight)
    assert pyramid_loss(beside, truth, weight) > pyramid_loss(blurred, truth, weight)


def test_a_tint_counts_beside_the_bands() -> None:
    """The bands see none of it, and with the plain difference alone lips came out grey."""
    truth, weight = stripes(), torch.ones(1, 1, 64, 64)
    tinted = truth + torch.tensor([0.06, -0.03, -0.03])[None, :, None, None]
    plain = (tinted - truth).abs().mean()
    assert pyramid_loss(tinted, truth, weight).item() == pytest.approx(5 * plain.item(), rel=0.01)
    assert detail_loss(tinted, truth, weight).item() == pytest.approx(0, abs=1e-6)


def test_strength_of_detail_counts_half_beside_the_picture() -> None:
    film = person()
    batch = spoken(Sampler(film, film.training_frames(), 0), Phase("speak160", 160, 2, 100, 1e-3), 0)
    blurred = nn.functional.avg_pool2d(batch.y, 5, 1, 2, count_include_pad=False)
    detail = detail_loss(blurred, batch.y, batch.weight)
    error = _picture_error(blurred, batch, NOBODY) - picture_loss(blurred, batch.y, batch.weight)
    assert error.item() == pytest.approx(0.5 * detail.item(), rel=0.01) and detail > 1e-3


@pytest.mark.parametrize("loss", [pyramid_loss, similarity_loss, detail_loss, _picture_error])
def test_the_same_error_costs_most_at_the_mouth(loss: Callable[..., torch.Tensor]) -> None:
    film = person()
    batch = spoken(Sampler(film, film.training_frames(), 0), Phase("speak160", 160, 1, 100, 1e-3), 0)
    batch = replace(batch, y=torch.full_like(batch.y, 0.5))
    mouth = int(batch.weight[0, 0].argmax())
    cost = []
    for row, column in (divmod(mouth, 160), (16, 16)):
        spoilt = batch.y.clone()
        spoilt[..., row - 8 : row + 8, column - 8 : column + 8] = stripes()[..., :16, :16]
        given = (batch, NOBODY) if loss is _picture_error else (batch.y, batch.weight)
        cost.append(loss(spoilt, *given).item())
    assert cost[0] > 4 * cost[1] > 0


def test_features_of_another_network_count_where_there_is_one() -> None:
    film = person()
    batch = spoken(Sampler(film, film.training_frames(), 0), Phase("speak160", 160, 2, 100, 1e-3), 0)
    perceptual = PerceptualLoss(nn.Conv2d(3, 4, 3), torch.device("cpu"))
    grey = batch.y.mean(dim=(2, 3), keepdim=True).expand_as(batch.y)
    error = _picture_error(grey, batch, Teachers(perceptual=perceptual)) - _picture_error(grey, batch, NOBODY)
    assert error.item() == pytest.approx(PERCEPTUAL * perceptual(grey, batch.y).item(), rel=1e-3) and error > 1e-4


def test_the_users_own_vgg_is_used_where_torchvision_has_fetched_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    layers = [nn.Conv2d(3, 3, 3) for _ in range(20)]
    vgg = nn.Module()
    vgg.features = nn.Sequential(*layers)
    models = types.ModuleType("torchvision.models")
    models.vgg16 = lambda: vgg  # type: ignore[attr-defined]
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert PerceptualLoss.installed(torch.device("cpu")) is None, "nothing is fetched"
    (tmp_path / "checkpoints").mkdir()
    torch.save(vgg.state_dict(), tmp_path / "checkpoints" / losses._VGG_FILE)
    found = types.ModuleType("torchvision")
    found.__spec__ = importlib.machinery.ModuleSpec("torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision", found)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    loss = PerceptualLoss.installed(torch.device("cpu"))
    assert loss is not None
    picture, truth = stripes(), stripes(2)
    assert loss(picture, picture).item() == 0 < loss(picture, truth).item()


def test_structure_counts_a_tenth_beside_the_pyramid() -> None:
    """Stripes turned round and stripes twice as strong are as far from the truth; the second keep its structure."""
    truth, weight = 0.5 + 0.1 * (stripes() - 0.5) / 0.3, torch.ones(1, 1, 64, 64)
    shift = truth - truth.mean()
    alike = [similarity_loss(truth + sign * shift, truth, weight).item() for sign in (-1, 1)]
    assert alike[0] > 3 * alike[1] > 0
    for sign, structure in zip((-1, 1), alike, strict=True):
        picture = truth + sign * shift
        error = picture_loss(picture, truth, weight) - pyramid_loss(picture, truth, weight)
        assert error.item() == pytest.approx(0.1 * structure, rel=0.01)


def test_motion_counts_and_what_stands_still_does_not() -> None:
    truth = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    weight = torch.ones(6, 1, 16, 16)
    brighter = truth + torch.tensor([0.1, 0.2]).repeat_interleave(3)[:, None, None, None]
    assert motion_loss(brighter, truth, weight, 3).item() == pytest.approx(0, abs=1e-6)
    tremble = truth + torch.tensor([0.1, -0.1, 0.1] * 2)[:, None, None, None]
    assert motion_loss(tremble, truth, weight, 3).item() == pytest.approx(0.2, abs=1e-5)


def test_perceptual_loss_compares_features_in_rgb() -> None:
    seen: list[torch.Tensor] = []

    class Watching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return x

    loss = PerceptualLoss(Watching(), torch.device("cpu"))
    blue = torch.zeros(1, 3, 4, 4)
    blue[:, 0] = 1
    assert loss(blue, blue).item() == 0
    assert seen[0][0, 2].mean() > 2 > 0 > seen[0][0, 0].mean()


def test_no_perceptual_loss_without_the_users_own_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert PerceptualLoss.installed(torch.device("cpu")) is None


# --- the loop -------------------------------------------------------------------------------------------------------
def constant_loss(network: nn.Module, step: int) -> torch.Tensor:
    return next(network.parameters()).square().sum()


def test_it_stops_when_it_stops_improving_and_keeps_the_best(tmp_path: Path) -> None:
    scores = iter([1.0, 3.0, 2.0, 2.5, 2.9, 9.0])
    best: list[dict[str, torch.Tensor]] = []

    def score(average: nn.Module) -> float:
        best.append({k: v.clone() for k, v in average.state_dict().items()})
        return next(scores)

    trainer = Trainer(nn.Linear(3, 3), tmp_path)
    phase = Phase("try", 0, 1, 100, 0.1)
    trainer.run(phase, constant_loss, lambda net: net, Checks(10, score, patience=3))
    record = trainer.records["try"]
    assert record.scores == [[10, 1.0], [20, 3.0], [30, 2.0], [40, 2.5], [50, 2.9]] and record.finished
    assert record.ended == "score"
    trainer.load_best(phase)
    assert all(torch.equal(value, best[1][name]) for name, value in trainer.average.state_dict().items())
    again = Trainer(nn.Linear(3, 3), tmp_path)
    again.run(phase, constant_loss, lambda net: net, Checks(10, score, patience=3))
    assert again.records["try"].scores == record.scores


def test_what_is_kept_are_the_averaged_weights_of_the_best_check(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[dict[str, torch.Tensor]] = []

    def falling(phase: Phase, plan: Plan, watched: HeldOut, network: Callable[[Any], Generator]) -> Checks[Any]:
        def score(average: nn.Module) -> float:
            checked.append({k: v.clone() for k, v in unfolded(network(average)).state_dict().items()})
            return -float(len(checked))

        return Checks(1, score)

    monkeypatch.setattr(person_training, "_checks", falling)
    train_person(pack, tmp_path / "run", plan=TINY)
    kept, (best, last) = weights_of(tmp_path / "run"), checked[-2:]  # the last phase has two
    assert all(torch.equal(value, best[name]) for name, value in kept.items()) and kept.keys() == best.keys()
    assert any(not torch.equal(value, last[name]) for name, value in kept.items())


def test_it_stops_when_the_time_is_over(tmp_path: Path) -> None:
    trainer = Trainer(nn.Linear(3, 3), tmp_path)

    def slow_loss(network: nn.Module, step: int) -> torch.Tensor:
        time.sleep(0.05)
        return constant_loss(network, step)

    checks: Checks[nn.Linear] = Checks(5000, lambda average: 1.0)
    trainer.run(Phase("long", 0, 1, 10_000, 0.1), slow_loss, lambda net: net, checks, limit_seconds=0.2)
    record = trainer.records["long"]
    assert record.finished and record.ended == "time" and record.seconds < 5
    assert len(record.scores) == 1  # what was reached by then is a candidate for the best, too


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (8, 0.5), (9000, 0.998)])
def test_the_average_follows_the_student_slowly(tmp_path: Path, step: int, decay: float) -> None:
    trainer, phase = Trainer(nn.Linear(3, 3), tmp_path), Phase("try", 0, 1, 10_000, 0.1)
    optimizer = trainer.optimizer(phase, trainer.student)
    before = trainer.average.weight.clone()
    trainer.learn(phase, step, constant_loss, optimizer)
    student = trainer.student.weight.detach()
    assert (student - before).abs().max() > 1e-4
    torch.testing.assert_close(trainer.average.weight, decay * before + (1 - decay) * student, atol=1e-7, rtol=0)
    assert (trainer.average.weight - student).abs().max() > 1e-5


def test_what_is_trained_lies_channels_last_in_memory(tmp_path: Path) -> None:
    """Convolutions of both devices are quicker so."""
    trainer = Trainer(nn.Conv2d(4, 4, 3), tmp_path)
    for network in (trainer.student, trainer.average):
        assert network.weight.is_contiguous(memory_format=torch.channels_last) and not network.weight.is_contiguous()


def test_what_is_known_already_learns_slowly(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    trainer = Trainer(network, tmp_path)
    optimizer = trainer.optimizer(Phase("two", 0, 1, 1, 0.1), network, network[1])
    assert [group["factor"] for group in optimizer.param_groups] == [1.0, 0.2]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


# --- the plan -------------------------------------------------------------------------------------------------------
def test_a_plan_fills_its_time(pack: Pack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    costs = {"draw": 1.0, "listen": 0.1, "speak160": 1.0, "speak320": 2.0}
    monkeypatch.setattr(planning, "_measured", lambda *_: dict(costs))
    monkeypatch.setattr(planning, "_measured_expert", lambda *_: 0.05)
    monkeypatch.setattr(planning, "has_bf16", lambda device: device == "cpu")
    sampler = Sampler(pack, pack.training_frames(), 1)
    plan = make_plan(pack, sampler, "full", "cpu", 30)
    assert plan.bf16 is True and plan.folded is True and plan.device == "cpu"
    assert [phase.rate for phase in plan.phases] == pytest.approx([1.5e-3, 1e-3, 6e-4, 4.5e-4])
    assert 0.85 * 1800 < plan.seconds < 0.95 * 1800 and plan.held_out == pack.held_out
    # Of four steps of 320 the last shows a clip of five and two others, and not four.
    assert plan.costs == costs | {"expert": 0.05, "speak320": pytest.approx(2.0 * (4 + 4 + 4 + 7) / 16)}
    assert 1 <= plan.checks <= 8 and plan.checked_frames == 40
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    monkeypatch.setattr(planning, "has_bf16", lambda _device: False)
    assert make_plan(pack, sampler, "full", "cpu", 30).bf16 is False
    brought = replace(pack, base=folded(used()), held_out=(FRAMES - TELLING, FRAMES))
    whole = make_plan(brought, sampler, "mobile", "cpu", 30)
    assert [phase.name for phase in whole.phases] == ["listen", "speak160", "speak320"]
    assert [phase.rate for phase in whole.phases] == pytest.approx([7.5e-4, 6e-4, 4.5e-4])
    assert 0.85 * 1800 < whole.seconds < 0.95 * 1800
    with pytest.raises(LipwrightError, match="too few"):
        make_plan(pack, sampler, "full", "cpu", 0.1)
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(LipwrightError, match="begin anew"):
        Plan.load(tmp_path / "plan.json")


def test_a_training_does_not_change_its_device_on_the_way(pack: Pack, tmp_path: Path) -> None:
    replace(TINY, device="cuda").save(tmp_path / PLAN)
    with pytest.raises(LipwrightError, match=r"begun on cuda.*--device cuda, or remove"):
        train_person(pack, tmp_path)
    replace(TINY, device="cpu").save(tmp_path / PLAN)
    assert person_training._settled(
        None, pack, Sampler(pack, pack.training_frames(), 1), tmp_path, None, "cpu", 30, lambda _: None
    ) == Plan.load(tmp_path / PLAN)


@pytest.mark.parametrize("frames", [TELLING - 1, TELLING])
@pytest.mark.parametrize("begins", ["none", "ear", "whole generator"])
def test_a_given_ear_listens_where_the_time_put_aside_can_tell_whether_it_helps(
    frames: int, begins: str, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "_measured", lambda _p, _s, phases, *_: {phase.name: 1.0 for phase in phases})
    monkeypatch.setattr(planning, "_measured_expert", lambda *_: 0.05)
    bases = {"none": {}, "ear": ear_of(folded(used())), "whole generator": folded(used())}
    film = replace(pack, base=bases[begins], held_out=(FRAMES - frames, FRAMES))
    plan = make_plan(film, Sampler(film, film.training_frames(), 1), "mobile", "cpu", 30)
    draws, listens = begins != "whole generator", begins == "none" or frames >= TELLING
    learnt = {"draw": draws, "listen": listens, "speak160": True, "speak320": True}
    assert [phase.name for phase in plan.phases] == [name for name, whether in learnt.items() if whether]
    assert 0.85 * 1800 < plan.seconds < 0.95 * 1800


def test_a_card_with_little_memory_gets_smaller_batches_and_one_with_less_a_way_out(
    pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    enough, tried = [16], []

    def measured(_pack: Pack, _sampler: Sampler, phases: Sequence[Phase], *_: Any) -> dict[str, float]:
        tried.append([phase.batch for phase in phases])
        if phases[-1].batch > enough[-1]:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return dict.fromkeys((phase.name for phase in phases), 1.0)

    monkeypatch.setattr(planning, "_measured", measured)
    sampler, phases = Sampler(pack, pack.training_frames(), 1), planning._phases(True, "none")
    assert planning._affordable(pack, sampler, phases, "full", "cuda")[0] == phases
    enough.append(8)
    halved, _ = planning._affordable(pack, sampler, phases, "full", "cuda")
    assert [phase.batch for phase in halved] == [16, 64, 16, 8] and tried[-2:] == [[32, 128, 32, 16], [16, 64, 16, 8]]
    enough.append(4)
    with pytest.raises(LipwrightError, match=r"8 pictures at a time.*--width mobile or --device cpu"):
        planning._affordable(pack, sampler, phases, "full", "cuda")


def test_other_seconds_can_be_put_aside_and_a_run_keeps_its_own(pack: Pack, tmp_path: Path) -> None:
    other = pack.with_held_out(2)
    assert other.held_out == (FRAMES - 50, FRAMES) and len(other.held_frames()) == 50
    assert other.training_frames().max() == FRAMES - 50 - pack.gap - 1
    replace(TINY, held_out=pack.held_out).save(tmp_path / PLAN)
    assert Plan.load(tmp_path / PLAN).held_out == pack.held_out
    with pytest.raises(LipwrightError, match=r"put aside.*--held-out, or another folder"):
        train_person(other, tmp_path)
    for seconds in (0, -1, FRAMES / 25):
        with pytest.raises(LipwrightError, match="a tenth is usual"):
            pack.with_held_out(seconds)


def test_a_step_in_a_bad_moment_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a single one a training of half an hour was planned for 24 minutes of it."""
    now, takes = [0.0], iter([9.0, 7.0, 2.0])
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    trainer = mock.Mock(device=torch.device("cpu"))
    trainer.learn.side_effect = lambda *_: now.__setitem__(0, now[0] + next(takes))
    phase = Phase("speak160", size=160, batch=8, steps=3, rate=1e-3)
    assert planning._step_seconds(trainer, phase, lambda *_: torch.zeros(())) == 2.0


def test_a_cards_steps_are_measured_with_the_time_that_they_wait_for_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is prepared when the first steps begin is not there for the later ones."""
    now, asked = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def learn(_phase: Phase, step: int, *_: object) -> None:
        asked.append(step)
        now[0] += 0.05 if step <= CARD_WORKERS else 0.2

    trainer = mock.Mock(device=torch.device("cuda"))
    trainer.learn.side_effect = learn
    phase = planning._tried(Phase("speak160", size=160, batch=32, steps=0, rate=1e-3), "cuda")
    assert planning._step_seconds(trainer, phase, lambda *_: torch.zeros(())) == pytest.approx(0.2)
    assert asked == list(range(phase.steps))


def test_a_machine_is_measured(pack: Pack) -> None:
    phases = tuple(replace(phase, batch=1) for phase in TINY.phases)
    costs = planning._measured(pack, Sampler(pack, pack.training_frames(), 1), phases, "mobile", "cpu")
    assert set(costs) == {"draw", "listen", "speak160", "speak320"} and min(costs.values()) > 0


def test_too_little_film_is_told(pack: Pack) -> None:
    with pytest.raises(LipwrightError, match="film longer, two minutes"):
        check_enough(person(unusable=tuple(range(150))))
    with pytest.raises(LipwrightError, match="until the end"):
        check_enough(person(unusable=tuple(range(FRAMES - 20, FRAMES))))


def test_another_device_is_told(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LipwrightError, match="--device cpu"):
        train_person(pack, tmp_path / "run", plan=TINY, device="cuda")


# --- held-out time --------------------------------------------------------------------------------------------------
def test_references_are_named_and_never_the_scored_frame(pack: Pack) -> None:
    held = HeldOut(pack)
    assert len(held.references) == len(held.frames) == 40
    assert not set(held.references) & set(held.frames.tolist())
    assert set(held.references) <= set(pack.training_frames().tolist())


def test_what_chose_the_weights_does_not_tell_how_good_they_are(pack: Pack) -> None:
    long = replace(pack, rois=pack.rois[:1].repeat(400, axis=0), held_out=(200, 400), unusable=(210,))
    frames = unchosen(long, 48)
    assert long.held_frames()[47] == 248 and frames[0] == 249 + pack.gap and frames[-1] == 399
    few = replace(long, held_out=(270, 400), unusable=())
    assert np.array_equal(unchosen(few, 48), np.arange(270, 400)), "82 frames would tell too little"
    assert np.array_equal(HeldOut(pack, unchosen(pack, 6)).frames, pack.held_frames())


def test_the_reader_reads_lips_and_scores_notice_wrong_ones(pack: Pack) -> None:
    held = HeldOut(pack)
    read = LipReader(pack).read(held.truth)
    assert np.corrcoef(read, pack.mouth[held.frames, 0])[0, 1] > 0.95
    assert held.score(held.truth[::-1].copy()).lip_gap_r < 0.5
    baselines = held.baselines()
    assert abs(baselines["mean picture"].lip_gap_r) < 0.3
    assert baselines["truth"].ssim == pytest.approx(1)
    assert baselines["nearest pose"].ssim < baselines["truth"].ssim


def test_weights_are_not_chosen_by_lips_that_follow_by_chance() -> None:
    """Held-out scores of a film of 20 s after 60 steps at full size, and of a training that had ten times as many."""
    early = Score(psnr=21.25, ssim=0.698, sharpness=0.34, edges=0.08, lip_gap_r=0.56)
    late = Score(psnr=22.90, ssim=0.728, sharpness=0.45, edges=0.12, lip_gap_r=0.37)
    assert late.total > early.total
    assert replace(late, lip_gap_r=-0.6).total < early.total, (
        "lips that move against the sound are worse than soft ones"
    )
    assert replace(late, sharpness=3.0).total == replace(late, sharpness=1.0).total, "noise is no detail"


def test_a_generator_draws_every_held_out_frame(pack: Pack) -> None:
    drawn = draw(Generator("mobile").eval(), HeldOut(pack, pack.held_frames()[:3]), torch.device("cpu"))
    assert drawn.shape == (3, ROI_SIZE, ROI_SIZE, 3) and drawn.dtype == np.uint8


def test_a_phase_is_checked_at_the_size_it_learns(pack: Pack) -> None:
    """A generator that learnt from small pictures does not know what it sees in large ones."""
    held, seen = HeldOut(pack, pack.held_frames()[:3]), []

    class Reference(Generator):
        def forward(self, x: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(x.shape))
            return x[:, :3]

    drawn = draw(Reference("mobile").eval(), held, torch.device("cpu"), size=160)
    assert seen == [(3, 6, 160, 160)]
    assert drawn.shape == (3, ROI_SIZE, ROI_SIZE, 3)
    small = np.stack([cv2.resize(picture, (160, 160), interpolation=cv2.INTER_AREA) for picture in held.nearest])
    back = np.stack([cv2.resize(picture, (160, 160), interpolation=cv2.INTER_AREA) for picture in drawn])
    assert np.abs(back.astype(int) - small).mean() < 4


# --- where it starts ------------------------------------------------------------------------------------------------
def used() -> Generator:
    """A generator whose batch norms have seen something."""
    torch.manual_seed(3)
    generator = Generator("mobile")
    for _ in range(3):
        generator(torch.rand(2, 6, 160, 160), torch.rand(2, 32, 16, 16))
    return generator.eval()


def folded(generator: Generator) -> dict[str, np.ndarray[Any, Any]]:
    """What an export holds of it."""
    copy = Generator(generator.width)
    copy.load_state_dict(generator.state_dict())
    return {name: value.numpy() for name, value in lean(copy.eval()).state_dict().items()}


def test_an_exported_ear_says_the_same_and_has_no_norms() -> None:
    base, student = used(), Generator("mobile")
    before = {k: v.clone() for k, v in student.state_dict().items()}
    audio = torch.rand(8, 32, 16, 16)
    take(student, ear_of(folded(base)))
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items() if not k.startswith(EAR))
    assert not norms(student.audio_model) and norms(student.inc)
    with torch.no_grad():
        expected = base.audio_model(audio)
        torch.testing.assert_close(student.train().audio_model(audio), expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(unfolded(student).audio_model(audio), expected, atol=1e-4, rtol=0)


def test_an_exported_generator_draws_the_same_with_its_stem_back() -> None:
    base, student = used(), Generator("mobile")
    images, audio = torch.rand(3, 6, 160, 160), torch.rand(3, 32, 16, 16)
    take(student, folded(base))
    assert not norms(student)
    with torch.no_grad():
        expected = base(images, audio)
        torch.testing.assert_close(student.train()(images, audio), expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(unfolded(student)(images, audio), expected, atol=1e-4, rtol=0)


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_a_generator_whose_ear_alone_was_folded_keeps_the_other_norms() -> None:
    student = Generator("mobile")
    take(student, ear_of(folded(used())))
    student.train()(torch.rand(2, 6, 160, 160), torch.rand(2, 32, 16, 16))
    student.eval()
    whole, images, audio = unfolded(student), torch.rand(1, 6, 160, 160), torch.rand(1, 32, 16, 16)
    kept = "inc.inconv.0.conv.1.running_mean"
    assert torch.equal(whole.state_dict()[kept], student.state_dict()[kept])
    with torch.no_grad():
        torch.testing.assert_close(whole(images, audio), student(images, audio), atol=1e-4, rtol=0)


def test_a_base_of_another_width_is_refused() -> None:
    with pytest.raises(LipwrightError, match="does not fit"):
        take(Generator("full"), ear_of(folded(used())))
    with pytest.raises(LipwrightError, match="lacks"):
        take(Generator("mobile"), {})
    with pytest.raises(LipwrightError, match="does not fit a generator of width full"):
        take(Generator("full"), {k: v.numpy() for k, v in used().state_dict().items()})


def test_a_whole_generator_says_the_same_without_its_norms(tmp_path: Path) -> None:
    base = used()
    torch.save(base.state_dict(), tmp_path / "base.pth")
    weights = whole_weights(tmp_path / "base.pth")
    assert is_whole(weights) and base_width(weights) == "mobile"
    student = Generator("mobile")
    take(student, weights)
    images, audio = torch.rand(1, 6, 160, 160), torch.rand(1, 32, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(student.train()(images, audio), base(images, audio), atol=1e-4, rtol=0)


def test_a_student_begins_where_its_base_fits(pack: Pack) -> None:
    voices, ear = SpeechSampler(own_speech(pack), 0), ear_of(folded(used()))

    def begun(base: Mapping[str, np.ndarray[Any, Any]], width: Width) -> Generator:
        return begin(replace(pack, base=base), width, voices).generator

    assert norms(begun({}, "mobile")) and not norms(begun(folded(used()), "mobile"))
    assert norms(begun(ear, "mobile")) and not norms(begun(ear, "mobile").audio_model)
    assert norms(begun(ear, "full").audio_model), "a base of another width is left alone"
    assert start(ear, "mobile") == "ear" and start(ear, "full") == start({}, "full") == "none"


def test_a_whole_base_has_a_width_of_its_own(pack: Pack, tmp_path: Path) -> None:
    film = replace(pack, base=folded(used()), base_name="ada")
    with pytest.raises(LipwrightError, match="ada is of width mobile and cannot become full"):
        train_person(film, tmp_path / "full", minutes=1, width="full")
    for width in (None, "mobile"):
        with pytest.raises(LipwrightError, match="too few on this machine"):
            train_person(film, tmp_path / "mobile", minutes=1e-6, width=width)
    assert not (tmp_path / "full" / PLAN).exists()


def test_a_training_goes_on_only_with_what_it_began_from(pack: Pack, tmp_path: Path) -> None:
    replace(TINY, begins="ear").save(tmp_path / PLAN)
    with pytest.raises(LipwrightError, match="was begun from an ear, the pack brings a whole generator"):
        train_person(replace(pack, base=folded(used())), tmp_path)


@pytest.mark.parametrize("width", ["mobile", "full"])
def test_a_new_generator_begins_by_copying(pack: Pack, width: Width) -> None:
    torch.manual_seed(1)
    student, sampler = Student(pack, width), Sampler(pack, pack.training_frames(), seed=1)
    shown = sampler.batch(5, 4, 160)
    reference, target = shown.x[:, :3], shown.y
    masked = (shown.x[:, 3:] == 0).all(dim=1, keepdim=True).expand_as(target)
    copied = torch.where(masked, reference, target)

    def alike() -> float:
        with torch.no_grad():
            drawn = student.generator.draw(shown.x, student.mouth_map(shown.mouth))
        return float(torch.corrcoef(torch.stack([drawn.flatten(), copied.flatten()]))[0, 1])

    before = alike()
    begin_by_copying(student, sampler)
    assert before < 0.8 < 0.95 < alike()
    assert float(masked.float().mean()) > 0.8, "most of it comes from the reference"


def test_a_whole_base_is_not_made_to_copy(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copying: list[bool] = []
    monkeypatch.setattr(person_training, "begin_by_copying", lambda *_: copying.append(True))
    train_person(replace(pack, base=folded(used())), tmp_path / "whole", plan=TINY)
    assert not copying
    train_person(replace(pack, base=ear_of(folded(used()))), tmp_path / "ear", plan=TINY)
    assert copying


def hearing(monkeypatch: pytest.MonkeyPatch, before: float, after: float) -> None:
    """So much of the held-out mouths is heard before and after the ear has listened."""
    scores = iter([before, after])
    monkeypatch.setattr(person_training, "heard", lambda *_args, **_options: next(scores))


def heard_by(generator: Generator) -> torch.Tensor:
    windows = torch.rand(4, 32, 16, 16, generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        said: torch.Tensor = generator.eval().audio_model(windows)
    return said


class Repeating(nn.Module):
    """An ear that says the first features of the frame it is asked about."""

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        now = window.reshape(-1, 16, 512)[:, WINDOW_PAST, :64]
        return now[:, :, None, None].expand(-1, -1, 10, 10)


@pytest.mark.parametrize(
    ("told", "least", "most"),
    [
        (lambda code, _held: code, 0.9, 1.0),
        (lambda code, _held: np.zeros_like(code), -0.2, 0.0),
        (lambda code, held: np.where(held[:, None], -code, code), -4.0, -1.0),
    ],
    ids=["hears", "deaf", "by heart"],
)
def test_what_an_ear_hears_is_asked_where_it_has_not_listened(
    pack: Pack, told: Callable[..., Any], least: float, most: float
) -> None:
    held = np.isin(np.arange(FRAMES), pack.held_frames())
    code = (pack.mouth - pack.mouth.mean(axis=0)) / pack.mouth.std(axis=0)
    features = np.zeros_like(pack.features)
    features[0, :, : code.shape[1]] = told(code, held)
    film = replace(pack, features=features)
    student = Student(film, "mobile")
    student.generator.audio_model = Repeating()  # type: ignore[assignment]
    assert least < heard(student, film, torch.device("cpu")) <= most


def test_an_ear_is_asked_all_over_the_film(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it knows of the last part only by heart shows there, and in no part before it."""
    code = (pack.mouth - pack.mouth.mean(axis=0)) / pack.mouth.std(axis=0)
    features = np.zeros_like(pack.features)
    features[0, :, : code.shape[1]] = code
    last = FRAMES - FRAMES // hearing_tool.parts_of(FRAMES)
    features[0, last:] *= -1
    student = Student(pack, "mobile")
    student.generator.audio_model = Repeating()  # type: ignore[assignment]
    monkeypatch.setattr(hearing_tool, "begin", lambda *_: student)
    film = replace(pack, features=features, base=folded(used()))
    found = hearing_tool.all_over(film)
    assert len(found) == hearing_tool.parts_of(FRAMES) and found[-1] < -1
    assert all(part > max(0.2, found[-1]) for part in found[:-1])
    with pytest.raises(LipwrightError, match="an ear that hears nothing"):
        hearing_tool.all_over(pack)


def test_ears_are_told_side_by_side(pack: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / "one.npz", tmp_path / "two.npz"]
    for path, name in zip(paths, ("ada", "ben"), strict=True):
        replace(pack, base=folded(used()), base_name=name).save(path)
    with mock.patch.object(sys, "argv", ["hearing", *map(str, paths)]):
        hearing_tool.main()
    head, rule, one, two = capsys.readouterr().out.splitlines()
    assert head.count("|") == rule.count("|") == one.count("|")
    assert one.startswith("| one.npz | ada | ") and two.startswith("| two.npz | ben | ")
    parts = [float(part) for part in one.split("|")[4].split(", ")]
    assert len(parts) == hearing_tool.parts_of(FRAMES)
    assert float(one.split("|")[3]) == pytest.approx(np.mean(parts), abs=0.01)
    assert hearing_tool.table([("dark", "ada", [0.5, math.nan])])[2] == "| dark | ada | 0.500 | 0.50, - |"
    assert hearing_tool.table([("dark", "ada", [math.nan])])[2] == "| dark | ada | - | - |"


def test_nobody_is_heard_where_no_face_is_seen(pack: Pack) -> None:
    dark = replace(pack, unusable=tuple(range(*pack.held_out)))
    assert math.isnan(heard(Student(pack, "mobile"), dark, torch.device("cpu")))


def at_rate(factor: float) -> Plan:
    """TINY, with pictures that teach so much of what they teach otherwise."""
    phases = [replace(p, rate=factor * p.rate) if p.name.startswith("speak") else p for p in TINY.phases]
    return replace(TINY, phases=tuple(phases))


@pytest.mark.parametrize(("after", "ear"), [(0.9, "given back"), (1.0, "taught")])
def test_an_ear_that_hears_worse_after_listening_is_given_back(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: float, ear: str
) -> None:
    hearing(monkeypatch, 1.0, after)
    figures = train_person(replace(pack, base=ear_of(folded(used()))), tmp_path, plan=at_rate(0))
    assert figures["ear"] == ear
    trained = Generator("mobile")
    trained.load_state_dict(weights_of(tmp_path))
    difference = (heard_by(trained) - heard_by(used())).abs().max()
    assert float(difference) < 1e-4 if ear == "given back" else float(difference) > 1e-3


def test_an_ear_that_does_not_listen_learns_with_the_pictures_alone(pack: Pack, tmp_path: Path) -> None:
    given = replace(pack, base=ear_of(folded(used())))
    with mock.patch.object(person_training, "lesson", wraps=lesson) as lessons:
        figures = train_person(given, tmp_path, plan=replace(at_rate(30), phases=without(at_rate(30).phases, "listen")))
    assert figures["ear"] == "as it came"
    assert [call.args[-1] for call in lessons.call_args_list] == [False, False, False]
    trained = Generator("mobile")
    trained.load_state_dict(weights_of(tmp_path))
    assert float((heard_by(trained) - heard_by(used())).abs().max()) > 1e-3


def test_an_ear_that_was_given_back_goes_on_with_the_pictures(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mock.patch.object(person_training, "lesson", wraps=lesson) as lessons:
        hearing(monkeypatch, 1.0, 0.9)
        train_person(replace(pack, base=ear_of(folded(used()))), tmp_path, plan=at_rate(30))
    trained = Generator("mobile")
    trained.load_state_dict(weights_of(tmp_path))
    assert float((heard_by(trained) - heard_by(used())).abs().max()) > 1e-3
    listens = [call.args[-1] for call in lessons.call_args_list]
    assert listens == [True, True, False, False], "other voices are not listened to any more"


def test_a_training_whose_ear_was_given_back_is_resumed_to_the_same_bits(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = replace(pack, base=ear_of(folded(used())))
    hearing(monkeypatch, 1.0, 0.5)
    train_person(film, tmp_path / "whole", plan=TINY)

    def stop(progress: Progress) -> None:
        if "speak, step 3" in progress.step:
            raise KeyboardInterrupt

    hearing(monkeypatch, 1.0, 0.5)
    with pytest.raises(KeyboardInterrupt):
        train_person(film, tmp_path / "cut", plan=TINY, progress=stop)
    hearing(monkeypatch, 1.0, 0.5)
    train_person(film, tmp_path / "cut", plan=TINY)
    whole, cut = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_the_presenter_can_be_taken_out_of_his_file(tmp_path: Path) -> None:
    presenter = Avatar.open(builtin_avatar())
    assert presenter.generator is not None
    whole = exported_weights(presenter.generator)
    ear = ear_of(whole)
    assert base_width(ear) == presenter.manifest.models.generator.width  # type: ignore[union-attr]
    assert not is_whole(ear)
    take(Generator(base_width(ear)), ear)
    take(Generator(base_width(whole)), whole)
    (tmp_path / "no.onnx").write_bytes(b"no network")
    with pytest.raises(LipwrightError, match=r"no\.onnx"):
        exported_weights(tmp_path / "no.onnx")


def test_another_presenter_begins_from_one_that_was_exported(pack: Pack) -> None:
    fast = Avatar.open(builtin_avatar()).at("fast").generator
    assert fast is not None
    torch.manual_seed(1)
    student = Student(pack, "mobile")
    torch.manual_seed(1)  # what the exported stem no longer holds is a new generator's
    asked = Student(pack, "mobile")
    voices = SpeechSampler(own_speech(pack), 0)
    presenter.begin_from(student, fast, voices)
    take(asked.generator, exported_weights(fast))
    speak_like(asked.mouth_map, asked.generator, *voices.batch(0, 192))
    mine, his = student.state_dict(), asked.state_dict()
    assert mine.keys() == his.keys()
    assert all(torch.equal(mine[name], his[name]) for name in mine)
    assert not torch.equal(student.mouth_map.linear.weight, Student(pack, "mobile").mouth_map.linear.weight)


def test_the_mouth_map_begins_where_the_ear_speaks(pack: Pack) -> None:
    """An ear that says a linear map of the code, and a little else: the map is found again, a tenth weaker."""
    torch.manual_seed(1)
    student = Student(pack, "mobile")
    audio, mouth = SpeechSampler(own_speech(pack), 0).batch(0, 400)
    truth = torch.nn.Linear(2, 256)
    with torch.no_grad():
        code = (mouth - student.mouth_map.mean) / student.mouth_map.spread
        said: torch.Tensor = (truth(code) + 0.05 * torch.randn(400, 256))[:, :, None, None].expand(-1, -1, 10, 10)

    class Ear(nn.Module):
        def forward(self, heard: torch.Tensor) -> torch.Tensor:
            assert heard is audio
            return said

    student.generator.audio_model = Ear()  # type: ignore[assignment]
    speak_like(student.mouth_map, student.generator, audio, mouth)
    with torch.no_grad():
        wanted = student.mouth_map(mouth)[:, :, 0, 0]
    assert (said[:, :, 0, 0] - wanted).square().mean() < 0.1 * said[:, :, 0, 0].var(dim=0).mean()


# --- weights that travel --------------------------------------------------------------------------------------------
def test_weights_travel_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lipwright.training.person.PART_BYTES", 1000)
    path = tmp_path / WEIGHTS
    data = np.random.default_rng(0).bytes(2500)
    path.write_bytes(data)
    parts = split(path)
    assert [part.stat().st_size for part in parts] == [1000, 1000, 500]
    path.unlink()
    assert joined(path).read_bytes() == data
    path.unlink()
    parts[1].write_bytes(b"damaged")
    with pytest.raises(LipwrightError, match="copy all of them again"):
        joined(path)
    with pytest.raises(LipwrightError, match="no trained weights"):
        joined(tmp_path / "elsewhere" / WEIGHTS)


@pytest.mark.parametrize(("from_whole", "factors"), [(False, [1, 1, 0.75, 0.75]), (True, 4 * [0.75])])
def test_what_has_no_norms_learns_more_gently(from_whole: bool, factors: list[float]) -> None:
    phases = planning.without_norms(TINY.phases, from_whole)
    assert [mine.rate / theirs.rate for mine, theirs in zip(phases, TINY.phases, strict=True)] == pytest.approx(factors)


def test_every_number_of_a_folded_network_learns(pack: Pack, tmp_path: Path) -> None:
    """torch gives a convolution without a bias one that is dead: nine in ten of a generator's stood still."""
    trainer = Trainer(begin(replace(pack, base=folded(used())), "mobile", SpeechSampler(own_speech(pack), 0)), tmp_path)
    trainer.fold()
    assert not any(weight.requires_grad for weight in trainer.average.parameters())
    generator = trainer.student.generator
    before = {name: weight.clone() for name, weight in generator.state_dict().items()}
    phase = Phase("speak160", size=160, batch=2, steps=2, rate=1e-3)
    loss = speaking(Sampler(pack, pack.training_frames(), 1), None, phase, trainer.device, NOBODY)
    optimizer = trainer.optimizer(phase, generator)
    for step in range(phase.steps):
        trainer.learn(phase, step, loss, optimizer)
    still = [name for name, weight in generator.state_dict().items() if torch.equal(weight, before[name])]
    assert still == []


def test_folding_says_the_same_once_and_then_changes_nothing(pack: Pack, tmp_path: Path) -> None:
    torch.manual_seed(4)
    trainer = Trainer(Student(pack, "mobile"), tmp_path, bf16=False)
    for module in trainer.average.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    picture, sound = torch.rand(1, 6, 160, 160), torch.rand(1, 32, 16, 16)
    with torch.no_grad():
        before = trainer.average.generator(picture, sound)
        trainer.fold()
        folded = [each.generator.eval()(picture, sound) for each in (trainer.student, trainer.average)]
    for answer in folded:
        torch.testing.assert_close(answer, before, rtol=1e-3, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in trainer.student.modules())
    with torch.no_grad():
        next(trainer.student.parameters()).add_(1.0)
    trainer.fold()
    mine, theirs = (next(each.parameters()) for each in (trainer.student, trainer.average))
    assert not torch.equal(mine, theirs), "what it has learnt since is not thrown away"


def test_a_measured_step_of_speech_has_no_norms_as_training_has_none(
    pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, bool] = {}

    def second(trainer: Trainer[Student], phase: Phase, _loss: Any) -> float:
        seen[phase.name] = any(isinstance(module, nn.BatchNorm2d) for module in trainer.student.generator.modules())
        return 1.0

    monkeypatch.setattr(planning, "_step_seconds", second)
    sampler = Sampler(pack, pack.training_frames(), 1)
    planning._measured(pack, sampler, TINY.phases, "mobile", "cpu")
    assert seen == {"draw": True, "listen": True, "speak160": False, "speak320": False}


def test_the_presenter_learns_to_speak_without_norms_too(pack: Pack, tmp_path: Path) -> None:
    sampler, speech = Sampler(pack, pack.training_frames(), 1), SpeechSampler(own_speech(pack), 2)
    normed: list[bool] = []
    trainer = Trainer(
        Student(pack, "mobile"),
        tmp_path,
        on_step=lambda *_: normed.append(any(isinstance(m, nn.BatchNorm2d) for m in trainer.student.modules())),
        bf16=False,
    )
    presenter.run(trainer, list(TINY.phases[1:3]), sampler, speech, has_ear=False)
    assert normed == TINY.phases[1].steps * [True] + TINY.phases[2].steps * [False]
    weights = presenter.finished(trainer.average.generator, pack, gain=1.2)
    assert set(weights.state_dict()) == set(Generator("mobile").state_dict())
