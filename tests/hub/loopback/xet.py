"""
Large files by Xet. The client's own backend for tests keeps them in a folder (a `local://` address), by its hashes;
a commit names a file by its sha256 alone, which the shards in that folder map to a hash.

Layout of a shard: https://github.com/huggingface/xet-core, mdb_shard: records of 48 bytes, a file's header (hash,
flags, number of entries), its entries, as many verifications and one record with the sha256 where the flags say so.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

from .state import Answer, Blob, json_answer


RECORD = 48
VERIFICATION, METADATA = 1 << 31, 1 << 30
END = b"\xff" * 32


@dataclass(frozen=True)
class XetBlob(Blob):
    """A file whose bytes the Xet client keeps, by `xet_hash`."""

    xet_hash: str = ""
    sha256: str = ""
    length: int = 0

    @property
    def oid(self) -> str:
        return self.sha256

    @property
    def size(self) -> int:
        return self.length


def token(folder: Path) -> Answer:
    """Which lets the client read or write in that folder, for good; Python reads the headers, hf_xet the body."""
    address, access, expiration = f"local://{folder}", "xet", 9999999999
    return json_answer(
        {"casUrl": address, "accessToken": access, "exp": expiration},
        headers={
            "X-Xet-Cas-Url": address,
            "X-Xet-Access-Token": access,
            "X-Xet-Token-Expiration": str(expiration),
        },
    )


def find(folder: Path, sha256: str) -> str | None:
    """The Xet hash of a file that the client has stored there."""
    for path in folder.rglob("*.mdb"):
        if (found := _files(path.read_bytes()).get(sha256)) is not None:
            return found
    return None


def _files(shard: bytes) -> dict[str, str]:
    """sha256 -> Xet hash."""
    files, place = {}, RECORD  # after the shard's own header
    while (key := shard[place : place + 32]) != END and len(key) == 32:
        flags, entries = struct.unpack_from("<II", shard, place + 32)
        place += RECORD * (1 + entries * (2 if flags & VERIFICATION else 1))
        if flags & METADATA:
            files[_hex(shard[place : place + 32])] = _hex(key)
            place += RECORD
    return files


def _hex(digest: bytes) -> str:
    """As Xet writes it: four numbers of 64 bits."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", digest))
