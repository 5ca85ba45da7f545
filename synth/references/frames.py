"""Messages between the parsing process and its parent: a JSON header and raw bytes, both of bounded length.

Nothing that can run is ever sent: no pickle, only JSON and the bytes of arrays.
"""

from __future__ import annotations

import json
import struct
from typing import IO, Any

from synth.references.plan import ReferenceError

LARGEST_HEADER = 256 << 20  # a plan names every file
_LENGTHS = struct.Struct("<QQ")


def write_frame(stream: IO[bytes], header: dict[str, Any], blob: bytes | memoryview = b"") -> None:
    """Write one message and flush it."""
    text = json.dumps(header, separators=(",", ":")).encode()
    stream.write(_LENGTHS.pack(len(text), len(blob)))
    stream.write(text)
    stream.write(blob)
    stream.flush()


def read_frame(stream: IO[bytes], largest_blob: int) -> tuple[dict[str, Any], bytes] | None:
    """Return the next message, or None at the end; raises ReferenceError if it is cut off, too large or no message."""
    lengths = stream.read(_LENGTHS.size)
    if not lengths:
        return None
    if len(lengths) < _LENGTHS.size:
        raise ReferenceError("the parsing process ended in the middle of a message.")
    header_size, blob_size = _LENGTHS.unpack(lengths)
    if header_size > LARGEST_HEADER or blob_size > largest_blob:
        raise ReferenceError("the parsing process sent a message that is larger than allowed.")
    text, blob = stream.read(header_size), stream.read(blob_size)
    if len(text) < header_size or len(blob) < blob_size:
        raise ReferenceError("the parsing process ended in the middle of a message.")
    try:
        header = json.loads(text)
    except ValueError as error:
        raise ReferenceError("the parsing process sent something that is no message.") from error
    if not isinstance(header, dict):
        raise ReferenceError("the parsing process sent something that is no message.")
    return header, blob
