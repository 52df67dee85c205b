"""Give an avatar a new audio encoder that speaks the language of its own.

    python -m tools.presenter.renew_ear AVATAR ENCODER.pth SOUND.wav --store int8

ENCODER.pth is an heir of the avatar's encoder (``tools.speech.train_encoder --teacher``): its generators go on as they
are, with what it hears. SOUND is that of the template. An encoder that says something else is refused: with that, the
generators have to be taught anew.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import torch

from lipwright.audio.decode import hear
from lipwright.audio.mel import mel_slices
from lipwright.avatar import ENCODER, FEATURES, Avatar, ModelRecord, Parity, builtin_sound
from lipwright.contract import Alignment, FloatArray
from lipwright.errors import LipwrightError
from lipwright.export import Store, export_audio_encoder
from lipwright.export_avatar import sample_mels
from lipwright.runtimes import open_runtime
from tools.running import in_a_sentence
from tools.speech.teacher import unlikeness

log = logging.getLogger("renew_ear")

#: Of the built-in sentences; 2 would be another language.
MOST_UNLIKE = 0.25
_ORIGIN = "trained by tools/speech/train_encoder.py on speech that machines read aloud, its predecessor as its teacher"


def renew(avatar: Avatar, weights: Path, sound: Path, store: Store) -> Avatar:
    """The avatar with another encoder; it is replaced when everything was found right.

    Args:
        avatar: with an encoder of its own.
        weights: ``.pth`` of the new one.
        sound: of the template, at least as long.
        store: how the file keeps the weights.

    Raises:
        LipwrightError: the two encoders do not say the same, or the sound is shorter than the template.
    """
    before, binding = avatar.encoder, avatar.manifest.encoder
    if before is None:
        raise LipwrightError(f"{avatar.path} has no audio encoder to compare the new one with")
    alignment = binding.alignment.to_contract()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "encoder.onnx"
        parity = export_audio_encoder(weights, file, sample_mels(alignment), store)
        _refuse_another_language(before, file, alignment)
        features = _features(file, sound, alignment)
        if len(features) < avatar.frame_count:
            raise LipwrightError(f"{sound} is shorter than the template: it has to last {avatar.frame_count} frames")
        record = ModelRecord(file=ENCODER, licence="Apache-2.0", origin=_ORIGIN, parity=Parity(**asdict(parity)))
        models = avatar.manifest.models.model_copy(update={"audio_encoder": record})
        manifest = avatar.manifest.changed(encoder=binding.model_copy(update={"sha256": None}), models=models)
        return avatar.save(manifest=manifest, contents={ENCODER: file, FEATURES: features[: avatar.frame_count]})


def _features(encoder: Path, sound: Path, alignment: Alignment) -> FloatArray:
    """[N, 512]."""
    return open_runtime(encoder, "encoder", precision="f32").run(mel_slices(hear(sound), alignment))


def _refuse_another_language(before: Path, after: Path, alignment: Alignment) -> None:
    """Compare what two encoders say of the built-in sentences.

    Raises:
        LipwrightError: it is not the same.
    """
    demo = builtin_sound()
    old, new = (torch.from_numpy(_features(encoder, demo, alignment)) for encoder in (before, after))
    apart = float(unlikeness(new, old))
    log.info("of the built-in sentences both say the same but for %.3f of the features' variance", apart)
    if apart > MOST_UNLIKE:
        raise LipwrightError(
            f"the new encoder speaks another language than {before} ({apart:.2f} of the features' variance apart, "
            f"at most {MOST_UNLIKE}): train it with --teacher, or the generators anew"
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("sound", type=Path)
    parser.add_argument("--store", choices=get_args(Store), default="f16")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with in_a_sentence():
        renew(Avatar.open(options.avatar), options.encoder, options.sound, options.store)


if __name__ == "__main__":
    main()
