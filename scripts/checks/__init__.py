"""Checks of what is committed and of what is shipped, and the generator of the code of `protos/`."""
