"""One user's behaviors as bytes: the record of `FORMAT.md`."""
