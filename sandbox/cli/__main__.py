"""`python -m sandbox.cli` is `yunei`."""

from sandbox.cli.main import main

if __name__ == "__main__":
    main()
