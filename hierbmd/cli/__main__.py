"""`python -m hierbmd.cli`, the same as `hierbmd`."""

from hierbmd.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
