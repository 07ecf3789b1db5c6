"""``python -m tunesmith.run.schema docs/run.schema.json`` writes the JSON schema of ``run.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tunesmith.run.record import RunRecord


def schema_text() -> str:
    """The schema as it stands in ``docs/run.schema.json``."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **RunRecord.model_json_schema()}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema_text(), encoding="utf-8")
