"""The first directory of a TIFF file, of which EXIF is one too: TIFF 6.0, section 2, and BigTIFF."""

import struct
from collections.abc import Iterator

_XMP = 700
_MOST_XMP = 1 << 20  # bytes that are searched
_MOST_ENTRIES = 1 << 16
_UNDEFINED = 7  # bytes of any meaning
_FORMS = {1: "B", 3: "H", 4: "I", 16: "Q", _UNDEFINED: "B"}


def whole_numbers(data: bytes) -> dict[int, int]:
    """Return the first value of each tag that is a whole number.

    Raises:
        struct.error: The directory lies behind the end of the file.
    """
    tags: dict[int, int] = {}
    for tag, type_, form, _, place in _entries(data):
        if type_ != _UNDEFINED and tag not in tags:
            (tags[tag],) = struct.unpack_from(form, data, place)
    return tags


def xmp_packet(data: bytes) -> bytes:
    """Return the beginning of the XMP (its part 3, 1.1.3); empty where there is none.

    Raises:
        struct.error: The directory lies behind the end of the file.
    """
    packets = (data[at : at + min(count, _MOST_XMP)] for tag, _, _, count, at in _entries(data) if tag == _XMP)
    return next(packets, b"")


def _entries(data: bytes) -> Iterator[tuple[int, int, str, int, int]]:
    """Yield the entries whose first value is there: tag, type, form of a value, number of values, place of one."""
    order = "<" if data.startswith(b"II") else ">"
    big = struct.unpack_from(f"{order}H", data, 2) == (43,)
    start_form, count_form, entry_form = ("Q", "Q", "HHQ") if big else ("I", "H", "HHI")
    inline, offset_form = (8, f"{order}Q") if big else (4, f"{order}I")
    (at,) = struct.unpack_from(order + start_form, data, 8 if big else 4)
    (entries,) = struct.unpack_from(order + count_form, data, at)
    at += struct.calcsize(order + count_form)
    for _ in range(min(entries, _MOST_ENTRIES)):
        tag, type_, count = struct.unpack_from(order + entry_form, data, at)
        at += struct.calcsize(order + entry_form)
        if type_ in _FORMS and count:
            form = order + _FORMS[type_]
            size = struct.calcsize(form)
            place = at if count * size <= inline else struct.unpack_from(offset_form, data, at)[0]
            if place + size <= len(data):
                yield tag, type_, form, count, place
        at += inline
