"""Let an avatar say a sound file over gRPC, and write the film.

``python grpc_client.py HOST:PORT AVATAR SOUND OUT.mp4``; the token is read from LIPWRIGHT_TOKEN where the server has
one. A client in another language needs nothing but ``proto/lipwright.proto``; in Python the generated modules come with
lipwright.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np

from lipwright.audio.decode import SoundReader
from lipwright.serve import lipwright_pb2 as pb
from lipwright.serve import lipwright_pb2_grpc as pb_grpc
from lipwright.video import VideoWriter


def pieces(avatar: str, sound: SoundReader) -> Iterator[pb.AudioChunk]:
    """What goes up: a Start, then the sound as fast as the server takes it. Returning says that nothing follows."""
    yield pb.AudioChunk(
        start=pb.Start(
            avatar=avatar,
            mode=pb.MODE_PUSHED,
            sound_format=pb.SOUND_FORMAT_F32LE,
            rate=sound.rate,
            channels=sound.channels,
            picture_format=pb.PICTURE_FORMAT_BGR,
        )
    )
    for samples in sound:
        for start in range(0, len(samples), sound.rate):
            yield pb.AudioChunk(sound=samples[start : start + sound.rate].astype("<f4").tobytes())


def write_film(frames: Iterator[pb.Frame], out: Path) -> int:
    """Write what comes down as it comes; the number of frames. The first frame says what the others look like."""
    first = next(frames)
    kind = first.started
    image = np.zeros((kind.height, kind.width, 3), np.uint8)
    count = 0
    with VideoWriter(out, kind.width, kind.height, kind.rate, kind.channels) as film:
        for frame in (first, *frames):
            if frame.HasField("picture"):  # else the last one stays
                image = np.frombuffer(frame.picture, np.uint8).reshape(image.shape)
            film.write(image, np.frombuffer(frame.sound, "<f4").reshape(-1, kind.channels))
            count += 1
    return count


def main(address: str, avatar: str, sound: Path, out: Path) -> None:
    """List the avatars, then let one of them speak."""
    token = os.environ.get("LIPWRIGHT_TOKEN")
    metadata = [("authorization", f"Bearer {token}")] if token else []
    options = [("grpc.max_receive_message_length", 64 * 2**20)]
    with grpc.insecure_channel(address, options) as channel, SoundReader(sound) as reader:
        stub = pb_grpc.LipwrightStub(channel)
        for held in stub.ListAvatars(pb.ListAvatarsRequest(), metadata=metadata).avatars:
            print(f"{held.name}: {held.width} x {held.height}", file=sys.stderr)
        count = write_film(stub.Stream(pieces(avatar, reader), metadata=metadata), out)
    print(f"{out}: {count / 25:g} s")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
