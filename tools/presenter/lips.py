"""Do an avatar's lips follow the sound and nothing else?

    python -m tools.presenter.lips [SOUND ...] [--avatar AVATAR] --seconds 10 --json out.json

* silence: over a template that speaks, digital silence and noise at -50 dB must leave the mouth at rest; what louder
  sounds do that are not speech either (noise, breath, hum, clicks, music, drawn anew) is told;
* stretches: one sound over two different stretches of the template must give the same lips, and not the template's own.

With SOUND files (human voices) the second is done for each of them; where what is said when lies beside one, as beside
the demo's, its p, b and m are looked for as well. Default avatar: the built-in presenter. His
template listens calmly, which would make all of this easy: what is measured is a twin whose template says the demo,
the second half first, so that the demo itself can be one of the sounds.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from lipwright.audio.decode import hear
from lipwright.avatar import TEMPLATE, Avatar, builtin_avatar, builtin_sound
from lipwright.avatar.films import encode
from lipwright.check.lips import lip_gaps
from lipwright.contract import SAMPLE_RATE, SAMPLES_PER_FRAME, FloatArray, Quality
from lipwright.create.measure import said_in
from lipwright.errors import LipwrightError
from lipwright.quality import Phone, Rest, closed_in_all, lip_gap_correlation, rest
from lipwright.render import Networks, Renderer, Template
from tools.speech.sounds import REST_SOUNDS

log = logging.getLogger("lips")

Gaps = npt.NDArray[np.float64]

NOISE_DB = -50
"""More than any built-in sound has."""
#: Seed of the louder sounds; a corpus draws its own from other ones (``tools.speech.make_corpus``).
_DRAWN_ANEW = (11, 0, 0)


def silence(seconds: float) -> FloatArray:
    """[n, 1] zeros at 16 kHz."""
    return np.zeros((round(seconds * SAMPLE_RATE), 1), np.float32)


def noise(seconds: float) -> FloatArray:
    """[n, 1] white noise at -50 dB full scale (root mean square)."""
    drawn = np.random.default_rng(5).standard_normal((round(seconds * SAMPLE_RATE), 1))
    return np.asarray(drawn * 10 ** (NOISE_DB / 20), dtype=np.float32)


def nobody_speaks(seconds: float) -> dict[str, FloatArray]:
    """Sounds [n, 1] at 16 kHz without speech, by name; the louder ones at -20 dB, three of each kind in a row."""
    third, rng = round(seconds * SAMPLE_RATE / 3), np.random.default_rng(_DRAWN_ANEW)
    loud = {
        kind: np.concatenate([make(rng, third) for _ in range(3)])[:, None]
        for kind, make in REST_SOUNDS.items()
        if kind != "silence"
    }
    return {"silence": silence(seconds), f"noise {NOISE_DB} dB": noise(seconds)} | loud


def spoken(avatar: Avatar, networks: Networks, samples: FloatArray, start: int) -> Gaps:
    """Lip gaps of the film in which ``avatar`` says ``samples`` [n, 1] (16 kHz) from template frame ``start`` on."""
    with Renderer(avatar, SAMPLE_RATE, 1, start=start, networks=networks) as renderer:
        return lip_gaps(frame.image for frame in renderer.stream(iter([samples])))


def speaking_twin(avatar: Avatar, networks: Networks, folder: Path) -> Avatar:
    """The same avatar in ``folder``, but its template speaks: the demo, from its middle on, drawn onto it."""
    count = avatar.frame_count
    demo = hear(builtin_sound())[:, None]
    said = np.roll(demo, -(len(demo) // 2), axis=0)[: count * SAMPLES_PER_FRAME]
    film = folder / "speaking.mp4"
    with Renderer(avatar, SAMPLE_RATE, 1, networks=networks) as renderer:
        pictures = (frame.image for frame in islice(renderer.stream(iter([said])), count))
        sizes = encode(pictures, film)
    if sizes.frames != count:
        raise LipwrightError(
            f"the demo is shorter than the template of {avatar.path}: {sizes.frames} of {count} frames"
        )
    return avatar.save(folder / "speaking.avatar", contents={TEMPLATE: film})


def template_gaps(avatar: Avatar) -> Gaps:
    """Lip gaps of the template as it was filmed."""
    with Template(avatar.template) as template:
        return lip_gaps(template.frame(k).bgr for k in range(avatar.frame_count))


def at_rest(avatar: Avatar, networks: Networks, samples: FloatArray, start: int) -> Rest:
    """How quiet the mouth is while ``samples`` (nobody speaks) are heard."""
    found = spoken(avatar, networks, samples, start)
    return rest(found, np.ones(len(found), bool))


def stretches(
    avatar: Avatar, networks: Networks, samples: FloatArray, own: Gaps, said: Sequence[Phone] = ()
) -> dict[str, float]:
    """Correlations of the lips: over two stretches, with the template's own, and what the latter is by chance.

    Where it is known what is ``said``, also on how many p, b and m the lips close, and how many closures are such.

    Some sentences happen to move like those of the template. So the film over the other stretch, which never saw these
    lips, is compared with them too: ``by_chance`` is how alike that one is, for the same stretch as ``with_template``.
    """
    frames = -(-len(samples) // SAMPLES_PER_FRAME)
    starts = (0, max(avatar.frame_count - frames, avatar.frame_count // 2))
    films = [spoken(avatar, networks, samples, start) for start in starts]
    walks = [walked(own, start, frames) for start in starts]
    seen = [lip_gap_correlation(film, walk).r for film, walk in zip(films, walks, strict=True)]
    unseen = [lip_gap_correlation(film, walk).r for film, walk in zip(reversed(films), walks, strict=True)]
    most = int(np.argmax(seen))
    found = {
        "between": lip_gap_correlation(films[0], films[1]).r,
        "with_template": seen[most],
        "by_chance": unseen[most],
    }
    if said:
        closed = closed_in_all(films, said)
        found |= {"closed_recall": closed.recall, "closed_precision": closed.precision}
    return found


def walked(own: Gaps, start: int, frames: int) -> Gaps:
    """The template's own gaps in the order a film that starts at ``start`` shows its frames."""
    period = max(2 * (len(own) - 1), 1)
    position = (start + np.arange(frames)) % period
    return np.asarray(own[np.minimum(position, period - position)])


def read_mono(path: Path, seconds: float) -> FloatArray:
    """[n, 1] at 16 kHz: the first ``seconds`` of a sound file."""
    return hear(path)[: round(seconds * SAMPLE_RATE), None]


def measure(avatar: Avatar, networks: Networks, sounds: list[Path], seconds: float) -> dict[str, dict[str, float]]:
    """All figures, by name, of an avatar whose template speaks."""
    own = template_gaps(avatar)
    loudest = int(np.nanargmax(own))
    found = {}
    for name, samples in nobody_speaks(seconds).items():
        quiet = at_rest(avatar, networks, samples, max(loudest - 25, 0))
        found[name] = {"gap_99": quiet.gap_99, "step_99": quiet.step_99, "quiet": float(quiet.quiet)}
        log.info("%s: %s", name, found[name])
    for path in sounds:
        said = said_in(path) if path.with_suffix(".json").is_file() else ()
        found[path.name] = stretches(avatar, networks, read_mono(path, seconds), own, said)
        log.info("%s: %s", path.name, found[path.name])
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--avatar", type=Path, default=builtin_avatar())
    parser.add_argument("sounds", type=Path, nargs="*")
    parser.add_argument("--quality", default="full", choices=get_args(Quality), help="which generator draws")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    avatar = Avatar.open(options.avatar).at(options.quality)
    networks = Networks.open(avatar)
    with tempfile.TemporaryDirectory() as folder:
        twin = speaking_twin(avatar, networks, Path(folder)).at(options.quality)
        found = measure(twin, networks, options.sounds, options.seconds)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
