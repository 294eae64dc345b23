"""The model store: models from Hugging Face, S3 and Google Cloud Storage, as complete directories in a cache.

`fetching` tells the whole story of one model; `remote` is what a store has to be able to do, `huggingface`, `s3` and `gcs` are
the stores; `parts` is a version that is being made, `cache` those that are complete. All state on disk may be cut off at any
moment: a killed fetch is as good as one that ended, and the next goes on from there.
"""
