"""Push a WAV file to an avatar of a lipwright server as a TTS would, and save what it says as pictures and sound.

Run `lipwright serve` and then:  python websocket_client.py speech.wav folder/
It needs `pip install websockets`. A server with a token wants it in the environment variable LIPWRIGHT_TOKEN.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

#: Version, kind, flags, generation, sequence, presentation time in microseconds, bytes that follow; network order.
HEADER = struct.Struct(">BBHIIQI")
SOUND, JPEG = 1, 2
#: Sound is sent in pieces of a fifth of a second; any size will do.
PIECES_A_SECOND = 5


def hello(rate: int, channels: int) -> dict[str, Any]:
    """The first message."""
    return {
        "type": "hello",
        "version": 1,
        "token": os.environ.get("LIPWRIGHT_TOKEN"),
        "mode": "pushed",
        "audio": {"format": "s16le", "rate": rate, "channels": channels},
        "picture": {"format": "jpeg"},
    }


def push(socket: ClientConnection, sound: wave.Wave_read) -> None:
    """All of the sound, then that nothing follows."""
    while piece := sound.readframes(sound.getframerate() // PIECES_A_SECOND):
        socket.send(piece)
    socket.send(json.dumps({"type": "end"}))


def messages(socket: ClientConnection) -> Iterator[tuple[int, int, bytes]]:
    """Kind, sequence and payload of what comes, until all has been said."""
    while True:
        message = socket.recv()
        if isinstance(message, bytes):
            _version, kind, _flags, _generation, sequence, _pts, _size = HEADER.unpack_from(message)
            yield kind, sequence, message[HEADER.size :]
        elif (event := json.loads(message))["type"] == "spoken":
            return
        elif event["type"] == "error":
            raise SystemExit(f"the server says: {event['message']}")


def save(socket: ClientConnection, folder: Path, audio: dict[str, Any]) -> int:
    """Pictures as SEQUENCE.jpg and the sound as sound.wav; how many pictures there were."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = 0
    with wave.open(str(folder / "sound.wav"), "wb") as sound:
        sound.setnchannels(audio["channels"])
        sound.setsampwidth(2)
        sound.setframerate(audio["rate"])
        for kind, sequence, payload in messages(socket):
            if kind == SOUND:
                sound.writeframes(payload)
            elif kind == JPEG:
                (folder / f"{sequence:06}.jpg").write_bytes(payload)
                pictures += 1
    return pictures


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sound", type=Path, help="WAV, 16 bit, not longer than the server lets wait (60 s)")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--server", default="ws://127.0.0.1:8700")
    parser.add_argument("--avatar", default="presenter")
    options = parser.parse_args()
    url = f"{options.server}/v1/avatars/{options.avatar}/stream"
    with wave.open(str(options.sound)) as sound, connect(url, max_size=None) as socket:
        if sound.getsampwidth() != 2:
            raise SystemExit(f"{options.sound} has no 16-bit samples: convert it first")
        socket.send(json.dumps(hello(sound.getframerate(), sound.getnchannels())))
        ready = json.loads(socket.recv())
        if ready["type"] != "ready":
            raise SystemExit(f"the server says: {ready['message']}")
        push(socket, sound)
        pictures = save(socket, options.folder, ready["audio"])
    sys.stdout.write(f"{options.folder}: {pictures} pictures of {ready['width']} x {ready['height']}\n")


if __name__ == "__main__":
    main()
