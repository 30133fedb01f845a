"""Networks: fused embeddings, the interest blocks of a preset, dense inputs, and heads.

preset       networks as data                   heads, conditional        from interests to probabilities
"""

from model_stage.networks.config import NetworkConfig
from model_stage.networks.network import NetworkOutput, RankingNetwork

__all__ = ["NetworkConfig", "NetworkOutput", "RankingNetwork"]
