"""Speak a sound file into an avatar over WebRTC, and record what comes back.

``python webrtc_client.py http://127.0.0.1:8700 AVATAR SOUND OUT.mp4``; the token is read from LIPWRIGHT_TOKEN where the
server has one. One offer does it all: it sends the microphone, receives the avatar's picture and sound, and has a data
channel for commands.
"""

import asyncio
import json
import os
import sys
import urllib.request
from pathlib import Path

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaPlayer, MediaRecorder

#: Seconds after the sound has ended in which the avatar still speaks: look-ahead and buffers.
AFTER = 1.5


def request(method: str, url: str, body: str | None = None) -> tuple[str, str]:
    """Send an offer, or hang up; the answer, and where the connection can be hung up."""
    headers = {"Content-Type": "application/sdp"}
    if token := os.environ.get("LIPWRIGHT_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    asked = urllib.request.Request(url, body.encode() if body else None, headers, method=method)
    with urllib.request.urlopen(asked) as answer:
        return answer.read().decode(), answer.headers.get("Location", "")


async def main(server: str, avatar: str, sound: Path, out: Path) -> None:
    """Speak, record, hang up."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    ended = asyncio.Event()
    microphone = MediaPlayer(str(sound)).audio
    if microphone is None:
        sys.exit(f"{sound} holds no sound")
    microphone.on("ended", ended.set)
    connection.addTrack(microphone)
    connection.addTransceiver("video", direction="recvonly")
    commands = connection.createDataChannel("lipwright")
    commands.on("open", lambda: commands.send(json.dumps({"type": "stats"})))
    commands.on("message", lambda message: print(message, file=sys.stderr))

    recorder = MediaRecorder(str(out))
    connection.on("track", recorder.addTrack)
    await connection.setLocalDescription(await connection.createOffer())
    url = f"{server}/v1/avatars/{avatar}/whip"
    answer, place = await asyncio.to_thread(request, "POST", url, connection.localDescription.sdp)
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await recorder.start()

    await ended.wait()
    await asyncio.sleep(AFTER)
    await asyncio.to_thread(request, "DELETE", server + place)
    await recorder.stop()
    await connection.close()
    print(f"{out}: recorded")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])))
