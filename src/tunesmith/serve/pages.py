"""What a browser shows: the report of the run."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from tunesmith.serve.replies import Refused
from tunesmith.serve.service import Service

REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
"""The report needs no script, and none that might stand in it is run."""


def router(service: Service) -> APIRouter:
    """The routes of pages."""
    routes = APIRouter()

    @routes.get("/report", include_in_schema=False)
    def report() -> Response:
        try:
            content = service.report.read_bytes()
        except OSError:
            raise Refused(404, "there is no report here; a run has one") from None
        return Response(content, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})

    return routes
