"""Search: picks, out of everything a user ever did, the behaviors that matter for each candidate ad."""

from search_stage.config import SearchConfig
from search_stage.generation import IndexGeneration, build_index
from search_stage.searcher import Searcher

__all__ = ["IndexGeneration", "SearchConfig", "Searcher", "build_index"]
