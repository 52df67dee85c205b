"""``python -m tools.bundle``: lipwright for machines without Python, as one folder and as one file.

build    a clean environment, PyInstaller, trimming, packing into one file
trim     what a bundle leaves out, shares or hollows, each with its reason
entry    the program inside
unpack   the program of the single file
attempt  use a bundle on a bare machine and compare it with the installed package
deploy   how long a hundred servers take, from what was measured
"""
