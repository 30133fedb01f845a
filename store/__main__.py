"""`python -m store` is `lookback-store`."""

from store.cli import main

if __name__ == "__main__":
    main()
