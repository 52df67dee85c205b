"""Train the audio encoder: one slice of 16 mel columns (200 ms) to 512 features that tell what the mouth does.

    python -m tools.speech.train_encoder PACK.npz OUT_DIR --steps 5753

PACK.npz comes from ``pack_speech.py``. Needs numpy and torch alone, so that a bare GPU machine can run it. Three heads
sit on the features and are thrown away afterwards: the mouth class (what is said), the 14 articulation channels (how
far), and the lip gap, width and protrusion (what is seen). All linear, because the generator's audio branch and a
linear read-out shall find them without effort.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lipwright.audio.mel import hz_to_mel, mel_to_hz
from lipwright.contract import CENTRED, FEATURE_DIM, MEL_FMAX, MEL_FMIN, MEL_WINDOW, N_MELS
from lipwright.models.audio_encoder import AudioEncoder
from lipwright.training.loop import follow

log = logging.getLogger("train_encoder")

Int64Array = npt.NDArray[np.int64]

BATCH = 256
PEAK_RATE = 2e-3
EMA_DECAY = 0.999
WARM_UP = 100
#: Rest is most of the sound and learnt at once: this share of the rest frames is enough.
REST_SHARE = 0.4
#: Rare classes count more: frequency to the power of minus this.
BALANCE = 0.4
#: Frequencies are multiplied by one of these: children to giants.
VOCAL_TRACTS = [1.25 ** (k / 12) for k in range(-12, 13)]


@dataclass(frozen=True)
class SpeechPack:
    """Mel columns and mouth targets of a corpus; T frames in all, V versions of the sound."""

    mel: npt.NDArray[np.float16]
    """[V, columns, 80]."""
    start: Int64Array
    """[T] first of the 16 columns of each frame."""
    classes: npt.NDArray[np.int8]
    """[T] mouth class."""
    tracks: npt.NDArray[np.float16]
    """[T, K] articulation channels and visible measures."""
    split: npt.NDArray[np.int8]
    """[T] index into ``splits``."""
    splits: list[str]
    names: list[str]
    """Mouth classes by index."""
    utterance: Int64Array
    """[T] which utterance a frame belongs to."""

    @classmethod
    def load(cls, path: Path) -> SpeechPack:
        """Read what ``pack_speech.py`` wrote."""
        with np.load(path) as data:
            return cls(
                mel=data["mel"],
                start=data["start"],
                classes=data["classes"],
                tracks=data["tracks"],
                split=data["split"],
                splits=[str(s) for s in data["splits"]],
                names=[str(s) for s in data["names"]],
                utterance=data["utterance"],
            )

    def frames(self, split: str) -> Int64Array:
        """Indices of the frames of one split."""
        return np.flatnonzero(self.split == self.splits.index(split))

    def slices(self, frames: Int64Array, version: Int64Array) -> Tensor:
        """[B, 1, 80, 16] float32 mel slices of these frames in these versions."""
        columns = self.start[frames][:, None] + np.arange(MEL_WINDOW)
        picked = self.mel[version[:, None], columns]
        return torch.from_numpy(picked.astype(np.float32).transpose(0, 2, 1))[:, None]


class Heads(nn.Module):
    """Linear read-outs of the features: mouth class, and standardised tracks."""

    def __init__(self, classes: int, tracks: int) -> None:
        super().__init__()
        self.classes = nn.Linear(FEATURE_DIM, classes)
        self.tracks = nn.Linear(FEATURE_DIM, tracks)


class Ear(nn.Module):
    """The encoder with its heads."""

    def __init__(self, classes: int, tracks: int) -> None:
        super().__init__()
        self.encoder = AudioEncoder()
        self.heads = Heads(classes, tracks)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        feature = self.encoder(mel)
        dropped = F.dropout(feature, 0.2, self.training)
        return self.heads.classes(dropped), self.heads.tracks(dropped)


def warp_bands(factor: Tensor) -> Tensor:
    """[B, 80, 80] matrices that move a mel spectrum as another vocal tract would: frequencies times ``factor`` [B]."""
    low, high = hz_to_mel(np.array([MEL_FMIN, MEL_FMAX]))
    centres = torch.from_numpy(mel_to_hz(np.linspace(low, high, N_MELS + 2)[1:-1]))
    source = torch.from_numpy(hz_to_mel((centres[None] / factor[:, None].double()).numpy()))
    place = ((source - low) / (high - low) * (N_MELS + 1) - 1).clamp(0, N_MELS - 1)
    matrices: Tensor = (1 - (place.float()[:, :, None] - torch.arange(N_MELS)).abs()).clamp(0)
    return matrices


@cache
def tract_matrices() -> Tensor:
    """The matrices of all ``VOCAL_TRACTS``; the middle one changes nothing."""
    return warp_bands(torch.tensor(VOCAL_TRACTS))


def roughen(mel: Tensor, generator: torch.Generator) -> Tensor:
    """Another voice, level, microphone and noise for mel slices [B, 1, 80, 16] in -4..4 (one unit is 12.5 dB).

    Vocal tract (frequencies times 0.8..1.25), formants more or less marked than a machine makes them, gain, a smooth
    spectral curve, noise that fills what is faint, and a masked band.
    """
    b = len(mel)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    voice = torch.where(draw(b) < 0.7, draw(b) * len(VOCAL_TRACTS), torch.tensor(len(VOCAL_TRACTS) // 2)).long()
    mel = (tract_matrices()[voice] @ mel[:, 0])[:, None]
    blurred = F.avg_pool2d(mel, (5, 1), stride=1, padding=(2, 0), count_include_pad=False)
    mel = torch.lerp(mel, blurred, draw(b, 1, 1, 1) * (draw(b, 1, 1, 1) < 0.4))
    mean = mel.mean(dim=(2, 3), keepdim=True)
    mel = mean + (mel - mean) * (0.75 + 0.5 * draw(b, 1, 1, 1))
    curve = F.interpolate((draw(b, 1, 5) - 0.5) * 1.4, size=N_MELS, mode="linear", align_corners=True)[:, :, :, None]
    mel = mel + draw(b, 1, 1, 1) * 2.2 - 1.6 + curve
    floor = -4 + 3.0 * draw(b, 1, 1, 1) * (draw(b, 1, 1, 1) < 0.5)
    tilt = F.interpolate((draw(b, 1, 4) - 0.5) * 2, size=N_MELS, mode="linear", align_corners=True)[:, :, :, None]
    mel = torch.maximum(mel, floor + tilt * (floor > -4) + 0.3 * torch.randn(mel.shape, generator=generator))
    first = draw(b, 1, 1, 1) * N_MELS
    bands = torch.arange(N_MELS)[None, None, :, None]
    hidden = (bands >= first) & (bands < first + draw(b, 1, 1, 1) * 12) & (draw(b, 1, 1, 1) < 0.4)
    return mel.masked_fill(hidden, -4).clamp(-4, 4)


class Objective:
    """Class cross-entropy with balanced classes, and squared error of the standardised tracks."""

    def __init__(self, pack: SpeechPack, frames: Int64Array) -> None:
        counts = np.bincount(pack.classes[frames], minlength=len(pack.names)) + 1
        weight = (counts / counts.sum()) ** -BALANCE
        self.weight = torch.from_numpy((weight / np.average(weight, weights=counts)).astype(np.float32))
        tracks = pack.tracks[frames].astype(np.float32)
        self.mean = torch.from_numpy(tracks.mean(axis=0))
        self.spread = torch.from_numpy(tracks.std(axis=0) + 1e-3)

    def __call__(self, said: tuple[Tensor, Tensor], classes: Tensor, tracks: Tensor) -> Tensor:
        logits, values = said[0].float(), said[1].float()
        truth = (tracks - self.mean.to(tracks.device)) / self.spread.to(tracks.device)
        word = F.cross_entropy(logits, classes, self.weight.to(logits.device), label_smoothing=0.05)
        return word + F.smooth_l1_loss(values, truth)


def training_frames(pack: SpeechPack) -> Int64Array:
    """Frames of the training split, most of the rest left out."""
    frames: Int64Array = pack.frames("train")
    rest = pack.classes[frames] == pack.names.index("sil")
    keep = ~rest | (np.random.default_rng(0).random(len(frames)) < REST_SHARE)
    return np.asarray(frames[keep])


def batches(pack: SpeechPack, frames: Int64Array) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless batches: roughened mel, class, tracks."""
    rng = np.random.default_rng(1)
    generator = torch.Generator().manual_seed(1)
    while True:
        chosen = rng.choice(frames, BATCH)
        version = rng.integers(len(pack.mel), size=BATCH)
        mel = roughen(pack.slices(chosen, version), generator)
        tracks = torch.from_numpy(pack.tracks[chosen].astype(np.float32))
        yield mel, torch.from_numpy(pack.classes[chosen].astype(np.int64)), tracks


def learning_rate(done: float, step: int) -> float:
    """Warm-up, then a cosine over the share of the time that is ``done`` (0..1)."""
    return PEAK_RATE * min(1.0, (step + 1) / WARM_UP) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def share_done(step: int, began: float, seconds: float, steps: int | None) -> float:
    """Which share of a training lies behind, 0..1: of its ``steps`` if their number is given, else of its time."""
    return (time.monotonic() - began) / seconds if steps is None else step / steps


def train(pack: SpeechPack, seconds: float, device: str, steps: int | None = None) -> tuple[Ear, int]:
    """Train for a number of steps, or for a time; returns the averaged network and the number of steps.

    With ``steps`` the same pack gives the same weights on the same machine and number of threads; a time ends where the
    machine has got to, and with it goes the learning rate.
    """
    torch.manual_seed(0)
    frames = training_frames(pack)
    objective = Objective(pack, frames)
    ear = Ear(len(pack.names), pack.tracks.shape[1]).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(ear).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(ear.parameters(), PEAK_RATE, weight_decay=0.02)
    began = time.monotonic()
    for step, (mel, classes, tracks) in enumerate(batches(pack, frames)):
        done = share_done(step, began, seconds, steps)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(done, step)
        with torch.autocast(device, torch.bfloat16):
            said = ear(mel.to(device, memory_format=torch.channels_last))
        loss = objective(said, classes.to(device), tracks.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        follow(average, ear, min(EMA_DECAY, (step + 1) / (step + 10)))
        if step % 50 == 0:
            log.info("step %d (%.0f %%) loss %.4f", step, 100 * done, loss.item())
    return average, step


@torch.no_grad()
def score(ear: Ear, pack: SpeechPack, split: str, device: str, most: int = 20_000) -> dict[str, float]:
    """Frame accuracy, and recall and precision of closed lips, rounded lips and rest, on clean sound."""
    frames = pack.frames(split)
    frames = frames[:: max(1, len(frames) // most)]
    said = []
    for chunk in np.array_split(frames, max(1, len(frames) // 512)):
        said.append(ear(pack.slices(chunk, np.zeros(len(chunk), np.int64)).to(device))[0].argmax(1).cpu().numpy())
    guess, truth = np.concatenate(said), pack.classes[frames]
    figures = {"frames": float(len(frames)), "accuracy": float((guess == truth).mean())}
    groups = {"closed": ("pbm",), "rounded": ("w", "uw", "uh", "ow", "ao", "ue", "oe"), "rest": ("sil",)}
    for group, members in groups.items():
        ids = [pack.names.index(m) for m in members if m in pack.names]
        hit, there = np.isin(guess, ids), np.isin(truth, ids)
        figures[f"{group}_recall"] = float((hit & there).sum() / max(there.sum(), 1))
        figures[f"{group}_precision"] = float((hit & there).sum() / max(hit.sum(), 1))
    return figures


def main() -> None:
    """Train, score every split, write ``audio_encoder.pth`` and ``report.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("pack", type=Path)
    parser.add_argument("out", type=Path)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="of 256 slices; the same number gives the same weights again")
    length.add_argument("--minutes", type=float, default=25, help="however many steps that is on this machine")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.out.mkdir(parents=True, exist_ok=True)
    pack = SpeechPack.load(options.pack)
    if options.steps is not None and options.steps < 1:
        parser.error("--steps must be 1 or more")
    ear, steps = train(pack, options.minutes * 60, options.device, options.steps)
    report: dict[str, object] = {"steps": steps, "batch": BATCH, "alignment": CENTRED.name}
    for split in pack.splits:
        report[split] = score(ear, pack, split, options.device)
        log.info("%s %s", split, report[split])
    part = options.out / "audio_encoder.part"
    torch.save(ear.encoder.state_dict(), part)
    part.replace(options.out / "audio_encoder.pth")
    torch.save(ear.heads.state_dict(), options.out / "heads.pth")
    (options.out / "report.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
