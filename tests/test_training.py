"""Training: what the network is shown, how errors are weighed, and that an interruption changes nothing."""

from __future__ import annotations

import io
import platform
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from avatars import Parts, make_avatar, small_landmarks
from lipwright import patch
from lipwright.audio.window import FeatureWindow
from lipwright.avatar.package import LANDMARKS
from lipwright.contract import AUDIO_SHAPE, FEATURE_DIM, MASK_XYWH, ROI_SIZE
from lipwright.errors import AvatarError, LipwrightError
from lipwright.models.generator import CHANNELS, Generator
from lipwright.quality import psnr
from lipwright.render import Template
from lipwright.runtimes.machine import memory_gib
from lipwright.training import collect as collecting
from lipwright.training import heap
from lipwright.training.collect import collect
from lipwright.training.data import References, Sampler, balanced, pixel_weight, similarity, windows
from lipwright.training.folded import amplify, fold, unfolded
from lipwright.training.heap import ROOMY_GIB
from lipwright.training.lessons import Teachers, drawing, listening, speaking
from lipwright.training.loop import Phase, Student, Trainer
from lipwright.training.losses import picture_loss, pyramid_loss
from lipwright.training.pack import Pack
from lipwright.training.pictures import KeptPictures
from lipwright.training.speech import Speech, SpeechSampler

FRAMES = 60


@pytest.fixture(scope="module")
def pack() -> Pack:
    """A face of smooth noise that sways; four landmarks are still points, four are lips that open and close."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (FRAMES, 20, 20, 3), np.uint8)
    rois = small.repeat(16, axis=1).repeat(16, axis=2)
    sway = 4 * np.sin(np.arange(FRAMES) / 5)
    gap = 10 + 10 * np.sin(np.arange(FRAMES) / 2)
    still = np.array([[100, 60], [220, 60], [160, 90], [160, 120]], float)
    lips = np.array([[130, 200], [190, 200], [160, 190], [160, 210]], float)
    points = np.repeat(np.concatenate([still, lips])[None], FRAMES, axis=0)
    points[:, :, 0] += sway[:, None]
    points[:, 7, 1] += gap
    return Pack(
        rois=rois,
        landmarks=points.astype(np.float32),
        still=np.arange(4),
        lips=np.arange(4, 8),
        mouth=np.stack([gap, np.sqrt(gap + 1)], axis=1).astype(np.float32),
        features=rng.random((2, FRAMES, FEATURE_DIM)).astype(np.float16),
        held_out=(50, FRAMES),
        gap=5,
    )


@pytest.fixture(scope="module")
def speech() -> Speech:
    rng = np.random.default_rng(1)
    return Speech(
        features=rng.random((2, 40, FEATURE_DIM)).astype(np.float16),
        mouth=rng.random((40, 2)).astype(np.float32),
        first=np.repeat([0, 25], [25, 15]),
        last=np.repeat([24, 39], [25, 15]),
    )


def test_held_out_time_and_its_gap_are_never_trained_on(pack: Pack) -> None:
    assert pack.training_frames().tolist() == list(range(45))


def test_a_pack_comes_back_as_it_was_saved(pack: Pack, tmp_path: Path) -> None:
    pack.save(tmp_path / "pack.npz")
    back = Pack.load(tmp_path / "pack.npz")
    assert np.abs(back.rois[:].astype(int) - pack.rois[:]).mean() < 2
    np.testing.assert_array_equal(back.mouth, pack.mouth)
    np.testing.assert_array_equal(back.features, pack.features)
    assert back.held_out == pack.held_out
    assert [p.name for p in tmp_path.iterdir()] == ["pack.npz"]


def test_pictures_are_not_made_worse_by_being_kept_again(pack: Pack, tmp_path: Path) -> None:
    pack.save(tmp_path / "pack.npz")
    once = Pack.load(tmp_path / "pack.npz")
    once.save(tmp_path / "again.npz")
    twice = Pack.load(tmp_path / "again.npz")
    assert np.array_equal(once.rois[:], twice.rois[:])


def test_kept_pictures_are_found_as_those_of_an_array(pack: Pack) -> None:
    kept = KeptPictures.of(pack.rois)
    whole = np.stack(list(kept))
    assert len(kept) == len(whole) == len(pack.rois)
    assert np.array_equal(kept[np.int64(7)], whole[7]) and np.array_equal(kept[-1], whole[-1])
    assert np.array_equal(kept[3:9:2], whole[3:9:2])
    assert np.array_equal(kept[np.array([5, 1])], whole[[5, 1]])
    with pytest.raises(LipwrightError, match="picture 0 of the pack cannot be decoded"):
        KeptPictures([np.zeros(40, np.uint8)])[0]


def test_a_pack_that_was_damaged_on_the_way_is_refused(pack: Pack, tmp_path: Path) -> None:
    path = tmp_path / "pack.npz"
    pack.save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 8] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(LipwrightError, match="is not a training pack"):
        Pack.load(path)


def an_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize("content", [b"no zip", b"", b"PK\x03\x04 cut short", an_array()], ids=range(4))
@pytest.mark.parametrize("loader", [Pack.load, Speech.load])
def test_another_file_is_named(loader: object, content: bytes, tmp_path: Path) -> None:
    assert callable(loader)
    path = tmp_path / "film.npz"
    path.write_bytes(content)
    with pytest.raises(LipwrightError, match=r"film\.npz"):
        loader(path)


def test_similarity_is_found_again() -> None:
    points = np.random.default_rng(2).random((9, 2)).astype(np.float32) * 100
    turn = np.array([[0.9, -0.3], [0.3, 0.9]], np.float32)
    matrix = similarity(points, points @ turn.T + np.array([5, -7], np.float32))
    np.testing.assert_allclose(matrix, np.c_[turn, [5, -7]], atol=1e-3)


def test_references_are_near_in_pose_far_in_time_and_never_held_out(pack: Pack) -> None:
    references = References(pack, pack.training_frames(), nearest=5, apart=8)
    for frame in (3, 20, 55):
        chosen = references.candidates(frame)
        assert (np.abs(chosen - frame) > 8).all()
        assert (chosen < 45).all()
        far = np.setdiff1d(pack.training_frames(), [*chosen, *range(frame - 8, frame + 9)])
        shift = np.abs(pack.landmarks[:, 0, 0] - pack.landmarks[frame, 0, 0])
        assert shift[chosen].max() <= shift[far].min() + 1e-3


def test_a_reference_is_moved_onto_the_pose(pack: Pack) -> None:
    references = References(pack, pack.training_frames())
    moved = references.picture(0, 8).astype(int)
    shift = round(float(pack.landmarks[0, 0, 0] - pack.landmarks[8, 0, 0]))
    assert shift == -4
    np.testing.assert_allclose(moved[50:60, 52:60], pack.rois[8, 50:60, 56:64], atol=12)


def test_the_input_shows_reference_and_rim_only(pack: Pack) -> None:
    batch = Sampler(pack, pack.training_frames(), seed=0).batch(0, 2, ROI_SIZE)
    x, y, width, height = MASK_XYWH
    hidden = batch.x[:, 3:, y : y + height, x : x + width]
    assert not hidden.any()
    np.testing.assert_array_equal(batch.x[:, 3:, :y], batch.y[:, :, :y])
    assert not torch.equal(batch.x[:, :3], batch.y)
    assert batch.weight.mean().item() == pytest.approx(1, abs=1e-3)


def test_a_step_gets_the_same_batch_whenever_it_is_asked(pack: Pack) -> None:
    first, second = (Sampler(pack, pack.training_frames(), seed=4) for _ in range(2))
    first.batch(0, 2, 160)
    assert torch.equal(first.batch(7, 2, 160).x, second.batch(7, 2, 160).x)
    assert not torch.equal(first.batch(8, 2, 160).x, second.batch(7, 2, 160).x)


def test_rare_mouths_are_drawn_more_often(pack: Pack) -> None:
    chance = balanced(pack, pack.training_frames())
    assert chance.sum() == pytest.approx(1)
    assert chance.max() > chance.min()


def test_the_mouth_weighs_most() -> None:
    weight = pixel_weight(np.array([[130, 200], [190, 230]], np.float32), 8)
    assert weight[215, 160] > 6 * weight[20, 20]


@pytest.mark.parametrize("future", [0, 3, 7])
def test_training_and_rendering_cut_the_same_windows(future: int) -> None:
    features = np.random.default_rng(3).random((30, FEATURE_DIM)).astype(np.float32)
    stream = FeatureWindow("edge", future)
    rendered = np.concatenate([stream.push(features), stream.flush()])
    frames = np.arange(30)
    np.testing.assert_array_equal(windows(features, frames, np.full(30, future), 0, 29), rendered)


def test_windows_stay_inside_their_utterance(speech: Speech) -> None:
    audio, mouth = SpeechSampler(speech, seed=0).batch(0, 200)
    assert audio.shape == (200, 32, 16, 16)
    for window, code in zip(audio.reshape(200, 16, FEATURE_DIM), mouth, strict=True):
        frame = int((np.abs(speech.mouth - code.numpy()).sum(axis=1)).argmin())
        first, last = speech.first[frame], speech.last[frame]
        own = speech.features[:, first : last + 1].astype(np.float32).reshape(-1, FEATURE_DIM)
        assert all((own == row).all(axis=1).any() for row in window.numpy())


def test_losses_are_zero_for_the_truth_and_grow_with_blur() -> None:
    truth = torch.rand(1, 3, 64, 64)
    weight = torch.ones(1, 1, 64, 64)
    assert picture_loss(truth, truth, weight).item() == pytest.approx(0, abs=1e-5)
    blurs = [torch.nn.functional.avg_pool2d(truth, k, 1, k // 2, count_include_pad=False) for k in (3, 7)]
    assert 0 < picture_loss(blurs[0], truth, weight) < picture_loss(blurs[1], truth, weight)


def test_the_pyramid_hates_a_blurred_edge_more_than_a_faint_shade() -> None:
    edge = torch.zeros(1, 3, 64, 64)
    edge[..., 32:] = 1
    weight = torch.ones(1, 1, 64, 64)
    blurred = torch.nn.functional.avg_pool2d(edge, 9, 1, 4, count_include_pad=False)
    shade = edge + (blurred - edge).abs().mean()
    assert pyramid_loss(blurred, edge, weight) > 1.5 * pyramid_loss(shade, edge, weight)


def train(pack: Pack, speech: Speech, folder: Path, stop_at: int = -1) -> Student:
    """All three phases with a checkpoint after every step; Ctrl-C at step ``stop_at`` of the last one."""
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    trainer = Trainer(Student(pack, "mobile"), folder, checkpoint_seconds=0)
    sampler, voices = Sampler(pack, pack.training_frames(), seed=1), SpeechSampler(speech, seed=2)
    draw, listen, speak = (
        Phase("draw", 160, 1, 1, 1e-3),
        Phase("listen", 0, 2, 1, 1e-3),
        Phase("speak", 160, 1, 3, 1e-3),
    )
    trainer.run(draw, drawing(sampler, draw, trainer.device), lambda s: s)
    trainer.run(listen, listening(voices, listen, trainer.device), lambda s: s.generator.audio_model)
    loss = speaking(sampler, voices, speak, trainer.device, Teachers())

    def interrupted(student: Student, step: int) -> torch.Tensor:
        if step == stop_at:
            raise KeyboardInterrupt
        return loss(student, step)

    trainer.run(speak, interrupted, lambda s: s.generator)
    return trainer.average


def test_an_interrupted_training_ends_like_an_undisturbed_one(pack: Pack, speech: Speech, tmp_path: Path) -> None:
    whole = train(pack, speech, tmp_path / "whole").state_dict()
    with pytest.raises(KeyboardInterrupt):
        train(pack, speech, tmp_path / "cut", stop_at=2)
    resumed = train(pack, speech, tmp_path / "cut").state_dict()
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_the_last_few_steps_do_not_make_a_jump_in_the_curve(tmp_path: Path) -> None:
    trainer = Trainer(torch.nn.Linear(1, 1), tmp_path)
    phase = Phase("rise", 0, 1, 64, 1e-9)
    assert phase.report_every == 3
    trainer.run(phase, lambda line, step: 0 * line.weight.sum() + step, lambda line: line)
    curve = trainer.records["rise"].curve
    assert curve[0] == [3, 1]
    assert curve[-2:] == [[60, 58], [64, 61.5]]


def test_each_phase_teaches_its_own_part(pack: Pack, speech: Speech, tmp_path: Path) -> None:
    torch.manual_seed(0)
    trainer = Trainer(Student(pack, "mobile"), tmp_path)
    voices = SpeechSampler(speech, seed=2)
    before = {k: v.clone() for k, v in trainer.student.named_parameters()}
    listen = Phase("listen", 0, 2, 2, 1e-3)
    trainer.run(listen, listening(voices, listen, trainer.device), lambda s: s.generator.audio_model)
    changed = {k for k, v in trainer.student.named_parameters() if not torch.equal(v, before[k])}
    assert changed
    assert all(name.startswith("generator.audio_model.") for name in changed)


def test_an_avatar_becomes_a_pack(tmp_path: Path) -> None:
    avatar = make_avatar(tmp_path, Parts(frames=80))
    landmarks = np.pad(small_landmarks(80, points=468), ((0, 0), (0, 0), (0, 1)))
    landmarks[4] = np.nan
    avatar = avatar.save(contents={LANDMARKS: landmarks})
    pack = collect(avatar)
    assert pack.held_out == (72, 80)
    assert pack.unusable == (4,)
    assert pack.training_frames().tolist() == [k for k in range(72 - 25) if k != 4], "a second is left out between"
    template = Template(avatar.template)
    roi = patch.roi(patch.crop(template.frame(7).bgr, avatar.rect(7), avatar.manifest.resize))
    template.close()
    np.testing.assert_array_equal(pack.rois[7], KeptPictures.of([roi])[0])
    assert psnr(pack.rois[7], roi) > 40
    inside = pack.landmarks[7]
    assert inside.min() >= -4.1
    assert inside.max() <= 324.1
    assert np.isfinite(pack.mouth).all()


def test_a_template_that_ends_too_early_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    landmarks = np.pad(small_landmarks(80, points=468), ((0, 0), (0, 0), (0, 1)))
    avatar = make_avatar(tmp_path, Parts(frames=80)).save(contents={LANDMARKS: landmarks})
    whole = collecting.rois
    monkeypatch.setattr(collecting, "rois", lambda *given: islice(whole(*given), 70))
    with pytest.raises(AvatarError, match="ends after 70 of 80 frames: prepare the film again"):
        collect(avatar)


def test_a_pack_with_fewer_pictures_than_mouths_is_refused(pack: Pack, tmp_path: Path) -> None:
    replace(pack, rois=pack.rois[:-1]).save(tmp_path / "pack.npz")
    with pytest.raises(LipwrightError, match="59 pictures for 60 mouths"):
        Pack.load(tmp_path / "pack.npz")


def test_an_avatar_without_what_training_needs_is_named(tmp_path: Path) -> None:
    with pytest.raises(AvatarError, match="468 landmarks"):
        collect(make_avatar(tmp_path, Parts(), name="other"))
    with pytest.raises(AvatarError, match="no features"):
        collect(make_avatar(tmp_path, Parts(features=False), name="deaf"))


def test_a_folded_generator_says_the_same_and_comes_back_as_the_familys() -> None:
    torch.manual_seed(3)
    generator = Generator("mobile")
    image, audio = torch.rand(2, 6, 160, 160), torch.randn(2, *AUDIO_SHAPE)
    generator.train()(image, audio)  # so that the norms have something to say
    generator.eval()
    with torch.no_grad():
        before = generator(image, audio)
        fold(generator)
        folded = generator(image, audio)
        back = unfolded(generator)
        after = back(image, audio)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in generator.modules())
    assert float((before - before.mean()).abs().max()) > 1e-3
    torch.testing.assert_close(folded, before, atol=1e-5, rtol=0)
    torch.testing.assert_close(after, folded, atol=1e-5, rtol=0)
    assert back.state_dict().keys() == Generator("mobile").state_dict().keys()


def test_the_gain_moves_the_mouth_further_from_rest_and_leaves_rest_alone() -> None:
    torch.manual_seed(4)
    generator = Generator("mobile").eval()
    fold(generator)
    entry = generator.get_submodule("fuse_conv.0.double_conv.0.conv.0")
    channels = CHANNELS["mobile"][-1]
    picture, rest, loud = torch.randn(1, channels, 10, 10), torch.randn(channels), torch.randn(1, channels, 10, 10)
    quiet = rest[None, :, None, None].expand_as(loud)

    def heard(sound: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = entry(torch.cat([picture, sound], dim=1))
        return made

    with torch.no_grad():
        before, wished = heard(quiet), heard(quiet + 1.5 * (loud - quiet))
        amplify(generator, rest, 1.5)
        torch.testing.assert_close(heard(quiet), before, atol=1e-4, rtol=0)
        torch.testing.assert_close(heard(loud), wished, atol=1e-4, rtol=0)
    assert float((wished - before).abs().mean()) > 0.1


#: Prints how many pages the kernel had to fetch for ten tensors of 64 MiB, made and freed one after the other, once
#: the heap has found its size.
_FETCHED = """
import resource, sys, torch
from lipwright.training.heap import keep_pages
asked = sys.argv[1] == "keep" and keep_pages()
for _ in range(20):
    torch.ones(16 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(16 << 20)
print(int(asked), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _pages_fetched(how: str) -> tuple[bool, int]:
    answer = subprocess.run([sys.executable, "-c", _FETCHED, how], capture_output=True, text=True, check=True).stdout
    asked, faults = answer.split()
    return asked == "1", int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no other C library can be asked")
@pytest.mark.skipif((memory_gib() or 0) < ROOMY_GIB, reason="too little memory: it is given back as ever")
def test_a_training_keeps_the_pages_that_it_frees() -> None:
    (asked, kept), (_, given_back) = _pages_fetched("keep"), _pages_fetched("leave")
    assert asked
    assert kept < given_back / 10


#: Prints resident MiB with 40 tensors of 24 MiB, when they are freed, and when their pages were given back.
_HELD = """
import torch
from lipwright.training.heap import give_back_pages, keep_pages
def held():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) // 1024
keep_pages()
kept = [torch.ones(6 << 20) for _ in range(41)]
first = held()
del kept[:-1]
second = held()
give_back_pages()
print(first, second, held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no other C library can be asked")
@pytest.mark.skipif((memory_gib() or 0) < ROOMY_GIB, reason="too little memory: it is given back as ever")
def test_pages_that_are_free_can_be_given_back_below_one_that_is_not() -> None:
    answer = subprocess.run([sys.executable, "-c", _HELD], capture_output=True, text=True, check=True).stdout
    full, freed, left = map(int, answer.split())
    assert freed > full - 100, "kept"
    assert left < full - 800


@pytest.mark.parametrize(
    ("library", "gib"), [(("", ""), 64.0), (("musl", "1.2"), 64.0), (("glibc", "2.36"), 8.0), (("glibc", "2.36"), None)]
)
def test_where_pages_cannot_be_kept_nothing_is_asked(library: tuple[str, str], gib: float | None) -> None:
    with (
        mock.patch.object(platform, "libc_ver", return_value=library),
        mock.patch.object(heap, "memory_gib", return_value=gib),
        mock.patch("ctypes.CDLL", side_effect=AssertionError("it was asked")),
    ):
        assert heap.keep_pages() is False
        if library[0] != "glibc":
            heap.give_back_pages()
