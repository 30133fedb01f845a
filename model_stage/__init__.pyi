"""What `from model_stage import ...` offers, each name once; `__init__.py` imports it when it is first asked for."""

from .bundle import Bundle as Bundle
from .bundle import load_bundle as load_bundle
from .config.schema import Schema as Schema
from .config.targets import Targets as Targets
from .errors import BundleError as BundleError
from .errors import BundleMismatchError as BundleMismatchError
from .errors import ConfigError as ConfigError
from .errors import ModelError as ModelError
from .errors import ParameterGroupError as ParameterGroupError
from .errors import RankingUnavailableError as RankingUnavailableError
from .errors import SearchUnavailableError as SearchUnavailableError
from .ranking.ranker import Ranker as Ranker
from .serving.rank_client import AsyncRankClient as AsyncRankClient
from .serving.rank_client import RankClient as RankClient
from .serving.remote_retriever import RemoteRetriever as RemoteRetriever
from .training.pipeline import Recipe as Recipe
from .training.pipeline import Trained as Trained
from .training.pipeline import train_bundle as train_bundle
from .types import ExplainResult as ExplainResult
from .types import RankRequest as RankRequest
from .types import RankResult as RankResult
from .types import Retriever as Retriever
