"""Load tests of servers of OpenAI's API: what is sent and when, what came back and when, and the figures of it.

`arrivals` and `prompts` say what is asked, `client` asks, `load` drives it, `record` keeps it, `figures` counts. No module here
writes to a terminal.
"""
