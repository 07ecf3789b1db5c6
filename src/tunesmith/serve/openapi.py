"""What the interface says of itself, with examples of the model at hand and what it answers to them."""

from __future__ import annotations

from typing import Any

from tunesmith.serve.asking import Item
from tunesmith.serve.corrections import KEYS
from tunesmith.serve.files import ENDINGS, READING
from tunesmith.serve.service import Service

JSON = "application/json"
ERROR = {
    "type": "object",
    "required": ["error", "code"],
    "properties": {
        "error": {"type": "string", "description": "What was wanted, and what to do."},
        "code": {"type": "string", "description": "A word for programs."},
    },
}
WORDS = {
    400: "No JSON, or no HTTP.",
    401: "A key is needed: Authorization: Bearer KEY.",
    404: "Nothing is here.",
    408: "The request came too slowly.",
    413: "The body is too large.",
    415: "Another type of body is expected.",
    422: "The body says something else than is expected; the message names what.",
    429: "You, or all of you together, send too much; ask again after Retry-After seconds.",
    500: "The model failed at this request; nothing was answered rather than something wrong.",
    503: "Not ready, stopping, or no answer within the time that one may take.",
}
LABELS = {"type": "array", "items": {"type": "string"}}
RIGHT: dict[str, dict[str, Any]] = {
    "one": {"type": "string"},
    "several": LABELS,
    "number": {"type": "number"},
    "spans": {"type": "array", "items": {"type": "object"}},
    "answers": {"type": ["string", "null"]},
}


def describe(schema: dict[str, Any], service: Service) -> None:
    """Add to the framework's description what it cannot know, of a service that is warm."""
    said = _Documents(service)
    posts = {"/predict": said.predict(), "/predict/file": said.file(), "/corrections": said.corrections()}
    gets = {
        "/livez": said.state("Whether the process answers"),
        "/readyz": said.state("Whether it takes requests"),
        "/info": said.info(),
        "/metrics": said.metrics(),
    }
    for method, paths in (("post", posts), ("get", gets)):
        for path, described in paths.items():
            schema["paths"][path][method] |= described
    if service.keys:
        schema["components"] = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
        schema["security"] = [{"key": []}]


class _Documents:
    """What is said of each route.

    Args:
        service: warm, with an answer to its example.
    """

    def __init__(self, service: Service) -> None:
        self._service, self._answer, self._keys = service, service.answer, service.form.keys
        self._example = self._written(service.example)

    def _written(self, item: Item) -> Any:
        return item if isinstance(item, str) else dict(zip(self._keys, item, strict=True))

    @property
    def _item(self) -> dict[str, Any]:
        text = {"type": "string", "maxLength": self._service.limits.characters}
        if not self._keys:
            return text
        properties = dict.fromkeys(self._keys, text)
        return {"type": "object", "required": list(self._keys), "properties": properties, "additionalProperties": False}

    def predict(self) -> dict[str, Any]:
        narrowing: dict[str, Any] = {
            "top_k": {
                "type": ["integer", "null"],
                "minimum": 1,
                "description": "So many of the best labels, or answers.",
            },
            "threshold": {
                "type": ["number", "null"],
                "minimum": 0,
                "maximum": 1,
                "description": "What scores less is left out.",
            },
        }
        allowed = {name: narrowing[name] for name in self._service.predictor.task.narrowed_by}
        many = {"type": "array", "items": self._item, "minItems": 1, "maxItems": self._service.limits.items}
        bodies = [
            {"type": "object", "required": [name], "properties": {name: kind, **allowed}, "additionalProperties": False}
            for name, kind in (("input", self._item), ("inputs", many))
        ]
        asked = {
            "one": {"value": {"input": self._example}},
            "several": {"value": {"inputs": [self._example, self._example]}},
        }
        answers = {
            "one": {"value": self._answer},
            "several": {"value": {"predictions": [self._answer, {**self._answer, "id": "2"}]}},
        }
        return {
            "summary": "What `tunesmith predict` prints of one item, or of each of several",
            "requestBody": {"required": True, "content": {JSON: {"schema": {"oneOf": bodies}, "examples": asked}}},
            "responses": {
                "200": {"description": "Predictions.", "content": {JSON: {"examples": answers}}},
                **errors(400, 401, 408, 413, 415, 422, 429, 500, 503),
            },
        }

    def file(self) -> dict[str, Any]:
        names = [*READING, "top_k", "threshold", "only"]
        parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names]
        content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in ENDINGS}
        return {
            "summary": "A file of texts for the same file with predictions",
            "parameters": parameters,
            "requestBody": {"required": True, "content": content},
            "responses": {
                "200": {"description": "The columns of the file, and those of the predictions.", "content": content},
                **errors(401, 408, 413, 415, 422, 429, 500, 503),
            },
        }

    def corrections(self) -> dict[str, Any]:
        labels = self._service.predictor.task.shape.labels
        key = KEYS.get(labels, "label")
        properties = {"input": self._item, key: RIGHT.get(labels, {})}
        if labels == "answers":
            properties["start"] = {"type": "integer", "description": "Where it stands; else where it stands first."}
        body = {
            "type": "object",
            "required": ["input", key],
            "properties": properties,
            "additionalProperties": False,
        }
        example = {"input": self._example, key: self._right()}
        return {
            "summary": "The right answer, where the model gave a wrong one; kept for `tunesmith train`",
            "requestBody": {"required": True, "content": {JSON: {"schema": body, "example": example}}},
            "responses": {"204": {"description": "It is kept."}, **errors(400, 401, 404, 413, 415, 422, 503)},
        }

    def _right(self) -> Any:
        task, space = self._service.predictor.task, self._service.predictor.space
        label = next(iter(task.kinds(space)), "label")
        spans, number = [{"start": 3, "end": 7, "label": label}], 1.5
        of_kind = {"one": label, "several": [label], "number": number, "spans": spans, "answers": "my card"}
        return of_kind.get(task.shape.labels)

    def info(self) -> dict[str, Any]:
        said = {JSON: {"example": self._service.info(True)}}
        return {
            "summary": "Task, labels and limits; only whether a key is needed for those who have none",
            "responses": {"200": {"description": "Facts.", "content": said}},
        }

    def state(self, summary: str) -> dict[str, Any]:
        return {"summary": summary, "responses": {"200": {"description": "Yes."}, **errors(503)}}

    def metrics(self) -> dict[str, Any]:
        content = {"text/plain": {"schema": {"type": "string"}}}
        return {
            "summary": "Figures for Prometheus",
            "responses": {"200": {"description": "Figures.", "content": content}, **errors(401)},
        }


def errors(*statuses: int) -> dict[str, Any]:
    """What is said of these statuses."""
    content = {JSON: {"schema": ERROR}}
    return {str(status): {"description": WORDS[status], "content": content} for status in statuses}
