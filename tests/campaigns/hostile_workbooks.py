"""Hostile workbooks, and folders of saved data sets."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from tests.campaigns.hostile import EITHER, Case, Make, of_each, of_odd, text
from tests.campaigns.hostile_tables import PLAIN, arrow_bytes
from tunesmith.data.workbook import BEGIN, END, HEAD, PARTS


def row_of(*cells: str) -> str:
    return '<row r="1">' + "".join(f'<c t="inlineStr"><is><t>{cell}</t></is></c>' for cell in cells) + "</row>"


def workbook(**parts: str | bytes) -> Make:
    """A workbook whose parts are replaced: ``sheet``, ``strings``, or further ones by their names."""
    names = {"sheet": "xl/worksheets/sheet1.xml", "strings": "xl/sharedStrings.xml"}

    def make(folder: Path) -> Path:
        content: dict[str, str | bytes] = {name: HEAD + part for name, part in PARTS.items()}
        content[names["sheet"]] = BEGIN + row_of("text") + END
        for name, part in parts.items():
            at = names.get(name, name)
            content[at] = BEGIN + part + END if name == "sheet" and isinstance(part, str) else part
        path = folder / "data.xlsx"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, part in content.items():
                archive.writestr(name, part)
        return path

    return make


def ods(rows: str) -> Make:
    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
    )
    table = f'<table:table table:name="a">{rows}</table:table>'
    body = f"<office:body><office:spreadsheet>{table}</office:spreadsheet></office:body>"

    def make(folder: Path) -> Path:
        path = folder / "data.ods"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
            archive.writestr("content.xml", f"<office:document-content {spaces}>{body}</office:document-content>")
            archive.writestr("META-INF/manifest.xml", "<manifest/>")
        return path

    return make


def saved(state: object, info: object = None, link: str | None = None) -> Make:
    """A folder as ``save_to_disk`` makes it, with a link ``x`` in it."""

    def make(folder: Path) -> Path:
        root = folder / "saved"
        root.mkdir()
        (root / "data.arrow").write_bytes(arrow_bytes(PLAIN.select(["text", "label"]), stream=True))
        (root / "state.json").write_text(state if isinstance(state, str) else json.dumps(state))
        (root / "dataset_info.json").write_text(info if isinstance(info, str) else json.dumps(info or {}))
        if link is not None:
            (root / "x").symlink_to(link)
        return root

    return make


def splits(folder: Path) -> Path:
    root = folder / "splits"
    root.mkdir()
    (root / "dataset_dict.json").write_text('{"splits": ["../../outside", "train"]}')
    (root / "train").symlink_to("../../outside")
    return root


ENTITIES = '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "lol">' + "".join(
    f'<!ENTITY {one} "{f"&{other};" * 10}">' for other, one in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)
FAR_CELLS = (
    '<row r="1"><c r="A1"><v>1</v></c><c r="XFD1048576"><v>1</v></c></row>',
    '<row r="1"><c r="A1"><v>1</v></c><c r="gggggA2"><v>1</v></c></row>',
    "<row r='1048576'><c r='XFD1048576'><v>1</v></c></row><row r='1'><c r='A1'><v>1</v></c></row>",
    '<row r="1"><c r="XFD1"><v>1</v></c></row><row r="1048576"><c><v>1</v></c></row>',
    '<row r="4294967295"><c><v>1</v></c></row>',
)
OLD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
REPEATED = '<table:table-cell table:number-columns-repeated="16384" office:value-type="string"><text:p>a</text:p>'
WORKBOOKS = [
    *of_each(
        {
            "a sheet of zeros": lambda folder: workbook(sheet=bytes(10**8))(folder),
            "strings of zeros": lambda folder: workbook(strings=bytes(10**8))(folder),
            "a part that is not read": lambda folder: workbook(**{"media/a.png": bytes(10**8)})(folder),
            "a billion laughs": workbook(strings=f"{ENTITIES}]><sst><si><t>&m;</t></si></sst>"),
            "an entity of a file": workbook(
                strings='<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]><sst><si><t>&a;</t></si></sst>'
            ),
            "depth": workbook(sheet="<row>" * 10**5),
            "names outside": workbook(**{"../../../outside/run": "x", "/etc/x": "x"}),
            "an old one": text("data.xls", OLD + bytes(10**6)),
            "sectors without end": text("data.xls", OLD + b"\x01" * 10**6),
            "rows without end": workbook(sheet="<row " * 2 * 10**5),
            "addresses without end": workbook(sheet="<c " + 'r="A1" ' * 10**5),
            "cells that repeat": ods(
                f'<table:table-row table:number-rows-repeated="1048576">{REPEATED}</table:table-cell></table:table-row>'
            ),
        },
        kind="workbook: ",
    ),
    *of_each({f"a far cell {at}": workbook(sheet=row) for at, row in enumerate(FAR_CELLS)}, kind="workbook: "),
    *of_odd("cells of a workbook", lambda odd: workbook(sheet=row_of(odd, f"b{odd}"))),
]
STATE = {"_data_files": [{"filename": "data.arrow"}]}
ELSEWHERE = {"_data_files": [{"filename": "x"}]}
SAVED = [
    *of_each(
        {
            "a file outside": saved({"_data_files": [{"filename": "../../outside/secret.txt"}]}),
            "a file by its full path": saved({"_data_files": [{"filename": "/etc/passwd"}]}),
            "a link outside": saved(ELSEWHERE, link="../../outside/secret.txt"),
            "a link to a device": saved(ELSEWHERE, link="/dev/zero"),
            "state 100,000 deep": saved("[" * 100_000),
            "a name twice": saved('{"_data_files": [], "_data_files": [{"filename": "data.arrow"}]}'),
            "no list of files": saved({"_data_files": 7}),
            "a text instead of features": saved(STATE, '"text"'),
            "the same file 10,000 times": saved({"_data_files": [{"filename": "data.arrow"}] * 10_000}),
            "splits outside": splits,
        },
        kind="saved: ",
    ),
    Case("saved: features of another kind", saved(STATE, {"features": [1, 2]}), EITHER),
    Case(
        "saved: class names of ESC",
        saved(STATE, {"features": {"label": {"_type": "ClassLabel", "names": ["\x1b", "b"]}}}),
        EITHER,
    ),
]
CASES = [*WORKBOOKS, *SAVED]
