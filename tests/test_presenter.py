"""The built-in presenters: whole, quiet when nobody speaks, and moved by the sound alone."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from lipwright.audio.decode import SoundReader
from lipwright.avatar import Avatar, builtin_avatar, builtin_sound
from lipwright.contract import BuiltIn
from lipwright.create.measure import said_in
from lipwright.render import Networks
from tools.presenter import lips


@pytest.fixture(scope="module", params=get_args(BuiltIn))
def presenter(request: pytest.FixtureRequest) -> Avatar:
    return Avatar.open(builtin_avatar(request.param))


@pytest.fixture(scope="module")
def networks(presenter: Avatar) -> Networks:
    return Networks.open(presenter)


@pytest.fixture(scope="module")
def twin(presenter: Avatar, networks: Networks, tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    """The presenter with a template that speaks: the own one listens."""
    return lips.speaking_twin(presenter, networks, tmp_path_factory.mktemp("twin"))


@pytest.fixture(scope="module")
def own(twin: Avatar) -> lips.Gaps:
    return lips.template_gaps(twin)


def test_the_package_is_whole(presenter: Avatar) -> None:
    assert presenter.verify() == []
    assert presenter.missing() == []


def test_all_hear_by_one_encoder(presenter: Avatar) -> None:
    """What docs/voice.md measures holds for each of them."""
    assert presenter.name in get_args(BuiltIn)
    assert presenter.manifest.encoder == Avatar.open(builtin_avatar()).manifest.encoder


def test_it_says_that_it_shows_nobody(presenter: Avatar) -> None:
    assert presenter.manifest.consent is not None
    assert presenter.manifest.consent.shown.startswith("nobody")


def test_its_networks_were_exported_with_parity(presenter: Avatar) -> None:
    for record in presenter.manifest.models.records().values():
        assert record.parity is not None
        assert record.parity.max_abs_f32 <= 1e-4
        assert record.parity.max_abs_rounded is not None
        assert record.parity.max_abs_rounded <= 1e-4


def test_the_template_speaks(own: lips.Gaps) -> None:
    """Otherwise the tests below would prove nothing."""
    assert np.isfinite(own).all()
    assert own.std() > 0.01


@pytest.mark.parametrize("sound", [lips.silence, lips.noise])
def test_nobody_speaks_nothing_moves(twin: Avatar, networks: Networks, own: lips.Gaps, sound: object) -> None:
    assert callable(sound)
    start = max(int(own.argmax()) - 25, 0)
    quiet = lips.at_rest(twin, networks, sound(3), start)
    assert quiet.quiet, quiet


def test_one_sound_gives_the_same_lips_over_any_stretch(twin: Avatar, networks: Networks, own: lips.Gaps) -> None:
    with SoundReader(builtin_sound()) as reader:
        assert reader.rate == 16_000
        samples = np.concatenate(list(reader))[: 5 * 16_000]
    figures = lips.stretches(twin, networks, samples, own, said_in(builtin_sound()))
    assert figures["between"] >= 0.9
    assert figures["with_template"] <= 0.2
    assert figures["closed_recall"] >= 0.8 and figures["closed_precision"] >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("sound", [lips.silence, lips.noise])
def test_ten_seconds_of_nothing(twin: Avatar, networks: Networks, own: lips.Gaps, sound: object) -> None:
    assert callable(sound)
    assert lips.at_rest(twin, networks, sound(10), max(int(own.argmax()) - 25, 0)).quiet


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whisper_jfk.flac", "ljspeech_concat_0001-0008.wav", "thorsten_de_concat.wav"])
def test_human_voices_move_it_alike_over_any_stretch(
    twin: Avatar, networks: Networks, own: lips.Gaps, dev_data: Path, name: str
) -> None:
    figures = lips.stretches(twin, networks, lips.read_mono(dev_data / "speech" / name, 8), own)
    assert figures["between"] >= 0.9
    assert figures["with_template"] <= max(0.2, figures["by_chance"] + 0.05)
