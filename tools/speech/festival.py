"""festival's voices: recorded people, cut and joined or modelled, in six languages.

They sound less clean and more human than espeak-ng. The Russian voice is left out: it joins whole units and reports
their phones up to 90 ms late. Their phone sets differ; each is spelled in IPA here and mapped by the
rules of ``phones``.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lipwright.contract import SAMPLE_RATE

from .phones import Phone, Shape, UnknownPhoneError, shapes_of_cmu, shapes_of_ipa
from .voices import PAUSE, REST_SHAPES, SpeechEngineError, Spoken, cover, to_16k

#: The sets share the letters of their languages; what differs from IPA is listed: "festival's symbol=IPA".
_SPELLINGS = {
    "cs": "ch=x c=ts c~=tʃ s~=ʃ z~=ʒ r~=ʒ r~*=ʒ d~=ɟ t~=c n~=ɲ n*=ŋ dz~=dʒ",
    "fi": "@=æ 7=ø &=ə N=ŋ S=ʃ T=θ D=ð L=l",
    "hi": "a=ʌ aa=a ih=ɪ iy=i uh=ʊ uw=u eh=e ee=e ay=aɪ oh=o oo=o aw=aʊ ch=tʃ T=t D=d N=n th=t dh=d tth=t ddh=d td=t "
    "y=j v=ʋ L=l R=r sh=ʃ zh=ʃ j=dʒ ksh=kʃ sri=ʃr x=k kh=k gh=g bh=b @=a",
    "it": "E=ɛ O=ɔ S=ʃ Z=ʒ tS=tʃ dZ=dʒ J=ɲ L=ʎ ng=ŋ nf=ɱ",
    "ca": "ax=ə E=ɛ O=ɔ S=ʃ Z=ʒ J=ɲ L=ʎ rr=r",
}
_PAUSES = frozenset({"pau", "#", "##", "_", "h#", "brth"})


@dataclass(frozen=True, slots=True)
class FestivalVoice:
    """One installed voice."""

    name: str
    """As festival calls it, without ``voice_``."""
    language: str
    package: str
    """Debian package."""
    encoding: str = "utf-8"
    """Of the text it reads."""


FESTIVAL_VOICES = {
    v.name: v
    for v in (
        FestivalVoice("ked_diphone", "en", "festvox-kdlpc16k"),
        FestivalVoice("cmu_us_slt_arctic_hts", "en", "festvox-us-slt-hts"),
        FestivalVoice("lp_diphone", "it", "festvox-italp16k", "latin-1"),
        FestivalVoice("pc_diphone", "it", "festvox-itapc16k", "latin-1"),
        FestivalVoice("suo_fi_lj_diphone", "fi", "festvox-suopuhe-lj", "latin-1"),
        FestivalVoice("hy_fi_mv_diphone", "fi", "festvox-suopuhe-mv", "latin-1"),
        FestivalVoice("upc_ca_ona_hts", "ca", "festvox-ca-ona-hts", "latin-1"),
        FestivalVoice("hindi_NSK_diphone", "hi", "festvox-hi-nsk festival-hi"),
        FestivalVoice("czech_dita", "cs", "festvox-czech-dita", "iso-8859-2"),
        FestivalVoice("czech_krb", "cs", "festvox-czech-krb", "iso-8859-2"),
        FestivalVoice("czech_machac", "cs", "festvox-czech-machac", "iso-8859-2"),
        FestivalVoice("czech_ph", "cs", "festvox-czech-ph", "iso-8859-2"),
    )
}

_SCRIPT = """(voice_{voice})
(Parameter.set 'Duration_Stretch {stretch:.3f})
(set! utt (SynthText "{text}"))
(utt.save.wave utt "{path}" 'riff)
(mapcar (lambda (s) (format t "SEGMENT %s %f\\n" (item.name s) (item.feat s "end"))) (utt.relation.items utt 'Segment))
"""


def shapes_of_festival(symbol: str, language: str) -> tuple[Shape, ...]:
    """Shapes of a phone of festival's voices of ``language``.

    Raises:
        UnknownPhoneError: the phone is in no table.
    """
    if symbol in _PAUSES:
        return REST_SHAPES
    if language == "en":
        return shapes_of_cmu(symbol)
    plain = symbol.rstrip("1:") or symbol
    spellings = dict(pair.split("=") for pair in _SPELLINGS[language].split())
    try:
        return shapes_of_ipa(spellings.get(plain, plain), language)
    except UnknownPhoneError as error:
        raise UnknownPhoneError(f"festival's {language} phone {symbol!r}: add it to _SPELLINGS") from error


def speak_festival(text: str, voice: FestivalVoice, stretch: float = 1.0) -> Spoken:
    """Read ``text`` with festival.

    Args:
        text: What to read, in the language of the voice.
        voice: One of FESTIVAL_VOICES.
        stretch: Duration factor, 0.6 .. 1.6.

    Raises:
        SpeechEngineError: festival or the voice is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, script = Path(folder) / "speech.wav", Path(folder) / "speak.scm"
        escaped = text.replace("\\", " ").replace('"', " ")
        content = _SCRIPT.format(voice=voice.name, stretch=stretch, text=escaped, path=path)
        script.write_bytes(content.encode(voice.encoding, "ignore"))
        try:
            done = subprocess.run(["festival", "-b", str(script)], capture_output=True, check=True)
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            raise SpeechEngineError(
                f"festival voice {voice.name!r} does not speak: apt install festival {voice.package} ({error})"
            ) from error
        with wave.open(str(path)) as sound:
            rate = sound.getframerate()
            samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
    phones, start = [], 0.0
    for symbol, end in re.findall(r"SEGMENT (\S+) ([\d.]+)", done.stdout.decode("latin-1")):
        shapes = shapes_of_festival(symbol, voice.language)
        if float(end) > start:
            phones.append(Phone(PAUSE if shapes == REST_SHAPES else symbol, start, float(end), shapes))
            start = float(end)
    samples = to_16k(samples, rate)
    return Spoken(samples, cover(phones, len(samples) / SAMPLE_RATE))
