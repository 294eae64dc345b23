"""Fetches one model: what is there, what the store has, wait for whoever fetches it already, download, install.

Each step leaves the cache as good as it was or better, so that any of them may be the last. Nothing of the network is asked
where a pinned revision is complete already.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.say import say
from tokenfleet_engine.store import lock, space
from tokenfleet_engine.store.cache import Cache, Manifest, StoredFile, failure_of
from tokenfleet_engine.store.download import COMMIT_SECONDS, Download
from tokenfleet_engine.store.listing import Checksum, Listing, RemoteFile, check_paths
from tokenfleet_engine.store.parts import Parts, arrived_bytes
from tokenfleet_engine.store.patience import Patience
from tokenfleet_engine.store.progress import INTERVAL, Progress, readable
from tokenfleet_engine.store.remote import Store
from tokenfleet_engine.store.selection import choose
from tokenfleet_engine.store.sources import Source

LISTING_SECONDS: Final = 60.0
CACHED_LISTING_SECONDS: Final = 15.0
"""How long a store is asked for a revision that is not needed to start."""
WAITING_SECONDS: Final = 10.0
_KEPT: Final = "What has arrived stays for the next start."
QUESTIONS: Final = 16
"""That a store is asked at the same time for the checksums of single files."""


@dataclass(frozen=True, slots=True)
class Settings:
    everything: bool = False
    streams: int = 8
    piece_bytes: int = 32 << 20
    patience_seconds: float = 300.0
    commit_seconds: float = COMMIT_SECONDS


@dataclass(frozen=True, slots=True)
class Fetch:
    """One model, from its source into the cache."""

    source: Source
    cache: Cache
    open_store: Callable[[Source], Store]
    settings: Settings
    field: str = "spec.model.revision"
    """Where a user pins this one."""

    async def run(self) -> None:
        """Leave the destination complete, or raise EngineFailure."""
        ready = self.cache.current(self.source, everything=self.settings.everything)
        if ready is not None and self.source.pinned:
            self._say_ready(ready)
            return
        store = self.open_store(self.source)
        try:
            listing = await self._resolve(store, ready)
            if listing is not None:
                await self._bring(store, listing)
        except OSError as error:
            raise failure_of(error, self.cache.root) from error
        finally:
            await store.close()

    async def _resolve(self, store: Store, ready: Manifest | None) -> Listing | None:
        """What to fetch; None where the store is away and what is there will do."""
        seconds = min(self.settings.patience_seconds, CACHED_LISTING_SECONDS if ready else LISTING_SECONDS)
        try:
            listing = await Patience(host=store.host, seconds=seconds, kept=_KEPT).insist(store.listing)
        except EngineFailure as failure:
            if ready is None or failure.reason != contract.REASON_MODEL_STORE_UNREACHABLE:
                raise
            say(f"warning: {failure.message}")
            say(f"warning: {self.source} starts from the cache, at {ready.revision}; there may be a newer one")
            self._say_ready(ready)
            return None
        if self.source.pinned and self.source.revision != listing.revision:
            raise EngineFailure(
                contract.REASON_MODEL_INVALID,
                f"{self.source} is not what was pinned: its files make {listing.revision}, and {self.source.revision} was "
                "asked for. Somebody changed them; put the old files back, or pin the new revision if it is right.",
            )
        check_paths(listing.files, source=str(self.source))
        say(f"{self.source} is at revision {listing.revision}")
        if not self.source.pinned:
            say(f"to keep it there, pin it by {self.field}: {listing.revision}")
        return listing

    async def _bring(self, store: Store, listing: Listing) -> None:
        wanted = choose(listing.files, source=str(self.source), everything=self.settings.everything)
        version = self.cache.version(self.source, listing.revision, everything=self.settings.everything)
        self.cache.prepare()
        if not self._linked(version, wanted):
            total = sum(file.size for file in wanted)
            async with lock.held(self.cache.locks / version, waiting=self._waiting(version, total)) as waited:
                if not (waited and self._linked(version, wanted)):
                    await self._fetch(store, listing.revision, wanted, version)

    def _linked(self, version: str, wanted: tuple[RemoteFile, ...]) -> bool:
        there = self.cache.complete(version)
        if there is None or not there.covers(wanted):
            return False
        self.cache.link(self.source, version)
        self._say_ready(there)
        return True

    async def _fetch(self, store: Store, revision: str, wanted: tuple[RemoteFile, ...], version: str) -> None:
        parts = Parts(self.cache.parts / version, wanted)
        self._adopt(parts, version)
        space.check(self.cache, parts)
        patience = Patience(host=store.host, seconds=self.settings.patience_seconds, kept=_KEPT)
        progress = Progress(total=sum(file.size for file in wanted), done=parts.done())
        say(f"{len(wanted)} files, {readable(progress.total)}; {readable(progress.done)} of it are there already")
        known = await _checksums(store, wanted, patience)
        await self._download(Download(
            store=store, parts=parts, checksums=known, patience=patience, progress=progress,
            streams=self.settings.streams, piece_bytes=self.settings.piece_bytes,
            commit_seconds=self.settings.commit_seconds,
        ))  # fmt: skip
        files = tuple(StoredFile(file.path, file.size, file.tag, parts.verified[file.path]) for file in wanted)
        manifest = Manifest(source=self.source.url, revision=revision, files=files)
        await asyncio.to_thread(self._install, parts, version, manifest)
        say(_verified(manifest))
        at = self.cache.destination(self.source)
        end = contract.progress(done=progress.total, total=progress.total, left=0)
        say(f"{self.source} is complete at {at}: {progress.summary()} {end}")

    def _adopt(self, parts: Parts, version: str) -> None:
        """Take what an older version of the same model has in common with this one; from a damaged one, to verify it again."""
        for name, manifest in self.cache.versions_of(self.source.url):
            intact = name != version and self.cache.complete(name) is not None
            there = {(file.path, file.size, file.tag): file for file in manifest.files}
            for file in parts.wanted.values():
                same = there.get((file.path, file.size, file.tag))
                if same is None or not file.tag or parts.arrived[file.path].total():
                    continue
                at = self.cache.models / name / file.path
                if at.is_file() and at.stat().st_size == file.size:
                    parts.adopt(file, at, verified=same.verified if intact else None)

    async def _download(self, download: Download) -> None:
        async def report() -> None:
            while True:
                await asyncio.sleep(INTERVAL)
                what = "fetching" if download.progress.done < download.progress.total else "verifying"
                say(download.progress.line(f"{what} {self.source}"))

        reporting = asyncio.create_task(report())
        try:
            await download.run()
        finally:
            reporting.cancel()

    def _install(self, parts: Parts, version: str, manifest: Manifest) -> None:
        files = parts.finish()
        self.cache.install(version, files, manifest, aside=parts.folder / "damaged")
        self.cache.link(self.source, version)
        parts.remove()

    def _waiting(self, version: str, total: int) -> Callable[[str, int], None]:
        every = round(WAITING_SECONDS / lock.LOOK)

        def waiting(holder: str, looks: int) -> None:
            if looks % every == 0:
                done = min(total, arrived_bytes(self.cache.parts / version))
                end = contract.progress(done=done, total=total, left=None)
                say(f"another pod fetches it: {self.source}, {holder}, {readable(done)} of {readable(total)} {end}")

        return waiting

    def _say_ready(self, manifest: Manifest) -> None:
        at = self.cache.destination(self.source)
        end = contract.progress(done=manifest.size, total=manifest.size, left=0)
        say(f"{self.source} is complete at {at}: {len(manifest.files)} files at {manifest.revision} {end}")


async def _checksums(store: Store, files: tuple[RemoteFile, ...], patience: Patience) -> dict[str, Checksum | None]:
    limit = asyncio.Semaphore(QUESTIONS)

    async def ask(file: RemoteFile) -> Checksum | None:
        async with limit:
            return await patience.insist(lambda: store.checksum(file))

    return dict(zip((file.path for file in files), await asyncio.gather(*map(ask, files)), strict=True))


def _verified(manifest: Manifest) -> str:
    ways = sorted({file.verified for file in manifest.files})
    counts = ", ".join(f"{sum(file.verified == way for file in manifest.files)} by {way}" for way in ways)
    return f"verified {len(manifest.files)} files: {counts}"
