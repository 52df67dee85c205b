"""What clients of WebRTC are told by a server that lacks its library."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse

from lipwright.errors import MissingExtraError
from lipwright.serve.engine import Engine
from lipwright.serve.safety import Policy, error_body


class ClosedDoor:
    """A way in that is not there; nothing to start or to stop."""

    async def start(self) -> None:
        """Nothing."""

    async def stop(self) -> None:
        """Nothing."""


def without_webrtc(missing: MissingExtraError) -> Callable[[FastAPI, Engine, Policy], ClosedDoor]:
    """Routes that answer every offer with 501 and the pip command, in the place of ``webrtc.attach``."""

    def attach(app: FastAPI, _engine: Engine, _policy: Policy) -> ClosedDoor:
        routes = APIRouter(tags=["webrtc"])

        @routes.post("/v1/avatars/{name}/whip", status_code=501)
        @routes.post("/v1/avatars/{name}/whep", status_code=501)
        async def refuse(name: str) -> JSONResponse:
            """WebRTC is off on this server; the message says how to switch it on."""
            return JSONResponse(error_body("webrtc", f"no WebRTC to {name} here: {missing}"), 501)

        app.include_router(routes)
        return ClosedDoor()

    return attach
