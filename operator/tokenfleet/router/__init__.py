"""What stands between clients and engines.

A request's path, in this folder: admission.py lets it in, exchange.py takes it to a replica and relay.py brings the answer
back; models.py and catalog.py are what is served. The folders hold what that path leans on.
"""
