"""Which of the stores a source is in. Each one's libraries are loaded where it is asked for."""

from tokenfleet_engine.store.remote import Store
from tokenfleet_engine.store.sources import Source


def open_store(source: Source) -> Store:
    if source.scheme == "hf":
        from tokenfleet_engine.store.huggingface import HuggingFace

        return HuggingFace(source)
    if source.scheme == "s3":
        from tokenfleet_engine.store.s3 import S3

        return S3(source)
    from tokenfleet_engine.store.gcs import GoogleStorage

    return GoogleStorage(source)
