"""The HTTP door, and the app that the other doors hang on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Annotated, Protocol

from fastapi import APIRouter, FastAPI, Header, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from lipwright.contract import FPS
from lipwright.errors import LipwrightError, MediaError
from lipwright.serve import metrics
from lipwright.serve.engine import Engine, EngineFullError, EngineStoppedError, NoSuchAvatarError
from lipwright.serve.faces import Face
from lipwright.serve.jobs import Job, Jobs, JobsFullError, State, TooLongError
from lipwright.serve.safety import Guard, Policy, error_body
from lipwright.serve.websocket import serve_stream

logger = logging.getLogger(__name__)

#: Sound up to so many seconds is answered with its film; longer ones with a job.
SHORT_SECONDS = 15.0
#: An upload of which nothing came for so many seconds is given up.
STALLED_SECONDS = 20.0
#: How often a request that waits for its film looks whether it is there, and whether its client still is.
LOOK_SECONDS = 0.1
STATIC = Path(__file__).parent / "static"
STATUS = {
    NoSuchAvatarError: (404, "avatar"),
    EngineFullError: (503, "full"),
    EngineStoppedError: (503, "stopped"),
    JobsFullError: (503, "jobs_full"),
    TooLongError: (413, "too_long"),
    MediaError: (422, "sound"),
}


class Door(Protocol):
    """Another way in that lives as long as the app, on its event loop."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class UploadError(LipwrightError):
    """An upload was not taken."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class AvatarView(BaseModel):
    """An avatar that this server holds."""

    name: str
    width: int = Field(description="of its pictures, pixels")
    height: int
    fps: int
    frames: int = Field(description="of its template")
    poster: str = Field(description="path of its first picture")
    stream: str = Field(description="path of its WebSocket")
    consent: str = Field(description="what is known of the consent of the person shown, in words")
    marked: bool = Field(description="its pictures carry a visible mark, because no consent is on file")


class AvatarsView(BaseModel):
    """All of them, and how full the server is."""

    avatars: list[AvatarView]
    sessions: int = Field(description="open now")
    capacity: int = Field(description="sessions held at 25 frames a second")
    lookahead: int = Field(description="future features that a frame waits for by default")
    lookahead_ms: float


class JobView(BaseModel):
    """A render job."""

    id: str
    avatar: str
    state: State
    frames: int = Field(description="done so far")
    frames_expected: int
    seconds_left: float | None
    error: str | None
    result: str | None = Field(description="path of the film, once it is done")


#: Adds its routes to the app and gives what lives as long as it.
Attach = Callable[[FastAPI, Engine, Policy], Door]


def create_app(
    engine: Engine, policy: Policy, doors: Sequence[Door] = (), attachments: Sequence[Attach] = ()
) -> FastAPI:
    """The app with HTTP, WebSocket and the page.

    Args:
        engine: draws; started.
        policy: who may.
        doors: further ways in that live as long as the app.
        attachments: those that also need routes of it, such as ``webrtc.attach``.
    """
    jobs = Jobs(engine, policy.limits)
    living: list[Door] = list(doors)
    # FastAPI's own page of the interface loads its scripts from elsewhere: ours is ``static/docs.html``.
    app = FastAPI(title="lipwright", version="1", docs_url=None, redoc_url=None, lifespan=_lifespan(living, jobs))
    app.state.engine, app.state.policy = engine, policy
    _answer_errors(app)
    app.include_router(_avatar_routes(engine, jobs, policy))
    app.include_router(_job_routes(jobs))
    app.include_router(_state_routes(engine))

    @app.websocket("/v1/avatars/{name}/stream")
    async def stream(socket: WebSocket, name: str) -> None:
        await serve_stream(socket, name, engine, policy)

    living += [attach(app, engine, policy) for attach in attachments]
    _add_page(app)
    if policy.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=policy.origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["authorization", "content-type", "prefer"],
            expose_headers=["location", "retry-after"],
        )
    app.add_middleware(Guard, policy=policy, refused=_counter(engine, "lipwright_requests_refused_total"))
    return app


def _counter(engine: Engine, name: str) -> Callable[[], None]:
    return lambda: engine.metrics.count(name)


def _lifespan(doors: Sequence[Door], jobs: Jobs) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        started: list[Door] = []
        jobs.start()
        try:
            for door in doors:
                await door.start()
                started.append(door)
            yield
        finally:
            for door in reversed(started):
                await door.stop()
            await asyncio.to_thread(jobs.close)

    return lifespan


def _add_page(app: FastAPI) -> None:
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(STATIC / "docs.html")


# --- errors -----------------------------------------------------------------------------------------------------------


def _answer_errors(app: FastAPI) -> None:
    """Every error is one JSON object with a code and a message."""

    @app.exception_handler(LipwrightError)
    async def ours(_request: Request, error: LipwrightError) -> JSONResponse:
        if isinstance(error, UploadError):
            # What is left of the body will not be read.
            return JSONResponse(error_body(error.code, str(error)), error.status, {"Connection": "close"})
        status, code = next((STATUS[kind] for kind in STATUS if isinstance(error, kind)), (400, "request"))
        retry = getattr(error, "retry_after", None)
        headers = None if retry is None else {"Retry-After": str(retry)}
        return JSONResponse(error_body(code, str(error)), status, headers)

    @app.exception_handler(HTTPException)
    async def theirs(_request: Request, error: HTTPException) -> JSONResponse:
        codes = {404: "not_found", 405: "method"}
        body = error_body(codes.get(error.status_code, "request"), str(error.detail))
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def unfit(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return _error(400, "request", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    @app.exception_handler(Exception)
    async def unknown(_request: Request, _error_: Exception) -> JSONResponse:
        return _error(500, "internal", "something went wrong in the server: its log says more")


def _error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse(error_body(code, message), status)


# --- how the server is ------------------------------------------------------------------------------------------------


def _state_routes(engine: Engine) -> APIRouter:
    routes = APIRouter(tags=["state"])

    @routes.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """Whether the process answers."""
        return "ok\n"

    @routes.get("/readyz", response_class=PlainTextResponse)
    async def readyz() -> PlainTextResponse:
        """Whether it draws."""
        ready = engine.ready
        return PlainTextResponse("ready\n" if ready else "not ready\n", 200 if ready else 503)

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def prometheus() -> Response:
        """All figures in Prometheus' text format."""
        return Response(engine.metrics.text(engine.gauges()), media_type=metrics.CONTENT_TYPE)

    return routes


# --- avatars ----------------------------------------------------------------------------------------------------------


def _view(face: Face) -> AvatarView:
    path = f"/v1/avatars/{face.name}"
    frames = face.avatar.frame_count
    return AvatarView(
        name=face.name,
        width=face.width,
        height=face.height,
        fps=FPS,
        frames=frames,
        poster=f"{path}/poster.jpg",
        stream=f"{path}/stream",
        consent=face.disclosure.sentence,
        marked=face.disclosure.mark is not None,
    )


def _avatar_routes(engine: Engine, jobs: Jobs, policy: Policy) -> APIRouter:
    routes = APIRouter(prefix="/v1/avatars", tags=["avatars"])

    @routes.get("")
    async def avatars() -> AvatarsView:
        """The avatars of this server, and how full it is."""
        faces = list(engine.faces.values())
        return AvatarsView(
            avatars=[_view(face) for face in faces],
            sessions=engine.active,
            capacity=engine.capacity,
            lookahead=engine.lookahead,
            lookahead_ms=faces[0].lookahead_ms(engine.lookahead),
        )

    @routes.get("/{name}/poster.jpg", response_class=Response)
    async def poster(name: str) -> Response:
        """The avatar's first picture."""
        return Response(engine.face(name).poster, media_type="image/jpeg")

    @routes.post(
        "/{name}/render",
        response_class=Response,
        responses={200: {"content": {"video/mp4": {}}}, 202: {"model": JobView}},
        openapi_extra={"requestBody": {"content": {"audio/*": {}, "application/octet-stream": {}}, "required": True}},
    )
    async def render(name: str, request: Request, prefer: Annotated[str, Header()] = "") -> Response:
        """A sound file as the body, its film as the answer; 202 and a job where that takes long.

        ``Prefer: respond-async`` asks for a job in any case.
        """
        face = engine.face(name)
        with jobs.upload() as file:
            sound = await _uploaded(request, file, policy.limits.upload_bytes)
            job = await asyncio.to_thread(jobs.submit, face, sound)
        if job.duration > SHORT_SECONDS or "respond-async" in prefer:
            return JSONResponse(_job_view(job, jobs).model_dump(), 202, {"Location": f"/v1/jobs/{job.id}"})
        return await _waited(request, job, jobs)

    return routes


async def _uploaded(request: Request, file: Path, most: int) -> Path:
    """The body of ``request``, written to ``file`` as it comes.

    Raises:
        UploadError: it is too large, empty, stalled or cut short; nothing is kept then.
    """
    if int(request.headers.get("content-length", 0)) > most:
        raise _too_large(most)
    try:
        await _write_body(request, file, most)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return file


def _too_large(most: int) -> UploadError:
    return UploadError(413, "too_large", f"the sound file is larger than {most} bytes: compress or cut it")


async def _write_body(request: Request, file: Path, most: int) -> None:
    chunks = aiter(request.stream())
    size = 0
    with file.open("wb") as out:
        while True:
            try:
                chunk = await asyncio.wait_for(anext(chunks), STALLED_SECONDS)
            except StopAsyncIteration:
                break
            except TimeoutError as error:
                raise UploadError(408, "stalled", f"nothing came for {STALLED_SECONDS:g} s") from error
            except ClientDisconnect as error:
                raise UploadError(400, "cut_short", "the upload was broken off") from error
            size += len(chunk)
            if size > most:
                raise _too_large(most)
            await asyncio.to_thread(out.write, chunk)
    if not size:
        raise UploadError(422, "sound", "the request has no body: send the sound file as it is")


async def _waited(request: Request, job: Job, jobs: Jobs) -> Response:
    """The film as soon as it is there; a client that goes away cancels it."""
    while not job.finished.is_set():
        if await request.is_disconnected():
            jobs.remove(job)
            return Response(status_code=499)
        # Not in a thread: as many as may wait would take those in which live pictures are compressed.
        await asyncio.sleep(LOOK_SECONDS)
    film = _film(job)
    film.background = BackgroundTask(asyncio.to_thread, jobs.remove, job)
    return film


# --- jobs -------------------------------------------------------------------------------------------------------------


def _job_view(job: Job, jobs: Jobs) -> JobView:
    left = job.seconds_left(jobs.clock())
    return JobView(
        id=job.id,
        avatar=job.face.name,
        state=job.state,
        frames=job.frames,
        frames_expected=job.frames_expected,
        seconds_left=None if left is None else round(left, 1),
        error=job.error,
        result=f"/v1/jobs/{job.id}/result" if job.state == "done" else None,
    )


def _film(job: Job) -> Response:
    if job.state == "failed":
        return _error(422, "render", job.error or "the film could not be made")
    if job.state == "cancelled":
        return _error(410, "cancelled", "the job was cancelled")
    return FileResponse(job.result, media_type="video/mp4", filename=f"{job.face.name}.mp4")


def _no_job() -> JSONResponse:
    return _error(404, "job", "there is no such job: it was removed, or its hour is over")


def _job_routes(jobs: Jobs) -> APIRouter:
    routes = APIRouter(prefix="/v1/jobs", tags=["jobs"])

    @routes.get("/{job_id}", response_model=JobView)
    async def progress(job_id: str) -> Response:
        """How far a job is."""
        job = jobs.get(job_id)
        return _no_job() if job is None else JSONResponse(_job_view(job, jobs).model_dump())

    @routes.get("/{job_id}/result", response_class=FileResponse)
    async def result(job_id: str) -> Response:
        """The film; 409 while it is not done."""
        job = jobs.get(job_id)
        if job is None:
            return _no_job()
        if not job.finished.is_set():
            return _error(409, "not_done", f"the job is {job.state}: {job.frames} of {job.frames_expected} frames")
        return _film(job)

    @routes.delete("/{job_id}", status_code=204)
    async def cancel(job_id: str) -> Response:
        """Cancel a job, or remove its film."""
        job = jobs.get(job_id)
        if job is None:
            return _no_job()
        await asyncio.to_thread(jobs.remove, job)
        return Response(status_code=204)

    return routes
