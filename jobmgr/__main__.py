"""`python -m jobmgr` is the command `jobmgr`."""

from jobmgr.cli.main import main

if __name__ == "__main__":
    main()
