"""Teach a generator one person: pack the data, sample it, weigh the errors, run the loop.

Everything here needs numpy, torch and OpenCV alone, so that a bare machine with a GPU can train from one packed file.
"""
