"""``python -m chiasm``: the command line."""

from chiasm.cli.main import main

if __name__ == "__main__":
    main()
