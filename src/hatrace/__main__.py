"""``python -m hatrace``: the same as the ``hatrace`` command."""

from hatrace.cli import main

if __name__ == "__main__":
    main()
