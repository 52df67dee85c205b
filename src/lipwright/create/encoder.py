"""An audio encoder of the user's own, made ready for ``prepare``, which runs nothing but ONNX."""

from __future__ import annotations

from pathlib import Path

from lipwright.contract import Alignment
from lipwright.export import export_audio_encoder
from lipwright.export_avatar import sample_mels
from lipwright.prepare import check_encoder
from lipwright.runtimes.torch import WEIGHTS


def is_torch(encoder: Path) -> bool:
    """Whether an encoder comes as torch weights."""
    return encoder.suffix in WEIGHTS


def as_onnx(encoder: Path, alignment: Alignment, folder: Path) -> Path:
    """``encoder`` if it is ONNX; else an ONNX file of it in ``folder``, unrounded and compared with torch.

    Args:
        encoder: ONNX, or a ``state_dict`` with or without the prefix ``audio_encoder.``.
        alignment: which mel columns it was trained to hear.
        folder: must be there.

    Raises:
        AvatarError: there is no such file, or it is damaged.
        ContractError: it holds something else than an audio encoder.
        LipwrightError: torch and ONNX differ too much, or torch is not installed.
    """
    check_encoder(encoder)
    if not is_torch(encoder):
        return encoder
    made = folder / f"{encoder.stem}.onnx"
    export_audio_encoder(encoder, made, sample_mels(alignment), store="f32")
    return made
