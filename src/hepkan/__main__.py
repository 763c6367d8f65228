"""`python -m hepkan` is the command line."""

from hepkan.cli import main

if __name__ == "__main__":
    main()
