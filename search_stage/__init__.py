"""Search: picks, out of everything a user ever did, the behaviors that matter for each candidate ad."""

from search_stage.config import SearchConfig
from search_stage.index.build import build_index
from search_stage.index.generation import IndexGeneration
from search_stage.searcher import Searcher

__all__ = ["IndexGeneration", "SearchConfig", "Searcher", "build_index"]
