"""The records of a zip file with stored members, as bytes, so that many writers can fill one file at known places.

The standard library writes members one after another. Here the size of each member is known beforehand, so each has
its place before any is read. Sizes and places beyond 4 GiB, and more than 65,535 members, take the records of Zip64.
"""

import struct

ELSEWHERE = 0xFFFFFFFF
"""In the place of a size: it stands in the Zip64 record."""
_SIZE_LIMIT = 0xFFFFFFFF
_COUNT_LIMIT = 0xFFFF

LOCAL = struct.Struct("<4s5H3I2H")
LOCAL_SIGNATURE = b"PK\x03\x04"
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")

_UNIX = 3 << 8
_VERSION, _VERSION_64 = 20, 45
_UTF8_NAME = 1 << 11
_STORED = 0
# The first day that a zip file can name: the same tree gives the same bytes, whenever it was written.
_TIME, _DATE = 0, 1 << 5 | 1
_FILE_MODE = 0o100644 << 16
_FOLDER_MODE = 0o040755 << 16 | 0x10  # the second is the mark of DOS


def local_header_size(name: bytes, size: int) -> int:
    """Return how many bytes stand before the content of a member."""
    return LOCAL.size + len(name) + len(_long_sizes(size))


def local_header(name: bytes, size: int, crc: int) -> bytes:
    """Return what stands before the content of a stored member."""
    extra = _long_sizes(size)
    short = _short(size)
    version = _VERSION_64 if extra else _VERSION
    fixed = (version, _UTF8_NAME, _STORED, _TIME, _DATE, crc, short, short, len(name), len(extra))
    return LOCAL.pack(LOCAL_SIGNATURE, *fixed) + name + extra


def central_entry(name: bytes, size: int, crc: int, offset: int) -> bytes:
    """Return the entry of a stored member in the directory at the end of the file; a folder's name ends in ``/``."""
    longs = [size, size] if size >= _SIZE_LIMIT else []
    longs += [offset] if offset >= _SIZE_LIMIT else []
    extra = struct.pack(f"<2H{len(longs)}Q", 1, 8 * len(longs), *longs) if longs else b""
    short, place = _short(size), _short(offset)
    version = _VERSION_64 if longs else _VERSION
    mode = _FOLDER_MODE if name.endswith(b"/") else _FILE_MODE
    fixed = (_UNIX | version, version, _UTF8_NAME, _STORED, _TIME, _DATE, crc, short, short, len(name), len(extra))
    return _CENTRAL.pack(b"PK\x01\x02", *fixed, 0, 0, 0, mode, place) + name + extra


def end_records(count: int, offset: int, size: int) -> bytes:
    """Return the end of the file: how many members, and where their directory is and how long."""
    end = b""
    if count >= _COUNT_LIMIT or max(offset, size) >= _SIZE_LIMIT:
        own = _END_64.size - 12  # counted from behind this number
        versions = (_UNIX | _VERSION_64, _VERSION_64)
        end = _END_64.pack(b"PK\x06\x06", own, *versions, 0, 0, count, count, size, offset)
        end += _LOCATOR_64.pack(b"PK\x06\x07", 0, offset + size, 1)
    few, place, length = min(count, _COUNT_LIMIT), _short(offset), _short(size)
    return end + _END.pack(b"PK\x05\x06", 0, 0, few, few, length, place, 0)


def _short(value: int) -> int:
    return value if value < _SIZE_LIMIT else ELSEWHERE


def _long_sizes(size: int) -> bytes:
    return struct.pack("<2H2Q", 1, 16, size, size) if size >= _SIZE_LIMIT else b""
