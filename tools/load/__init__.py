"""Load and faults: a `lipwright serve` of its own is measured, and the tables of docs/serving.md are printed.

    python -m tools.load all --json load.json

Each part starts a server, the full and the fast quality one after the other: how many microphones are held at 25
pictures a second, at which latency; then a soak, many connects, and faults while others watch. Give ``--cores 0,1`` to
put the server on those cores (Linux). A run that was broken off goes on where it was: what stands in the JSON file is
not measured again.
"""
