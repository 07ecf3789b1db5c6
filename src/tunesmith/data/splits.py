"""Train, validation and test parts: decided by seed and content alone, never by the order of the rows.

Rows with the same text, apart from case and spaces (and, where there is a group column, of the same group), form one
unit, and units are never divided. Units are put in a random order by a hash of the seed and of what they contain; the
parts are then filled so that each has its share of every label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from tunesmith.config.schema import DataSettings
from tunesmith.data.keys import alike_keys, column_keys, label_codes, mixed, text_keys
from tunesmith.data.records import Records
from tunesmith.data.shapes import RecordShape
from tunesmith.data.table import TEXT, take
from tunesmith.errors import DataError
from tunesmith.text import counted

if TYPE_CHECKING:
    from scipy.sparse import csr_array

QUANTILES = 10
MAX_DEVIATION = 0.15
"""A share of the train rows that is further from the one asked for is told."""
TRAIN = 0  # parts by number: 0 is train, then those of `which`


def split(
    records: Records, shape: RecordShape, settings: DataSettings, seed: int, which: Sequence[str] = ("valid", "test")
) -> dict[str, Records]:
    """Splits rows off.

    Args:
        records: all rows; a ``group`` column keeps its groups whole.
        shape: of the rows. Of one label each has its exact share, and at least one text of it in train; several labels
            and spans are shared out by iterative stratification, numbers by quantile.
        settings: ``valid_fraction`` and ``test_fraction``, shares of the rows.
        seed: another seed, another split.
        which: the parts to split off.

    Returns:
        ``"train"`` and the parts of `which`, each in the order of the file.

    Raises:
        DataError: too few different texts (or groups) for the parts.
    """
    fractions = {"valid": settings.valid_fraction, "test": settings.test_fraction}
    shares = [fractions[name] for name in which]
    units = _units(records, shape, seed)
    counts, sizes = _strata(records, shape, units), np.bincount(units)
    things = "group" if records.has("group") else "different text"
    if counts.shape[0] < 1 + len(shares):
        raise DataError(
            f"{records.path}: {counted(counts.shape[0], things)} cannot be split into train, {' and '.join(which)}; "
            "add examples, or name files with data.valid=FILE and data.test=FILE"
        )
    divide = _iterative if shape.labels in ("several", "spans") or records.has("group") else _by_stratum
    parts = divide(counts, sizes, shares)
    for number, name in enumerate(which, start=1):
        if not (parts == number).any():
            raise DataError(
                f"{records.path}: too few examples of each label to split off {name}; add examples, or name a file "
                f"with data.{name}=FILE"
            )
    of_row = parts[units]
    in_train, wanted = float((of_row == TRAIN).mean()), 1 - sum(shares)
    if abs(in_train - wanted) > MAX_DEVIATION:
        note = (
            f"train has {in_train:.0%} of the rows, not {wanted:.0%}, as no {things} is divided ({counts.shape[0]:,} "
            "in all); name files with data.valid=FILE and data.test=FILE for other parts"
        )
        records = replace(records, notes=(*records.notes, note))
    tables = {
        name: take(records.table, np.nonzero(of_row == number)[0]) for number, name in enumerate(["train", *which])
    }
    return {name: records.with_rows(table) for name, table in tables.items()}


def fingerprint(records: Records) -> str:
    """SHA-256 over the identifiers in their order: the same rows have the same fingerprint."""
    digest = sha256()
    for identifier in records.table["id"].to_pylist():
        data = identifier.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def _units(records: Records, shape: RecordShape, seed: int) -> np.ndarray:
    """The unit of each row, int64 (n,); units are numbered in their random order."""
    # Questions on one context stay together, whatever article or group each is in.
    whole = alike_keys(records.table["text_pair"]) if shape.whole == "text_pair" else text_keys(records)
    unit = np.unique(whole, return_inverse=True)[1]
    if records.has("group"):
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        group = np.unique(column_keys(records.table["group"]), return_inverse=True)[1]
        size = unit.max(initial=-1) + 1 + group.max(initial=-1) + 1
        links = coo_array((np.ones(len(unit), dtype=np.int8), (unit, unit.max(initial=-1) + 1 + group)), (size, size))
        unit = connected_components(links, directed=False)[1][unit]
    given = not pc.all(pc.equal(records.table["id"].cast(TEXT), records.table["row"].cast(TEXT))).as_py()
    keys = mixed(column_keys(records.table["id"]) if given else text_keys(records, exact=True), salt=seed)
    lowest = np.full(unit.max(initial=-1) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(lowest, unit, keys)
    place = np.empty(len(lowest), dtype=np.int64)
    place[np.argsort(lowest)] = np.arange(len(lowest))
    return np.asarray(place[unit])


def _strata(records: Records, shape: RecordShape, units: np.ndarray) -> csr_array:
    """How many rows of each stratum (label, or quantile of a regression) each unit has: int (units, strata).

    Rows without a label form a stratum of their own, the last.
    """
    from scipy.sparse import coo_array

    names, rows, codes = label_codes(records)
    strata = len(names)
    if shape.labels == "number" and strata:
        values = np.array([float(name) for name in names])[codes]
        edges = np.quantile(values, np.linspace(0, 1, min(QUANTILES, 1 + len(values) // 10) + 1)[1:-1])
        codes, strata = np.searchsorted(edges, values, side="right"), len(edges) + 1
    unlabelled = np.setdiff1d(np.arange(len(records)), rows)
    rows = np.concatenate([rows, unlabelled])
    codes = np.concatenate([codes, np.full(len(unlabelled), strata)])
    size = (int(units.max(initial=-1)) + 1, strata + 1)
    return coo_array((np.ones(len(rows), dtype=np.int64), (units[rows], codes)), size).tocsr()


def _by_stratum(counts: csr_array, sizes: np.ndarray, shares: list[float]) -> np.ndarray:
    """The part of each unit, int64 (units,): exact shares of each stratum, as far as units are not divided.

    A unit belongs to the stratum of most of its rows. The first unit of each stratum stays in train.
    """
    stratum = _main_stratum(counts)
    order = np.argsort(stratum, kind="stable")
    groups = [members for members in np.split(order, np.flatnonzero(np.diff(stratum[order])) + 1) if len(members)]
    totals = np.array([int(sizes[members].sum()) for members in groups])
    room = totals - np.array([int(sizes[members[0]]) for members in groups])
    quotas = []
    for share in shares:
        quotas.append(_apportion(totals, room, max(1, round(share * int(totals.sum())))))
        room = room - quotas[-1]
    parts = np.full(len(sizes), TRAIN, dtype=np.int64)
    for at, members in enumerate(groups):
        left = [int(quota[at]) for quota in quotas]
        for unit in members[1:].tolist():
            if not any(left):
                break
            size = int(sizes[unit])
            part = next((number for number, free in enumerate(left) if size <= free), None)
            if part is not None:
                parts[unit] = part + 1
                left[part] -= size
    return parts


def _main_stratum(counts: csr_array) -> np.ndarray:
    """The column of the largest entry of each row (the first of equals); every row has an entry."""
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    order = np.lexsort((counts.indices, -counts.data, rows))
    return np.asarray(counts.indices[order][counts.indptr[:-1]], dtype=np.int64)


def _apportion(totals: np.ndarray, room: np.ndarray, wanted: int) -> np.ndarray:
    """`wanted` rows shared out in proportion to `totals`, at most `room` each: int64 (strata,), largest remainders."""
    ideal = wanted * totals / totals.sum()
    quota: np.ndarray = np.minimum(np.floor(ideal), room).astype(np.int64)
    order = np.lexsort((np.arange(len(totals)), -totals, -(ideal - np.floor(ideal))))
    while (missing := wanted - int(quota.sum())) > 0:
        free = order[quota[order] < room[order]][:missing]
        if not len(free):
            break
        quota[free] += 1
    return quota


def _iterative(counts: csr_array, sizes: np.ndarray, shares: list[float]) -> np.ndarray:
    """The part of each unit, int64 (units,), by iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011).

    The label with the fewest rows left is shared out first; each of its units goes to the part that still lacks most
    rows of that label, then to the part that lacks most rows. Large units come before small ones.
    """
    fractions = np.array([1 - sum(shares), *shares])
    columns = counts.tocsc()
    left = np.asarray(counts.sum(axis=0)).copy()
    lacking = left[:, None] * fractions  # (strata, parts)
    room = sizes.sum() * fractions
    parts = np.full(counts.shape[0], -1, dtype=np.int64)
    for _ in range(counts.shape[1]):
        stratum = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
        members = columns.indices[columns.indptr[stratum] : columns.indptr[stratum + 1]]
        members = members[parts[members] < 0]
        for unit in members[np.lexsort((members, -sizes[members]))].tolist():
            need = lacking[stratum]
            best = np.flatnonzero(need >= need.max() - 1e-9)
            part = int(best[np.argmax(room[best])])
            parts[unit] = part
            own = slice(counts.indptr[unit], counts.indptr[unit + 1])
            labels, numbers = counts.indices[own], counts.data[own]
            lacking[labels, part] -= numbers
            left[labels] -= numbers
            room[part] -= sizes[unit]
    for part in range(1, len(fractions)):
        in_train = np.flatnonzero(parts == TRAIN)
        if not (parts == part).any() and len(in_train) > 1:
            parts[in_train[np.argmin(sizes[in_train])]] = part
    return parts
