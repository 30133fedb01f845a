"""What `from search_stage import ...` offers, each name once; `__init__.py` imports it when it is first asked for."""

from .config import SearchConfig as SearchConfig
from .errors import ConfigError as ConfigError
from .errors import CorruptIndexError as CorruptIndexError
from .errors import ExportError as ExportError
from .errors import FaissMissingError as FaissMissingError
from .errors import IndexCheckError as IndexCheckError
from .errors import IndexMismatchError as IndexMismatchError
from .errors import SearchError as SearchError
from .errors import SearchServiceError as SearchServiceError
from .errors import UnusableIndexError as UnusableIndexError
from .index.build import BuildOptions as BuildOptions
from .index.build import IndexReport as IndexReport
from .index.build import build_index as build_index
from .index.generation import IndexGeneration as IndexGeneration
from .searcher import Searcher as Searcher
from .serving.client import AsyncSearchClient as AsyncSearchClient
from .serving.client import SearchClient as SearchClient
