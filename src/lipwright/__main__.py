"""``python -m lipwright``: the command where it is not on the PATH."""

from lipwright.cli import main

if __name__ == "__main__":
    main()
