"""Let an avatar of a lipwright server say a sound file, and save the film.

Run `lipwright serve` and then:  python http_client.py speech.wav film.mp4
The standard library is all it needs. A server with a token wants it in the environment variable LIPWRIGHT_TOKEN.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
import urllib.request
from http.client import HTTPResponse
from pathlib import Path
from typing import Any


class Client:
    """Talks to one server.

    Args:
        server: ``http://host:port``.
        token: what the server wants, if it wants one.
    """

    def __init__(self, server: str, token: str | None) -> None:
        self._server = server.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> HTTPResponse:
        """One request; the answer is to be closed."""
        request = urllib.request.Request(self._server + path, data=body, headers=self._headers | headers, method=method)
        answer: HTTPResponse = urllib.request.urlopen(request)
        return answer

    def json(self, path: str) -> Any:
        """One request for JSON."""
        with self.ask(path) as answer:
            return json.load(answer)

    def render(self, avatar: str, sound: Path) -> HTTPResponse:
        """The film: at once for a short sound, else when its job is done."""
        length = str(sound.stat().st_size)
        with sound.open("rb") as body:
            answer = self.ask(f"/v1/avatars/{avatar}/render", "POST", body, **{"Content-Length": length})
        if answer.status == 200:
            return answer
        with answer:
            job = json.load(answer)
        while job["state"] in ("waiting", "running"):
            sys.stderr.write(f"\r{job['state']}: {job['frames']} of {job['frames_expected']} frames")
            time.sleep(0.5)
            job = self.json(f"/v1/jobs/{job['id']}")
        if job["state"] != "done":
            raise SystemExit(f"the film was not made: {job['error'] or job['state']}")
        return self.ask(job["result"])


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sound", type=Path)
    parser.add_argument("film", type=Path)
    parser.add_argument("--server", default="http://127.0.0.1:8700")
    parser.add_argument("--avatar", help="its name; else the first that the server has")
    options = parser.parse_args()
    client = Client(options.server, os.environ.get("LIPWRIGHT_TOKEN"))
    avatar = options.avatar or client.json("/v1/avatars")["avatars"][0]["name"]
    with client.render(avatar, options.sound) as answer, options.film.open("wb") as film:
        shutil.copyfileobj(answer, film)
    sys.stdout.write(f"{options.film}: {options.film.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
