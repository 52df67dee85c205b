"""Train the audio encoder: one slice of 16 mel columns (200 ms) to 512 features that tell what the mouth does.

    python -m tools.speech.train_encoder PACK.npz OUT_DIR --steps 5753

PACK.npz comes from ``pack_speech.py``. Needs numpy, torch and OpenCV alone, so that a bare GPU machine can run it. It
can be stopped at any moment: the same command goes on, and on one processor and number of threads ends with the same
bits. Three heads sit on the features and are thrown away afterwards: the mouth class (what is said), the 14
articulation channels (how far), and the lip gap, width and protrusion (what is seen). All linear, because the
generator's audio branch and a linear read-out shall find them without effort.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lipwright.audio.mel import band_edges, hz_to_mel
from lipwright.contract import CENTRED, FEATURE_DIM, MEL_FMAX, MEL_FMIN, MEL_WINDOW, N_MELS
from lipwright.durable import take_name, write_text
from lipwright.errors import LipwrightError
from lipwright.models.audio_encoder import AudioEncoder
from lipwright.runtimes.torch import has_bf16
from lipwright.training.heap import give_back_pages, keep_pages
from lipwright.training.loop import follow, save_weights
from tools.running import claim, digest_of, in_a_sentence
from tools.speech.teacher import heir, load_encoder, unlikeness

log = logging.getLogger("train_encoder")

Int64Array = npt.NDArray[np.int64]

BATCH = 256
PEAK_RATE = 2e-3
#: What begins as its teacher's copy.
HEIRS_RATE = 1e-3
EMA_DECAY = 0.999
WARM_UP = 100
#: Rest is most of the sound and learnt at once: this share of the rest frames is enough.
REST_SHARE = 0.4
#: Rare classes count more: frequency to the power of minus this.
BALANCE = 0.4
#: Share of the slices that are moved as people would say them, and the mel columns over which phones blend then.
PEOPLE_SHARE, PHONES_BLEND = 0.8, 5
#: Seconds from one checkpoint to the next.
CHECKPOINT_SECONDS = 60
#: Written last: where it is, the training is finished.
REPORT = "report.json"
#: Steps that are taken to know how long one takes; the first half warms up.
_TRIED = 12
#: Batches by which an heir's batch norms settle.
_SETTLED = 8
#: What a checkpoint holds besides the number of steps.
_KEPT = ("ear", "average", "optimizer")
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
    state: npt.NDArray[np.int16]
    """[columns] part of which phone (`tools.speech.people.states`)."""
    voice: npt.NDArray[np.int16]
    """[utterances] who speaks."""
    shift: npt.NDArray[np.float16]
    """[voices, states, 80] what brings a voice's mel to where people have it (`tools.speech.people.shifts`)."""
    scatter: npt.NDArray[np.float16]
    """[states, 13, 80] how people scatter round it (`tools.speech.people.scatter`)."""

    @classmethod
    def load(cls, path: Path) -> SpeechPack:
        """Read what ``pack_speech.py`` wrote.

        Raises:
            LipwrightError: an older version wrote it.
        """
        with np.load(path) as data:
            if "scatter" not in data:
                raise LipwrightError(f"{path} was packed by an older version: pack the corpus again")
            return cls(
                mel=data["mel"],
                start=data["start"],
                classes=data["classes"],
                tracks=data["tracks"],
                split=data["split"],
                splits=[str(s) for s in data["splits"]],
                names=[str(s) for s in data["names"]],
                utterance=data["utterance"],
                state=data["state"],
                voice=data["voice"],
                shift=data["shift"],
                scatter=data["scatter"],
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
        return self.read(self.encoder(mel))

    def read(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Classes and tracks of features [B, 512]; in training a fifth of the features is left out."""
        dropped = F.dropout(feature, 0.2, self.training)
        return self.heads.classes(dropped), self.heads.tracks(dropped)


def warp_bands(factor: Tensor) -> Tensor:
    """[B, 80, 80] matrices that move a mel spectrum as another vocal tract would: frequencies times ``factor`` [B]."""
    low, high = hz_to_mel(np.array([MEL_FMIN, MEL_FMAX]))
    centres = torch.from_numpy(band_edges()[1:-1])
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


def as_people(pack: SpeechPack, frames: Int64Array, mel: Tensor, generator: torch.Generator) -> Tensor:
    """Mel slices [B, 1, 80, 16] of ``frames`` as people might say the same: most of them, each as somebody else.

    Every phone moves towards where people have it, and by the same 13 numbers in a slice away from there again.
    """
    b, columns = len(mel), pack.start[frames][:, None] + np.arange(MEL_WINDOW)
    whether = torch.rand(b, 1, 1, generator=generator) < PEOPLE_SHARE
    towards, away = whether * torch.rand(2, b, 1, 1, generator=generator)
    speaker = torch.randn(b, pack.scatter.shape[1], generator=generator)
    moved = towards * torch.from_numpy(pack.shift[pack.voice[pack.utterance[frames]]].astype(np.float32))
    moved += away * torch.einsum("bk,skm->bsm", speaker, torch.from_numpy(pack.scatter.astype(np.float32)))
    state = torch.from_numpy(pack.state[columns].astype(np.int64))
    curves = moved.gather(1, state[:, :, None].expand(-1, -1, N_MELS)).transpose(1, 2)
    # One phone becomes the next, here too.
    smooth = F.avg_pool1d(F.pad(curves, (PHONES_BLEND // 2,) * 2, mode="replicate"), PHONES_BLEND, 1)
    return (mel + smooth[:, None]).clamp(-4, 4)


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


@dataclass(frozen=True)
class Batch:
    """What a step learns from."""

    mel: Tensor
    """[B, 1, 80, 16] as people in other rooms might say it."""
    clean: Tensor
    """[B, 1, 80, 16] the same in a quiet room, as the machine said it."""
    classes: Tensor
    """[B] mouth classes."""
    tracks: Tensor
    """[B, K]."""


def batch(pack: SpeechPack, frames: Int64Array, step: int) -> Batch:
    """What a step learns from; depends on nothing but ``step``."""
    rng = np.random.default_rng([1, step])
    chosen = rng.choice(frames, BATCH)
    version = rng.integers(len(pack.mel), size=BATCH)
    drawn = torch.Generator().manual_seed(int(rng.integers(2**31)))
    return Batch(
        mel=roughen(as_people(pack, chosen, pack.slices(chosen, version), drawn), drawn),
        clean=pack.slices(chosen, np.zeros_like(version)),
        classes=torch.from_numpy(pack.classes[chosen].astype(np.int64)),
        tracks=torch.from_numpy(pack.tracks[chosen].astype(np.float32)),
    )


def schedule(step: int, steps: int) -> float:
    """Share of the peak rate: warm-up, then a cosine over the ``steps``, to a hundredth."""
    return min(1.0, (step + 1) / WARM_UP) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


class Course:
    """A training on its way: all that it goes on from when it was stopped."""

    def __init__(self, pack: SpeechPack, steps: int, device: str, teacher: AudioEncoder | None = None) -> None:
        torch.manual_seed(0)
        self.step, self.steps, self.device = 0, steps, device
        self._pack, self._frames = pack, training_frames(pack)
        fresh = Ear(len(pack.names), pack.tracks.shape[1])
        if teacher is not None:
            fresh.encoder = heir(teacher, torch.cat([batch(pack, self._frames, k).mel for k in range(_SETTLED)]))
        self.ear = fresh.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.ear).eval().requires_grad_(False)
        self._teacher = teacher and teacher.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._rate = PEAK_RATE if teacher is None else HEIRS_RATE
        self.optimizer = torch.optim.AdamW(self.ear.parameters(), self._rate, weight_decay=0.02)
        self._objective = Objective(pack, self._frames)

    def learn(self) -> float:
        """One step; returns its loss."""
        given = batch(self._pack, self._frames, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate * schedule(self.step, self.steps)
        torch.manual_seed(self.step)  # dropout must not depend on how often the training was stopped
        with self._arithmetic():
            feature = self.ear.encoder(self._at_hand(given.mel))
            said = self.ear.read(feature)
        loss = self._objective(said, given.classes.to(self.device), given.tracks.to(self.device))
        if self._teacher is not None:
            loss = loss + unlikeness(feature.float(), self._taught(self._teacher, given.clean))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        follow(self.average, self.ear, min(EMA_DECAY, (self.step + 1) / (self.step + 10)))
        self.step += 1
        return loss.item()

    def _arithmetic(self) -> torch.autocast:
        """Layers multiply in bf16 where that is native; emulated it takes eight times as long as f32."""
        return torch.autocast(self.device, torch.bfloat16, enabled=has_bf16(self.device))

    def _at_hand(self, mel: Tensor) -> Tensor:
        return mel.to(self.device, memory_format=torch.channels_last)

    @torch.no_grad()
    def _taught(self, teacher: AudioEncoder, clean: Tensor) -> Tensor:
        with self._arithmetic():
            features: Tensor = teacher(self._at_hand(clean))
        return features.float()

    def save(self, path: Path) -> None:
        """Write a checkpoint; it appears when it is whole."""
        part = path.with_suffix(".part")
        torch.save({"step": self.step, "steps": self.steps, **{n: getattr(self, n).state_dict() for n in _KEPT}}, part)
        take_name(part, path)
        give_back_pages()

    def go_on_from(self, path: Path) -> None:
        """Take everything from a checkpoint, the number of steps too."""
        kept = torch.load(path, map_location=self.device, weights_only=True)
        self.step, self.steps = kept["step"], kept["steps"]
        for name in _KEPT:
            getattr(self, name).load_state_dict(kept[name])


def train(pack: SpeechPack, device: str, checkpoint: Path, teacher: AudioEncoder | None = None) -> tuple[Ear, int]:
    """Take the steps that remain of the training whose ``checkpoint`` is there.

    Returns:
        The averaged network, and the number of all steps.
    """
    course = Course(pack, 0, device, teacher)
    course.go_on_from(checkpoint)
    first, began = course.step, time.monotonic()
    saved = began
    while course.step < course.steps:
        loss = course.learn()
        now = time.monotonic()
        if course.step % 50 == 0 or course.step == course.steps:
            left = (now - began) / (course.step - first) * (course.steps - course.step)
            log.info("step %d/%d loss %.4f, %.0f s left", course.step, course.steps, loss, left)
        if now - saved > CHECKPOINT_SECONDS or course.step == course.steps:
            course.save(checkpoint)
            saved = now
    return course.average, course.steps


def steps_in(minutes: float, pack: SpeechPack, device: str, teacher: AudioEncoder | None = None) -> int:
    """How many steps this machine takes in ``minutes``, by the median of a few that are thrown away."""
    course, seconds = Course(pack, 1000, device, teacher), []
    for _ in range(_TRIED):
        began = time.monotonic()
        course.learn()
        seconds.append(time.monotonic() - began)
    return max(round(60 * minutes / float(np.median(seconds[_TRIED // 2 :]))), 1)


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


def _run(options: argparse.Namespace) -> None:
    asked = {"pack": digest_of(options.pack), "device": options.device, "steps": options.steps}
    taught_by = options.teacher and digest_of(options.teacher)
    claim(options.out, asked | {"minutes": options.minutes, "teacher": taught_by})
    if (options.out / REPORT).exists():
        log.info("%s is finished", options.out)
        return
    pack, checkpoint = SpeechPack.load(options.pack), options.out / "checkpoint.pth"
    teacher = options.teacher and load_encoder(options.teacher)
    if not checkpoint.exists():
        # How many steps fit into the time is asked once: the learning rate follows them.
        steps = options.steps or steps_in(options.minutes, pack, options.device, teacher)
        Course(pack, steps, options.device, teacher).save(checkpoint)
    ear, steps = train(pack, options.device, checkpoint, teacher)
    report: dict[str, object] = {"steps": steps, "batch": BATCH, "alignment": CENTRED.name}
    for split in pack.splits:
        report[split] = score(ear, pack, split, options.device)
        log.info("%s %s", split, report[split])
    save_weights(ear.encoder, options.out / "audio_encoder.pth")
    save_weights(ear.heads, options.out / "heads.pth")
    write_text(options.out / REPORT, json.dumps(report, indent=1))
    checkpoint.unlink()


def main() -> None:
    """Train, score every split, write ``audio_encoder.pth``, ``heads.pth`` and ``report.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("pack", type=Path)
    parser.add_argument("out", type=Path)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="of 256 slices; the same number gives the same weights again")
    length.add_argument("--minutes", type=float, default=25, help="however many steps that is on this machine")
    parser.add_argument(
        "--teacher", type=Path, help="encoder (.pth, .onnx) to begin from and to stay like: its generators go on"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.steps is not None and options.steps < 1:
        parser.error("--steps must be 1 or more")
    keep_pages()
    with in_a_sentence():
        _run(options)


if __name__ == "__main__":
    main()
