"""The sync expert: it learns who belongs to whom where there is something to learn, and says so where there is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lipwright.models.sync_expert import (
    EXPERT_FRAMES,
    MOUTH_PLACE,
    MOUTH_SIZE,
    SyncExpert,
    mouth_pictures,
    sync_loss,
)
from lipwright.training.data import SHIFTS, Sampler, another_moment, to_tensor
from lipwright.training.lessons import NOBODY, Teachers, _picture_error, spoken
from lipwright.training.loop import Phase, Trainer
from lipwright.training.pack import Pack
from lipwright.training.sync import TRUSTED, SyncSampler, accuracy, expert_loss, held_accuracy, mouths
from people import FRAMES, person

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pack() -> Pack:
    return person()


def taught(pack: Pack, folder: Path, steps: int = 90) -> SyncExpert:
    torch.manual_seed(0)
    trainer = Trainer(SyncExpert(), folder)
    phase = Phase("expert", 0, 32, steps, 2e-3)
    trainer.run(phase, expert_loss(SyncSampler(pack, 1), phase.batch, CPU), lambda expert: expert)
    return trainer.average


@pytest.fixture(scope="module")
def expert(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> SyncExpert:
    return taught(pack, tmp_path_factory.mktemp("taught"))


def test_it_finds_the_sound_that_belongs_to_the_lips(pack: Pack, expert: SyncExpert) -> None:
    assert held_accuracy(expert, pack, CPU) > TRUSTED


def test_it_cannot_be_trusted_where_sound_and_lips_have_nothing_in_common(tmp_path: Path) -> None:
    strangers = person(told=False)
    assert held_accuracy(taught(strangers, tmp_path), strangers, CPU) < TRUSTED


def test_lips_that_do_not_move_get_half_of_it_right(pack: Pack, tmp_path: Path) -> None:
    expert = taught(pack, tmp_path, steps=3)
    first, last = pack.held_out
    frozen = np.repeat(mouths(pack.rois[first : first + 1]), last - first, axis=0)
    starts = np.arange(last - first - EXPERT_FRAMES + 1)
    assert accuracy(expert, frozen, pack.features[0, first:last], starts, CPU) == pytest.approx(0.5, abs=0.1)


def test_nothing_to_compare_is_nan(pack: Pack) -> None:
    shown = mouths(pack.rois[:EXPERT_FRAMES])
    assert np.isnan(accuracy(SyncExpert().eval(), shown, pack.features[0, :EXPERT_FRAMES], np.array([0]), CPU))


def test_it_teaches_pictures_to_fit_their_sound(pack: Pack, expert: SyncExpert) -> None:
    """The true pictures with their own sound and with the other one; no loss but the expert's tells the two apart."""
    phase = Phase("speak160", 160, 40, 100, 1e-3)
    batch = spoken(Sampler(pack, pack.training_frames(), 0), phase, 3)
    assert batch.heard is not None and batch.in_clips == 20
    teachers = Teachers(expert)
    picture = batch.y.clone().requires_grad_()
    error, alone = (_picture_error(picture, batch, each) for each in (teachers, NOBODY))
    swapped = replace(batch, heard=batch.heard.flip(1))
    assert alone < error < _picture_error(picture, swapped, teachers) - 0.01
    (taught_by,) = torch.autograd.grad(error - alone, picture)
    left, top, side = (value // 2 for value in MOUTH_PLACE)
    mouth = taught_by[:20, :, top : top + side, left : left + side]
    assert mouth.abs().amax(dim=(1, 2, 3)).min() > 0
    assert taught_by[20:].abs().max() < 0.01 * mouth.abs().max(), "pictures beside the clips belong to no sound"


@pytest.mark.parametrize("size", [320, 160])
def test_training_and_measuring_see_the_same_mouth(pack: Pack, size: int) -> None:
    rois = pack.rois[:3]
    small = rois if size == 320 else rois.reshape(3, 160, 2, 160, 2, 3).mean((2, 4)).round().astype(np.uint8)
    seen = mouth_pictures(to_tensor(small)).permute(0, 2, 3, 1).numpy() * 255
    assert seen.shape == (3, MOUTH_SIZE, MOUTH_SIZE, 3)
    np.testing.assert_allclose(seen, mouths(rois), atol=1.1)


def test_wrong_sounds_come_from_near_by_but_not_too_near() -> None:
    rng = np.random.default_rng(0)
    frames = np.repeat(np.arange(100), 20)
    other = another_moment(rng, frames, 0, 99)
    distance = np.abs(other - frames)
    assert other.min() >= 0 and other.max() <= 99
    assert distance.min() == SHIFTS[0] and distance.max() == SHIFTS[1]
    assert set(another_moment(rng, np.full(9, 1), 0, 2).tolist()) <= {0, 2}


def test_no_held_out_time_and_no_held_out_voice_is_learnt_from(pack: Pack) -> None:
    sampler = SyncSampler(pack, 3)
    training = pack.training_frames()
    known = {v.tobytes() for version in pack.features[: pack.trained_versions] for v in version[training]}
    for step in range(20):
        _, own, other = sampler.batch(step, 16)
        for heard in (own, other):
            rows = heard.numpy().astype(np.float16).reshape(-1, heard.shape[-1])
            assert all(row.tobytes() in known for row in rows)


def test_other_films_lend_wrong_sounds_only(pack: Pack) -> None:
    stranger = np.full((30, 512), 7.0, np.float32)
    _, own, other = SyncSampler(pack, 3, [stranger]).batch(0, 64)
    share = (other == 7).all(dim=2).all(dim=1).float().mean().item()
    assert 0.1 < share < 0.4
    assert not (own == 7).any()


def test_a_film_of_scraps_has_nothing_to_teach() -> None:
    scraps = person(unusable=tuple(range(0, FRAMES, EXPERT_FRAMES)))
    assert not SyncSampler(scraps, 0).possible


def test_the_loss_falls_with_the_preference() -> None:
    values = [sync_loss(torch.tensor([p])).item() for p in (-2.0, 0.0, 2.0)]
    assert values == sorted(values, reverse=True)
