"""Files, folders, locks and LMDB environments."""
