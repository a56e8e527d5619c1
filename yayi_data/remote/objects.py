"""The objects of a packed folder in S3-compatible storage: listed, compared, uploaded and removed."""

import base64
from pathlib import Path

from yayi_data.remote.failures import reaching
from yayi_data.remote.files import filesystem
from yayi_data.remote.urls import s3_prefix

_PART = 50 << 20  # s3fs sends a file in parts from twice as many bytes on


class Objects:
    """The objects under an S3 prefix: listed, uploaded and removed by their names relative to it."""

    def __init__(self, url: str) -> None:
        self.url = s3_prefix(url)
        self._files, self._path = filesystem(self.url)

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every object by its name; empty where there is none."""
        with reaching(self.url, "listed"):
            self._files.invalidate_cache()
            found = self._files.find(self._path, detail=True)
        start = len(self._path) + 1
        return {
            path[start:]: info["size"] for path, info in found.items() if path.startswith(f"{self._path}/")
        }

    def upload(self, path: Path, name: str, sha256: str) -> None:
        """Upload a file; the server is told its sha256, and refuses other bytes where it checks that.

        Files of 100 MB and more go in parts, for which the backend sends checksums of its own.
        """
        told: dict[str, str] = {}
        if path.stat().st_size < 2 * _PART:
            told = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": _base64(sha256)}
        with reaching(f"{self.url}/{name}", "written"):
            self._files.put_file(str(path), f"{self._path}/{name}", chunksize=_PART, **told)

    def holds(self, name: str, size: int, sha256: str) -> bool | None:
        """Tell whether an object has this size and hash; None where the server keeps no hash to compare."""
        bucket, _, prefix = self._path.partition("/")
        with reaching(f"{self.url}/{name}", "read"):
            try:
                facts = self._files.call_s3(
                    "head_object", Bucket=bucket, Key=f"{prefix}/{name}", ChecksumMode="ENABLED"
                )
            except FileNotFoundError:
                return False
        if facts["ContentLength"] != size:
            return False
        there = facts.get("ChecksumSHA256")
        return None if there is None or "-" in there else bool(there == _base64(sha256))

    def remove(self, name: str) -> None:
        """Remove an object."""
        with reaching(f"{self.url}/{name}", "removed"):
            self._files.rm_file(f"{self._path}/{name}")


def _base64(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()
