"""Events as bytes: Avro behind the registry's five-byte header, and Postgres' binary formats. All
columns but `kpi` have one width, so whole arrays are made at once."""

import numpy as np
import numpy.typing as npt

from bench.events import KPIS, Bytes, Part, device_name

Rows = npt.NDArray[np.int64]

AVRO_BYTES = 78
_POSTGRES_EPOCH_MS = 946_684_800_000
_HEX = np.array([list(f"{byte:02x}".encode()) for byte in range(256)], dtype=np.uint8)
_DEVICES = np.array([list(device_name(n).encode()) for n in range(100_000)], dtype=np.uint8)
_ZONES = np.array([list(f"zone-{n:02d}".encode()) for n in range(100)], dtype=np.uint8)
_KPIS = np.array([list(kpi.ljust(11).encode()) for kpi in KPIS], dtype=np.uint8)
_KPI_BYTES = np.array([len(kpi) for kpi in KPIS])


def avro(part: Part, rows: Rows, schema_id: int) -> Bytes:
    """One row of AVRO_BYTES for each event, not truncated."""
    count = len(rows)
    header = np.frombuffer(b"\0" + schema_id.to_bytes(4, "big"), dtype=np.uint8)
    columns = [
        np.tile(header, (count, 1)),
        _constant(count, 36 * 2),
        _hyphenated(part.ids[rows]),
        _constant(count, 12 * 2),
        _DEVICES[part.device[rows]],
        _constant(count, 7 * 2),
        _ZONES[part.zone[rows]],
        _varint(part.ts[rows]),
        (part.kpi[rows] * 2).astype(np.uint8)[:, None],
        _bytes_of(part.value[rows].astype("<f8")),
    ]
    encoded = np.hstack(columns)
    assert encoded.shape == (count, AVRO_BYTES)
    return encoded


def copy_binary(part: Part, rows: Rows) -> bytes:
    """The rows for COPY ... (FORMAT binary), without header and trailer."""
    pieces = [_bytes_of(np.full(len(rows), 6, dtype=">i2"))]
    used = [np.ones((len(rows), 2), dtype=bool)]
    for piece, piece_used in _fields(part, rows):
        pieces.append(piece)
        used.append(piece_used)
    return np.hstack(pieces)[np.hstack(used)].tobytes()


def arrays(part: Part, rows: Rows) -> list[bytes]:
    """A binary array for each column, for UNNEST."""
    encoded = []
    for oid, (piece, used) in zip((2950, 25, 25, 1184, 25, 701), _fields(part, rows), strict=True):
        header = np.array([1, 0, oid, len(rows), 1], dtype=">i4").tobytes()
        encoded.append(header + piece[used].tobytes())
    return encoded


def _fields(part: Part, rows: Rows) -> list[tuple[Bytes, npt.NDArray[np.bool_]]]:
    """Each column with the length in front, and which bytes of it count."""
    micros = (part.ts[rows] - _POSTGRES_EPOCH_MS) * 1000
    columns = [
        part.ids[rows],
        _DEVICES[part.device[rows]],
        _ZONES[part.zone[rows]],
        _bytes_of(micros.astype(">i8")),
        _KPIS[part.kpi[rows]],
        _bytes_of(part.value[rows].astype(">f8")),
    ]
    fields = []
    for index, column in enumerate(columns):
        width = np.full(len(rows), column.shape[1])
        if index == 4:
            width = _KPI_BYTES[part.kpi[rows]]
        length = _bytes_of(width.astype(">i4"))
        used = np.arange(-4, column.shape[1])[None, :] < width[:, None]
        fields.append((np.hstack([length, column]), used))
    return fields


def _constant(count: int, value: int) -> Bytes:
    return np.full((count, 1), value, dtype=np.uint8)


def _bytes_of(numbers: npt.NDArray) -> Bytes:
    return np.ascontiguousarray(numbers).view(np.uint8).reshape(len(numbers), -1)


def _hyphenated(ids: Bytes) -> Bytes:
    text = np.full((len(ids), 36), ord("-"), dtype=np.uint8)
    places = [n for n in range(36) if n not in (8, 13, 18, 23)]
    text[:, places] = _HEX[ids].reshape(len(ids), 32)
    return text


def _varint(numbers: npt.NDArray[np.int64]) -> Bytes:
    """Zigzag, in six bytes: enough for milliseconds of this century, and none of them is shorter."""
    zigzag = numbers * 2
    assert len(zigzag) == 0 or (zigzag.min() >= 1 << 35 and zigzag.max() < 1 << 42)
    groups = np.stack([zigzag >> (7 * n) & 0x7F for n in range(6)], axis=1).astype(np.uint8)
    groups[:, :5] |= 0x80
    return groups
