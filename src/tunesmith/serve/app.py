"""The routes, and what stands before them."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith.serve import files, pages
from tunesmith.serve.asking import Asked
from tunesmith.serve.keys import Keys
from tunesmith.serve.limits import Gone, Limited
from tunesmith.serve.openapi import describe
from tunesmith.serve.replies import Refused, json_reply, require_type
from tunesmith.serve.service import Service
from tunesmith.serve.watching import Watched

OPEN = {"/", "/livez", "/health", "/readyz", "/ready", "/info"}
"""Paths that need no key: whether the server is well, and a page that asks for a key."""
OPEN_FOLDER = "/page/"
"""What the page is made of."""
FILE = "/predict/file"
JSON = "application/json"


def make_app(service: Service) -> ASGIApp:
    """The whole application, to be run by an ASGI server; `tunesmith.serve.server` has one."""
    app = FastAPI(title=f"Tunesmith: {service.folder.resolve().name}", version=version("tunesmith"),
                  max_body_size=None, docs_url=None, redoc_url=None, redirect_slashes=False)  # fmt: skip
    app.include_router(_predictions(service))
    app.include_router(_states(service))
    app.include_router(pages.router(service))
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(Gone, _gone)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(Exception, _failed)
    describe(app.openapi(), service)  # which the framework keeps
    paths = set(app.openapi()["paths"]) | OPEN | {"/report", "/openapi.json"}

    def failed(name: str, error: BaseException) -> None:
        service.progress.line(f"error: request {name}: {type(error).__name__}")

    guarded = Guarded(_with_heads(app), service.keys)
    limited = Limited(guarded, service.limits, lambda path: path == FILE, service.local_only)
    return Watched(limited, service.watch, lambda path: path if path in paths else "other", failed)


def _with_heads(app: ASGIApp) -> ASGIApp:
    """HEAD is answered as GET; the server of HTTP leaves the body out."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        await app({**scope, "method": method}, receive, send)

    return answer


class Guarded:
    """An application behind the keys, but for what is open."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app, self.keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in OPEN and not scope["path"].startswith(OPEN_FOLDER):
            self.keys.require(authorization(scope))
        await self.app(scope, receive, send)


def authorization(scope: Scope) -> str | None:
    """The header of this name."""
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    return bytes(found[0]).decode("latin-1") if len(found) == 1 else None


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error.reply


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # for the figures; nobody reads it


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {404: "nothing is here; see /openapi.json", 405: "another method is expected here; see Allow"}
    headers = dict(error.headers or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"
    return Refused(error.status_code, words.get(error.status_code, "refused"), headers=headers).reply


async def _failed(request: Request, error: Exception) -> Response:
    """Sent by the framework, which raises the error once more, so that it is told."""
    return Refused(500, "the server failed; its log has more, by the x-request-id of this answer").reply


def _predictions(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.post("/predict")
    async def predict(request: Request) -> Response:
        require_type(request.headers, JSON)
        if request.query_params:
            raise Refused(422, "unknown parameter; give all that you ask for in the body")
        body = await request.body()
        service.batcher.refuse_if_full(1, len(body))  # before any work is done for it
        asked = Asked.of(body, service.form, service.predictor, service.limits)
        found = await service.predict(asked.items, asked.top_k, asked.threshold)
        return json_reply({"predictions": found} if asked.many else found[0])

    @routes.post(FILE)
    async def predict_file(request: Request) -> Response:
        return await files.answer(service, request)

    @routes.post("/corrections", status_code=204)
    async def corrections(request: Request) -> Response:
        if service.corrections is None:
            raise Refused(404, "no corrections are collected here; the server was started without a file for them")
        require_type(request.headers, JSON)
        service.corrections.add(await request.body(), service.limits)
        return Response(status_code=204)

    return routes


def _states(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.get("/livez")
    @routes.get("/health", include_in_schema=False)
    async def live() -> Response:
        return json_reply({"status": "alive"})

    @routes.get("/readyz")
    @routes.get("/ready", include_in_schema=False)
    async def ready() -> Response:
        if not service.ready:
            state = "stopping" if service.draining() else "overloaded, or failing"
            raise Refused(503, f"not ready: {state}")
        return json_reply({"status": "ready"})

    @routes.get("/info")
    async def info(request: Request) -> Response:
        return json_reply(service.info(service.keys.know(authorization(request.scope))))

    @routes.get("/metrics")
    async def metrics() -> Response:
        return Response(service.watch.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes
