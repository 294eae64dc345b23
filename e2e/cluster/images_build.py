"""Builds the shipped Dockerfiles with buildah, without Docker and without a daemon, and pushes the results.

Its storage stands in the cache, away from any other container tool's, and keeps the newest build of each image, so that a
change of code builds on the heavy layers that are there. How this machine reaches PyPI (index, proxy, certificates) goes in
as build secrets: present while a step runs, in no layer and no history.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.cluster import images_base
from e2e.cluster.errors import ClusterError
from e2e.cluster.images_inputs import Recipe
from e2e.cluster.images_run import run
from e2e.cluster.progress import Step

PREFIX: Final = "localhost/tokenfleet"
_STEP: Final = re.compile(r"^STEP (?P<number>\d+)/(?P<total>\d+): (?P<verb>\w+)")
_PIP: Final = re.compile(r"^\s*(Downloading|Installing|Collecting) (?P<what>[^\s(]*)")
_CERTIFICATES: Final = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_BUNDLES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_PIP_SETTINGS: Final = ("extra-index-url", "index-url", "proxy", "retries", "timeout", "trusted-host")


@dataclass(frozen=True, slots=True)
class Builder:
    """buildah with a storage of its own."""

    directory: Path
    buildah: str

    def has(self, reference: str) -> bool:
        return self._ask("inspect", "--type", "image", reference).returncode == 0

    def ensure_base(
        self, *, mmdebstrap: str, current: Step, name: str = "base", packages: tuple[str, ...] = images_base.PACKAGES
    ) -> str:
        """The Debian base, or a Debian by another name with other packages."""
        reference = f"{PREFIX}/{name}:{images_base.key(packages)}"
        if not self.has(reference):
            current.note(f"a Debian: {name}")
            with tempfile.TemporaryDirectory(dir=self.directory) as scratch:
                images_base.make(Path(scratch) / "base.tar", mmdebstrap=mmdebstrap, current=current, packages=packages)
                (Path(scratch) / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
                arguments = ("--isolation", "chroot", "-t", reference, scratch)
                self._run("bud", *arguments, what=f"importing {name}", current=current)
            self._forget_others(name, keep=reference)
        return reference

    def build(self, recipe: Recipe, context: Path, *, tag: str, base: str, current: Step) -> str:
        """Build from the context, a snapshot of the recipe's inputs whose tag is given; returns the local reference."""
        reference = f"{PREFIX}/{recipe.name}:{tag}"
        if self.has(reference):
            return reference
        self._remove_leftovers()
        with _secrets() as secrets:
            self._run(
                "bud", "--isolation", "chroot", "--network", "host", "--layers", *secrets, "--build-arg", f"BASE={base}",
                "-f", str(context / recipe.dockerfile), "-t", reference, str(context),
                what=f"building {recipe.dockerfile}", current=current,
            )  # fmt: skip
        self._forget_others(recipe.name, keep=reference)
        return reference

    def push(self, reference: str, destination: str, *, nearby: bool, current: Step) -> None:
        """To a registry on this machine over plain HTTP, compressed as quickly as can be; elsewhere as is usual."""
        current.note(f"pushing to {destination.partition('/')[0]}")
        options = ("--tls-verify=false", "--compression-format", "zstd", "--compression-level", "1") if nearby else ()
        target = f"docker://{destination}"
        self._run("push", *options, reference, target, what=f"pushing {destination}", current=current)

    def _remove_leftovers(self) -> None:
        """Working containers of a build that was killed."""
        self._ask("rm", "--all")

    def _forget_others(self, name: str, *, keep: str) -> None:
        """Older builds: their layers would only fill the disk."""
        for other in self.builds(name):
            if other != keep:
                self._ask("rmi", other)

    def builds(self, name: str) -> list[str]:
        """The references of all builds of that image that are still there."""
        listed = json.loads(self._ask("images", "--json").stdout or "[]")
        references = [reference for image in listed for reference in image.get("names") or []]
        return [reference for reference in references if reference.startswith(f"{PREFIX}/{name}:")]

    def _run(self, command: str, *arguments: str, what: str, current: Step) -> None:
        run([*self._buildah(), command, *arguments], what=what, current=current, note=_progress)

    def _ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._buildah(), *arguments], capture_output=True, text=True, check=False)

    def _buildah(self) -> list[str]:
        storage = ["--root", str(self.directory / "storage"), "--runroot", str(self.directory / "run")]
        return [self.buildah, *storage, "--storage-driver", "overlay"]

    def check(self) -> None:
        """Raise where buildah cannot work here at all."""
        self.directory.mkdir(parents=True, exist_ok=True)
        asked = self._ask("images", "--quiet")
        if asked.returncode != 0:
            raise ClusterError(
                f"buildah cannot use {self.directory} ({asked.stderr.strip().splitlines()[-1:]}). It needs root, and a file "
                "system that overlayfs can stand on: set TOKENFLEET_CACHE to a directory on ext4 or xfs."
            )


def _progress(line: str) -> str | None:
    if match := _STEP.match(line):
        return f"step {match['number']} of {match['total']}: {match['verb']}"
    if match := _PIP.match(line):
        what = match["what"].rpartition("/")[2]
        return "pip: installing" if match[1] == "Installing" else f"pip: {what}"
    return None


@contextlib.contextmanager
def _secrets() -> Iterator[list[str]]:
    """buildah's options for this machine's way to PyPI."""
    with tempfile.TemporaryDirectory() as directory:
        configuration = Path(directory) / "pip.conf"
        configuration.touch(mode=0o600)
        bundle = _certificates()
        settings = {"cert": "/run/secrets/ca.pem"} if bundle else {}
        settings |= _pip_settings()
        configuration.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in sorted(settings.items())))
        options = ["--secret", f"id=pip,src={configuration}"]
        yield [*options, "--secret", f"id=ca,src={bundle}"] if bundle else options


def _certificates() -> str | None:
    candidates = [os.environ.get(name, "") for name in _CERTIFICATES] + list(_BUNDLES)
    return next((path for path in candidates if path and Path(path).is_file()), None)


def _pip_settings() -> dict[str, str]:
    """What pip's files and PIP_ variables say here, of that which matters inside a build."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    found: dict[str, str] = {}
    for line in listed.stdout.splitlines():  # the environment's come last, and win, as they do in pip
        name, _, value = line.partition("=")
        setting = name.rpartition(".")[2]
        if setting in _PIP_SETTINGS:
            found[setting] = value.strip("'\"").replace("\\n", "\n    ")
    return found
