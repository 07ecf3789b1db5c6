"""Hostile Parquet and Arrow."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.campaigns.hostile import EITHER, Case, Make, of_each, of_odd, text

LONG = "word " * 100_000
MANY = 1_000_000
PLAIN = pa.table(
    {
        "text": pa.array([f"this is text {n}" if n % 9 else None for n in range(60)]),
        "label": pa.array(["a", "b"] * 30).dictionary_encode(),
        "lists": pa.array([[1, None], []] * 30),
        "spans": pa.array([[{"start": 0, "end": 4, "label": "A"}]] * 60),
        "views": pa.array(["a text that is long enough", None] * 30).cast(pa.string_view()),
        "when": pa.array(range(60), pa.timestamp("us", "UTC")),
    }
)


def arrow(table: Callable[[], pa.Table], compression: str | None = None, name: str = "data.arrow") -> Make:
    return text(name, lambda: arrow_bytes(table(), compression))


def arrow_bytes(table: pa.Table, compression: str | None = None, stream: bool = False) -> bytes:
    file = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(file, table.schema, options=options) as writer:
        writer.write_table(table, 25 if table.num_rows < 100 else None)
    return file.getvalue()


def parquet(table: Callable[[], pa.Table], times: int = 1, **options: Any) -> Make:
    def make(folder: Path) -> Path:
        made, path = table(), folder / "data.parquet"
        with pq.ParquetWriter(path, made.schema, **options) as writer:
            for _ in range(times):
                writer.write_table(made)
        return path

    return make


def alone(array: pa.Array) -> pa.Table:
    return pa.table({"text": array})


def zeros(count: int = MANY) -> pa.Array:
    return pa.array(np.zeros(count, np.int32))


def one_word(value: str = LONG, count: int = MANY) -> pa.Array:
    return pa.DictionaryArray.from_arrays(zeros(count), pa.array([value]))


def runs(values: pa.Array, count: int = MANY) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array([count], pa.int32()), values)


def shared_view(count: int = MANY) -> pa.Array:
    """Views that all lead to the same text."""
    _, views, data = pa.array([LONG]).cast(pa.string_view()).buffers()
    many = np.tile(np.frombuffer(views, np.int32)[:4], count)
    return pa.Array.from_buffers(pa.string_view(), count, [None, pa.py_buffer(many), data])


def shared_list(values: pa.Array, count: int = MANY) -> pa.Array:
    return pa.ListViewArray.from_arrays(zeros(count), pa.array(np.full(count, len(values), np.int32)), values)


def shared_words(parts: int = 20_000, words: int = MANY) -> bytes:
    """Many parts of one row each that share a large dictionary."""
    label = pa.DictionaryArray.from_arrays(zeros(parts), pa.array([""] * words))
    table, file = alone(label), io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, 1)
    return file.getvalue()


def nested(depth: int, kind: pa.DataType | None = None) -> pa.DataType:
    kind = kind or pa.string()
    for _ in range(depth):
        kind = pa.list_(kind)
    return kind


def damaged(content: bytes, seed: int) -> bytes:
    chosen, changed = random.Random(seed), bytearray(content)
    for _ in range(chosen.choice((1, 1, 2, 4, 16))):
        at, size = chosen.randrange(len(changed) - 8), chosen.choice((1, 1, 4, 8))
        value = chosen.choice((0, 1, 2**31 - 1, -1, chosen.getrandbits(60)))
        changed[at : at + size] = (value % 256**size).to_bytes(size, "little")
    return bytes(changed)


def damaged_arrow(seed: int) -> bytes:
    return damaged(arrow_bytes(PLAIN, (None, "lz4", "zstd")[seed % 3], seed % 2 == 0), seed)


def damaged_parquet(seed: int) -> bytes:
    file = io.BytesIO()
    options: tuple[dict[str, Any], ...] = ({}, {"compression": "zstd"}, {"data_page_version": "2.0"})
    pq.write_table(PLAIN, file, row_group_size=25, **options[seed % 3])
    return damaged(file.getvalue(), seed)


def cut(share: int) -> bytes:
    content = arrow_bytes(PLAIN)
    return content[: len(content) * share // 100]


def lying(size: int) -> bytes:
    """A compressed part whose size is not the one it says."""
    content, true = arrow_bytes(alone(pa.array(["a" * 5000] * 9)), "zstd"), (9 * 5000).to_bytes(8, "little")
    assert content.count(true)
    return content.replace(true, size.to_bytes(8, "little", signed=True))


def footer(content: bytes) -> bytes:
    return b"PAR1" + content + len(content).to_bytes(4, "little") + b"PAR1"


def same_pages(folder: Path) -> Path:
    """A footer of many row groups whose pages are the same ones."""
    path = folder / "data.parquet"
    pq.write_table(alone(pa.array(["a" * 1000] * 100_000)), path, compression="zstd")
    whole, metadata, out = path.read_bytes(), pq.read_metadata(path), io.BytesIO()
    for _ in range(6):
        metadata.append_row_groups(pq.read_metadata(path))
    metadata.write_metadata_file(out)
    path.write_bytes(whole[: -8 - int.from_bytes(whole[-8:-4], "little")] + out.getvalue()[4:])
    return path


def alone_of(make: Callable[[], pa.Array]) -> pa.Table:
    return alone(make())


def lists_of(values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.arange(len(values), dtype=np.int32)), values)


BOMBS: dict[str, Callable[[], pa.Array]] = {
    "a word for a million rows": one_word,
    "a run of a million rows": lambda: runs(pa.array([LONG])),
    "a run of a word": lambda: runs(pa.array([LONG]).dictionary_encode()),
    "views of one text": shared_view,
    "views of one list": lambda: shared_list(pa.array(["word"] * 10_000)),
    "views of views": lambda: shared_list(shared_list(pa.array(["word"] * 10_000), 10_000)),
    "lists of a word": lambda: lists_of(one_word()),
    "structures of a word": lambda: pa.StructArray.from_arrays([one_word(), one_word()], ["a", "b"]),
    "a map of a word": lambda: pa.MapArray.from_arrays(
        pa.array(np.arange(MANY, dtype=np.int32)), one_word("k"), one_word()
    ),
    "a billion times nothing": lambda: pa.nulls(10**9),
    "lists of a billion times nothing": lambda: pa.FixedSizeListArray.from_arrays(pa.nulls(10**9), 10**6),
    "one list of a billion times nothing": lambda: pa.FixedSizeListArray.from_arrays(pa.nulls(10**9), 10**9),
    "structures of nothing": lambda: pa.StructArray.from_arrays([pa.nulls(10**9)], ["a"]),
    "lists 60 deep": lambda: pa.array([None, []] * 9, nested(60)),
    "unions": lambda: pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]),
    "dates beyond the calendar": lambda: pa.array([[2**62]] * 9, pa.list_(pa.timestamp("s"))),
}
CLASS_NAMES = '{"info": {"features": {"label": {"_type": "ClassLabel", "names": %s}}}}'


def of_datasets(names: str, label: int) -> pa.Table:
    table = pa.table({"text": ["a b c"] * 9, "label": [label] * 9})
    return table.replace_schema_metadata({"huggingface": CLASS_NAMES % names})


ARROW = [
    *of_each({name: arrow(partial(alone_of, make)) for name, make in BOMBS.items()}, kind="Arrow: "),
    *of_each(
        {
            "texts of one letter, zstd": arrow(lambda: alone(pa.array(["a" * 10**7] * 40)), "zstd"),
            "texts of one letter, lz4": arrow(lambda: alone(pa.array(["a" * 10**7] * 40)), "lz4"),
            "a part that says to be 2^60 bytes": text("data.arrow", lambda: lying(2**60)),
            "a part that says to be 1 GB": text("data.arrow", lambda: lying(2**30)),
            "a part that says to be -5 bytes": text("data.arrow", lambda: lying(-5)),
            "words for 20,000 parts": text("data.arrow", shared_words),
            "20,000 columns": arrow(lambda: pa.table({f"c{n}": ["a"] for n in range(20_000)})),
            "one name for two columns": arrow(lambda: pa.Table.from_arrays([pa.array(["a"])] * 2, ["a\x1b", "a\x1b"])),
            "class numbers beyond the names": arrow(lambda: of_datasets('["a\\u001b"]', 2**60)),
        },
        kind="Arrow: ",
    ),
    Case("Arrow: names that are none", arrow(lambda: of_datasets("5", 0)), EITHER),
    *of_odd("names of Arrow", lambda odd: arrow(lambda: pa.table({odd: ["a"], f"{odd}2": [{odd: 1}]}))),
    *of_odd("labels of Arrow", lambda odd: arrow(lambda: pa.table({"text": ["a b c"] * 60, "label": [odd, "c"] * 30}))),
    *of_each(
        {f"damaged {seed}": text("data.arrow", partial(damaged_arrow, seed)) for seed in range(20)}, EITHER, "Arrow, "
    ),
    *of_each(
        {f"cut after {share} %": text("data.arrow", partial(cut, share)) for share in (0, 1, 9, 50, 95)},
        kind="Arrow, ",
    ),
]
PARQUET = [
    *of_each(
        {
            "a word for many rows": parquet(lambda: alone(pa.array([LONG] * 100)), 10, compression="zstd"),
            "pages of one letter": parquet(
                lambda: alone(pa.array(["a" * 10**7] * 10)), compression="zstd", use_dictionary=False
            ),
            "texts by those before": parquet(
                lambda: alone(pa.array([LONG] * 100)),
                4,
                use_dictionary=False,
                column_encoding={"text": "DELTA_BYTE_ARRAY"},
                compression="zstd",
            ),
            "twenty million rows of nothing": parquet(lambda: alone(pa.nulls(20 * MANY, pa.string()))),
            "a list of ten million": parquet(lambda: alone(pa.array([[None] * 10**7], pa.list_(pa.int8())))),
            "lists 40 deep": parquet(lambda: alone(pa.array([None, []] * 9, nested(40)))),
            "row groups of the same pages": same_pages,
            "10,001 columns": parquet(lambda: pa.table({f"c{n}": ["a"] for n in range(10_001)})),
            "a footer of ones": text("data.parquet", lambda: footer(b"\x19\xfc" + b"\xff" * 10**7)),
            "a footer of a list without end": text(
                "data.parquet", lambda: footer(b"\x29\xfc\xff\xff\xff\xff\x0f" + bytes(10**6))
            ),
            "a footer of numbers without end": text("data.parquet", footer(b"\x19\xf7" + b"\xff" * 8 + b"\x0f")),
            "a footer 10,000 deep": text("data.parquet", footer(b"\x1c" * 10_000)),
            "encrypted": text("data.parquet", b"PARE" + bytes(100) + b"PARE"),
        },
        kind="Parquet: ",
    ),
    *of_odd("names of Parquet", lambda odd: parquet(lambda: pa.table({odd: ["a"], f"{odd}2": ["b"]}))),
    *of_each(
        {f"damaged {seed}": text("data.parquet", partial(damaged_parquet, seed)) for seed in range(20)},
        EITHER,
        "Parquet, ",
    ),
]
CASES = [*ARROW, *PARQUET]
