"""Immutable published versions of an artefact: knows generations, locks and folders, never what is in them."""
