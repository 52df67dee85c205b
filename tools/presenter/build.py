"""Make a built-in avatar from a presenter's film and trained networks.

    python -m tools.presenter.build FILM.mp4 generator.pth ENCODER OUT.avatar --first 20 --frames 400 \
        --fast RUN/generator.pth

ENCODER is its weights (.pth), or an avatar whose encoder this one shares. The networks are stored as ONNX with rounded
weights, with the parity check of the export in the manifest.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import get_args

from lipwright.avatar import ENCODER, Avatar
from lipwright.avatar.films import encode
from lipwright.avatar.manifest import Consent, Manifest, ModelRecord, Models
from lipwright.avatar.package import ENCODER_WEIGHTS, FEATURES, LANDMARKS, RECTS, TEMPLATE, WEIGHTS
from lipwright.avatar.storage import Content
from lipwright.export_avatar import export_avatar, export_fast
from lipwright.runtimes.stored import Store
from tools.presenter.film import Film
from tools.presenter.pack import features
from tools.speech.teacher import load_encoder

log = logging.getLogger("build")

_CONSENT = Consent(
    shown="nobody: a synthetic head (ICT-FaceKit, MIT licence)",
    agreed_by="the lipwright authors, who made it",
    agreed_on=date(2026, 11, 21),
    purpose="any",
)
_GENERATOR = "trained by tools/presenter/train.py on this presenter's own film"
_ENCODER = "trained by tools/speech/train_encoder.py on speech that machines read aloud"


@dataclass(frozen=True)
class Networks:
    """Weights (.pth), and how the package stores what is made of them."""

    generator: Path
    encoder: Path
    """Weights, or an avatar's folder: then its encoder is taken as it is."""
    fast: Path | None
    """Of mobile width; None: the presenter gets no fast generator."""
    store: Store
    encoder_store: Store
    fast_store: Store


def build(film: Film, networks: Networks, out: Path, stretch: range, crf: int) -> Avatar:
    """Package ``stretch`` of the film with both networks as torch weights, then export them and drop the weights."""
    rows = slice(stretch.start, stretch.stop)
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template.mp4"
        sizes = encode(islice(film.frames(), stretch.start, stretch.stop), template, crf)
        generator = ModelRecord(file=WEIGHTS, licence="Apache-2.0", origin=_GENERATOR)
        ear, ear_file = _ear(networks.encoder)
        models = ear.model_copy(update={"generator_weights": generator})
        manifest = Manifest.new(out.stem, sizes, models=models, consent=_CONSENT, source=film.path.name)
        contents: dict[str, Content] = {
            TEMPLATE: template,
            RECTS: film.rects()[rows],
            LANDMARKS: film.landmarks[rows],
            FEATURES: features(load_encoder(networks.encoder), film.sound())[rows],
            WEIGHTS: networks.generator,
        }
        avatar = Avatar.create(out, manifest, contents | ear_file, replace=True)
    avatar = export_avatar(avatar, store=networks.store, encoder_store=networks.encoder_store)
    if networks.fast is not None:
        avatar = export_fast(avatar, networks.fast, networks.fast_store, generator)
    kept = avatar.manifest.models.model_copy(update={"generator_weights": None, "audio_encoder_weights": None})
    return avatar.save(manifest=avatar.manifest.changed(models=kept), contents={WEIGHTS: None, ENCODER_WEIGHTS: None})


def _ear(encoder: Path) -> tuple[Models, dict[str, Content]]:
    """The manifest's line about the encoder, and its file by its place in the package."""
    if encoder.is_dir():
        shared = Avatar.open(encoder)
        return Models(audio_encoder=shared.manifest.models.audio_encoder), {ENCODER: shared.path / ENCODER}
    record = ModelRecord(file=ENCODER_WEIGHTS, licence="Apache-2.0", origin=_ENCODER)
    return Models(audio_encoder_weights=record), {ENCODER_WEIGHTS: encoder}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("film", type=Path)
    parser.add_argument("generator", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fast", type=Path, help="weights of a generator of mobile width, for --quality fast")
    for name in ("store", "encoder-store", "fast-store"):
        parser.add_argument(f"--{name}", choices=get_args(Store), default="f16")
    parser.add_argument("--first", type=int, default=20, help="first frame of the film that becomes the template")
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--crf", type=int, default=19)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    stretch = range(options.first, options.first + options.frames)
    networks = Networks(
        options.generator, options.encoder, options.fast, options.store, options.encoder_store, options.fast_store
    )
    avatar = build(Film.open(options.film), networks, options.out, stretch, options.crf)
    for path in sorted(p for p in avatar.path.rglob("*") if p.is_file()):
        log.info("%9d %s", path.stat().st_size, path.relative_to(avatar.path))


if __name__ == "__main__":
    main()
