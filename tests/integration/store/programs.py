"""Real model stores on loopback: an S3 gateway and a Google Cloud Storage server, each over a directory.

Built from Go modules if missing; they end with the process that started them.
"""

import json
from pathlib import Path
from typing import Any, Final

import botocore.config
import botocore.session
import httpx

from e2e.cluster import paths, tools
from e2e.cluster.control_plane import free_ports
from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import Command, Leash, last_lines, wait_until

_START_SECONDS: Final = 30.0
ACCESS: Final = "tests"
SECRET: Final = "not-a-secret"


class S3Gateway:
    """versitygw: SigV4, ranges, multipart uploads and ETags as Amazon's."""

    def __init__(self, directory: Path) -> None:
        tools.ensure("versitygw")
        (self.port,) = free_ports(1)
        (directory / "buckets").mkdir(parents=True)
        argv = (
            str(paths.tool("versitygw")), "--access", ACCESS, "--secret", SECRET, "--port", f"127.0.0.1:{self.port}", "--quiet",
            "posix", str(directory / "buckets"),
        )  # fmt: skip
        self._leash = Leash()
        _start(self._leash, Command("versitygw", argv), directory / "versitygw.log", url=self.url)
        self.client: Any = botocore.session.Session().create_client(
            "s3", region_name="us-east-1", endpoint_url=self.url, aws_access_key_id=ACCESS, aws_secret_access_key=SECRET,
            config=botocore.config.Config(s3={"addressing_style": "path"}),
        )  # fmt: skip
        self.client.create_bucket(Bucket="models")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, *, port: int | None = None, secret: str = SECRET) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
            "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1",
        }  # fmt: skip

    def put(self, prefix: str, files: dict[str, bytes]) -> None:
        for path, data in files.items():
            self.client.put_object(Bucket="models", Key=f"{prefix}/{path}", Body=data)

    def put_in_parts(self, key: str, pieces: list[bytes]) -> None:
        name = {"Bucket": "models", "Key": key}
        name["UploadId"] = self.client.create_multipart_upload(**name)["UploadId"]
        parts = []
        for number, data in enumerate(pieces, start=1):
            answer = self.client.upload_part(**name, PartNumber=number, Body=data)
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        self.client.complete_multipart_upload(**name, MultipartUpload={"Parts": parts})

    def close(self) -> None:
        self._leash.close()


class GoogleServer:
    """fake-gcs-server: the JSON API with MD5s, CRC32Cs and generations. It asks for no credentials."""

    def __init__(self, directory: Path) -> None:
        tools.ensure("fake-gcs-server")
        (self.port,) = free_ports(1)
        root = directory / "buckets"
        root.mkdir(parents=True)
        argv = (
            str(paths.tool("fake-gcs-server")), "-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port),
            "-backend", "filesystem", "-filesystem-root", str(root), "-public-host", f"127.0.0.1:{self.port}",
        )  # fmt: skip
        self._leash = Leash()
        _start(self._leash, Command("fake-gcs-server", argv), directory / "fake-gcs-server.log", url=f"{self.url}/storage/v1/b")
        self._client = httpx.Client(base_url=self.url)
        self._client.post("/storage/v1/b", json={"name": "models"}).raise_for_status()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, *, port: int | None = None, credentials: dict[str, str] | None = None) -> dict[str, str]:
        given = {"GOOGLE_CREDENTIALS": json.dumps(credentials)} if credentials else {}
        return {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port or self.port}", **given}

    def put(self, prefix: str, files: dict[str, bytes]) -> None:
        for path, data in files.items():
            params = {"uploadType": "media", "name": f"{prefix}/{path}"}
            self._client.post("/upload/storage/v1/b/models/o", params=params, content=data).raise_for_status()

    def close(self) -> None:
        self._client.close()
        self._leash.close()


def _start(leash: Leash, command: Command, log: Path, *, url: str) -> None:
    child = leash.start(command, log)
    wait_until(lambda: _answers(url) or not child.running(), seconds=_START_SECONDS)
    if not child.running() or not _answers(url):
        raise ClusterError(f"{command.argv[0]} did not start:\n{last_lines(log)}")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code < 500
    except httpx.TransportError:
        return False
