"""Decode lossless JPEG (process 14), the compression of most older CT and MR archives.

The decoders that ship as wheels either have no permissive licence or bring the process down on a damaged stream; this
one checks every step. One component, 2 to 16 bits, all seven predictors, restart intervals.

Source: ITU-T T.81, Annexes B (markers), C and F.2.2 (Huffman codes), H (prediction).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice

import numpy as np
from numba import njit

from medssl.sources.record import BadRecord

START, END, SCAN, HUFFMAN, RESTART, LOSSLESS = 0xD8, 0xD9, 0xDA, 0xC4, 0xDD, 0xC3
# Frame headers: all of C0 to CF but Huffman tables, the extension and arithmetic tables; F7 is that of JPEG-LS.
FRAMES = (set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}


def decode(stream: bytes) -> np.ndarray:
    """Return the samples of one stream as uint16 ``(rows, columns)``.

    Raises:
        BadRecord: ``unreadable`` for a damaged stream, ``unsupported`` for more than one component.
    """
    tables: dict[int, np.ndarray] = {}
    interval, frame, start = 0, b"", 0
    for marker, body, end in segments(stream):
        if marker == HUFFMAN:
            tables.update(_huffman_tables(body))
        elif marker == RESTART and len(body) == 2:
            interval = int.from_bytes(body, "big")
        elif marker in FRAMES:
            frame = body if marker == LOSSLESS else b""
        elif marker == SCAN:
            scan, start = body, end
    if not start or len(frame) < 9 or len(scan) < 6:
        raise damaged()
    precision, rows, columns, components = struct.unpack(">B2HB", frame[:6])
    if components != 1 or scan[0] != 1:
        raise BadRecord("unsupported", "the compressed image has several components")
    table, predictor, shift = tables.get(scan[2] >> 4), scan[3], scan[5] & 15
    if table is None or predictor not in range(1, 8) or not 2 <= precision <= 16 or shift >= precision:
        raise damaged()
    # An interval is a whole number of rows (H.1.1), and each sample takes at least one bit.
    if not rows or not columns or interval % columns or rows * columns > 8 * (len(stream) - start):
        raise damaged()
    values = np.zeros((rows, columns), dtype=np.uint16)
    height, first = interval // columns or rows, 0
    for part in _parts(stream[start:]):
        last = min(first + height, rows)
        data = np.frombuffer(part, dtype=np.uint8)
        if first == last or not _decode_rows(data, table, values[first:last], predictor, 1 << (precision - shift - 1)):
            raise damaged()
        first = last
    if first != rows or int(values.max()) >= 1 << (precision - shift):
        raise damaged()
    return values << shift


def damaged() -> BadRecord:
    """Return the refusal of a stream that breaks its format."""
    return BadRecord("unreadable", "the compressed pixels are damaged or cut off")


def segments(stream: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield marker, content and end of each segment of a JPEG or JPEG-LS stream, up to the first scan header."""
    if stream[:2] != bytes((0xFF, START)):
        raise damaged()
    at = 2
    while at + 4 <= len(stream):
        if stream[at : at + 2] == b"\xff\xff":  # a fill byte
            at += 1
            continue
        marker, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4], "big")
        end = at + 2 + length
        if stream[at] != 0xFF or length < 2 or end > len(stream):
            raise damaged()
        yield marker, stream[at + 4 : end], end
        if marker == SCAN:
            return
        at = end
    raise damaged()


def _huffman_tables(body: bytes) -> dict[int, np.ndarray]:
    """Return by number the tables of one segment: 16 bits of the stream -> code length << 8 | bits of difference."""
    tables = {}
    while body:
        counts = body[1:17]
        total = sum(counts)
        if len(body) < 17 + total:
            raise damaged()
        table = np.zeros(1 << 16, dtype=np.int32)
        code, symbols = 0, iter(body[17 : 17 + total])
        for length, count in enumerate(counts, start=1):
            for symbol in islice(symbols, count):
                if code >= 1 << length or symbol > 16:
                    raise damaged()
                table[code << (16 - length) : (code + 1) << (16 - length)] = length << 8 | symbol
                code += 1
            code <<= 1
        tables[body[0] & 15] = table
        body = body[17 + total :]
    return tables


def _parts(data: bytes) -> Iterator[bytes]:
    """Yield the coded bits between restart markers, without stuffed zeros, up to the end marker."""
    begin = at = 0
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        marker = data[at + 1]
        if marker == 0:
            at += 2
        elif marker == 0xFF:
            at += 1
        elif marker == END or 0xD0 <= marker <= 0xD7:
            yield data[begin:at].rstrip(b"\xff").replace(b"\xff\0", b"\xff") if begin < at else b""
            if marker == END:
                return
            begin = at = at + 2
        else:
            raise damaged()
    raise damaged()


@njit(cache=True)
def _decode_rows(data, table, values, predictor, default):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fill ``values`` of one restart interval; return whether the bits were valid and enough."""
    rows, columns = values.shape
    bits, count, at = np.int64(0), np.int64(0), np.int64(0)
    for y in range(rows):
        for x in range(columns):
            while count < 32:
                bits = ((bits & 0xFFFFFFFF) << 8) | (np.int64(data[at]) if at < data.size else np.int64(0))
                at += 1
                count += 8
            entry = np.int64(table[(bits >> (count - 16)) & 0xFFFF])
            length, size = entry >> 8, entry & 255
            if length == 0:
                return False
            count -= length
            difference = np.int64(32768)  # of size 16, which has no bits of its own
            if size < 16:
                count -= size
                difference = (bits >> count) & ((1 << size) - 1)
                if size > 0 and difference < 1 << (size - 1):
                    difference -= (1 << size) - 1
            left = np.int64(values[y, x - 1]) if x > 0 else np.int64(0)
            above = np.int64(values[y - 1, x]) if y > 0 else np.int64(0)
            corner = np.int64(values[y - 1, x - 1]) if x > 0 and y > 0 else np.int64(0)
            if x == 0 and y == 0:
                guess = np.int64(default)
            elif x == 0 or y == 0:
                guess = left + above  # the one that is there
            else:
                slope, rise, middle = above - corner, left - corner, (left + above) >> 1
                guesses = (left, above, corner, left + slope, left + (slope >> 1), above + (rise >> 1), middle)
                guess = guesses[predictor - 1]
            values[y, x] = (guess + difference) & 0xFFFF
    return 8 * at - count <= 8 * data.size
