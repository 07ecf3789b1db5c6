"""What a browser shows: the page on which the model is tried, and the report of the run."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

from tunesmith.serve.replies import Refused
from tunesmith.serve.service import Service

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
"""The page asks this server alone, runs its own script alone, and makes no markup of a text."""
REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
"""The report needs no script, and none that might stand in it is run."""
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
LOOK = "report.css"
"""The style sheet of the report, whose look the page has."""


def page_files() -> dict[str, bytes]:
    """What the page is made of, by name."""
    found = {one.name: one.read_bytes() for one in files("tunesmith.serve").joinpath("page").iterdir() if one.is_file()}
    return found | {LOOK: files("tunesmith.report").joinpath("templates", LOOK).read_bytes()}


def router(service: Service) -> APIRouter:
    """The routes of pages."""
    routes, contents = APIRouter(), page_files()

    def page_file(name: str) -> Response:
        if name not in contents:
            raise Refused(404, "nothing is here; the page is at /")
        headers = {"content-security-policy": "; ".join(map(" ".join, POLICY.items()))}
        return Response(contents[name], media_type=TYPES[name.rpartition(".")[2]], headers=headers)

    @routes.get("/", include_in_schema=False)
    async def page() -> Response:
        return page_file("page.html")

    @routes.get("/page/{name}", include_in_schema=False)
    async def part(name: str) -> Response:
        return page_file(name)

    @routes.get("/report", include_in_schema=False)
    def report() -> Response:
        try:
            content = service.report.read_bytes()
        except OSError:
            raise Refused(404, "there is no report here; a run has one") from None
        return Response(content, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})

    return routes
