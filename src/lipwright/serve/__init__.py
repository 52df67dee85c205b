"""Live: sessions, the engine that draws for all of them, and the doors through which clients come.

``session`` is one live listener or speaker, pure of sockets and clocks; ``engine`` draws for all sessions in one
thread and knows how many it can hold; ``http`` and ``websocket`` are doors, ``safety`` stands before them.
"""
