"""The control `control_shared`: a network as plain padded torch, by the same weights, user work once, no service.

From an encoded request to logits; nothing of `model_stage` but configuration and weights. Without gradients, and
without the weights that an explanation needs.

Legend: B candidates, U behaviors of the union, S dense inputs, X input of a tower, T targets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from model_stage.blocks.block_input import NODE
from scripts.bench.rank.padded import Rectangle, Weights
from scripts.bench.rank.shared_blocks import Embedded, side_info_tin, sim, tin
from scripts.bench.rank.shared_sequences import longer, sasrec
from store.retrieval import SOURCE_HARD, SOURCE_RECENT, SOURCE_SOFT

if TYPE_CHECKING:
    from torch import Tensor

    from model_stage.blocks.registry import BlockConfig
    from model_stage.bundle import Bundle
    from model_stage.config.schema import Schema
    from model_stage.config.targets import Targets
    from model_stage.encoding.encoder import EncodedRequest
    from model_stage.networks import NetworkConfig, RankingNetwork
    from store.types import I32

_BITS = {"hard": SOURCE_HARD, "soft": SOURCE_SOFT, "recent": SOURCE_RECENT}


def control_of(bundle: Bundle) -> SharedControl:
    """Gives the control of a bundle."""
    tree = bundle.vocabularies.tree
    return SharedControl(bundle.network, bundle.network_config, bundle.schema, bundle.targets, tree.path)


class SharedControl:
    """Scores one request at a time by the weights of a network.

    Args:
        network: Whose weights; untouched.
        config: Its configuration: towers for heads, positions by target, blocks this file knows.
        schema: Without multi-valued fields.
        targets: None of them conditional, no groups.
        path: Rows of each tree node's path, int32 (V, P).
    """

    def __init__(
        self, network: RankingNetwork, config: NetworkConfig, schema: Schema, targets: Targets, path: I32
    ) -> None:
        assert config.heads.kind == "towers"
        assert config.preset.positions == "target"
        assert not any(target.group or target.given for target in targets.targets)
        self._weights = Weights(every={name: tensor.detach() for name, tensor in network.state_dict().items()})
        self._preset, self._schema = config.preset, schema
        self._positions = [target.positions for target in targets.targets]
        self._path = torch.from_numpy(path).long()
        self._user = [
            field.part == "user" for part in ("candidate", "user", "context") for field in schema.embedded(part)
        ]

    def __call__(self, encoded: EncodedRequest) -> Tensor:
        """Gives the logits of a request. (B, T)."""
        with torch.inference_mode():
            return self._score(encoded)

    def _score(self, encoded: EncodedRequest) -> Tensor:
        weights = self._weights
        categorical = torch.from_numpy(encoded.categorical).long()
        fields = [each["weight"][categorical[:, at]] for at, each in enumerate(weights.parts("categorical"))]
        dense_BS = torch.nan_to_num((torch.from_numpy(encoded.dense) - weights["dense_mean"]) / weights["dense_scale"])
        candidates = torch.from_numpy(encoded.candidate_node).long()
        representation_BR = self._nodes("representation", candidates)
        common_BX = torch.cat([representation_BR, *fields], dim=1)
        found = self._blocks(encoded, candidates, representation_BR, fields) if self._preset.blocks else []
        logits = []
        for number, tower in enumerate(weights.parts("towers.towers")):
            masses, interests = [of[number][1] for of in found], [of[number][0] for of in found]
            logits.append(_tower(tower, torch.cat([dense_BS.clamp(-10, 10), *masses, *interests, common_BX], dim=1)))
        return torch.cat(logits, dim=1)

    def _blocks(
        self, encoded: EncodedRequest, candidates: Tensor, representation_BR: Tensor, fields: list[Tensor]
    ) -> list[list[tuple[Tensor, Tensor]]]:
        """Gives representation and masses of each block and target."""
        nodes, sides = torch.from_numpy(encoded.behavior_node).long(), torch.from_numpy(encoded.behavior_side).long()
        parts = self._parts("attention", nodes, sides)
        x = Embedded(
            pairs=self._selected(encoded),
            attention_parts=parts,
            attention_BA=self._nodes("attention", candidates),
            representation_UR=torch.stack(list(self._parts("representation", nodes, sides).values())).sum(0),
            representation_BR=representation_BR,
            user_BX=torch.cat(
                [each for each, of_user in zip(fields, self._user, strict=True) if of_user]
                or [representation_BR[:, :0]],
                dim=1,
            ),
            num_newest=encoded.num_newest,
            same_as_B=torch.from_numpy(encoded.same_as).long(),
        )
        of_blocks = zip(self._preset.blocks, self._weights.parts("interest"), strict=True)
        return [self._attend(block, weights, x) for block, weights in of_blocks]

    def _attend(self, block: BlockConfig, weights: Weights, x: Embedded) -> list[tuple[Tensor, Tensor]]:
        """Gives representation and masses of each target."""
        options, tables = block.model_dump(), self._positions
        of_targets = list(zip(weights.parts("tables"), tables, strict=False))
        newest = options["newest"] if options.get("scope") == "union" else 0
        match block.kind:
            case "tin" | "stacked_tin":
                return [tin(own, x, positions, options.get("layers", 1)) for own, positions in of_targets]
            case "side_info_tin":
                known = (NODE, *self._schema.behavior_fields)
                subsets = [[name for name in subset if name in known] for subset in options["subsets"]]
                kept, asks = [subset for subset in subsets if subset], weights.under("asks")
                return [side_info_tin(own, asks, x, positions, kept) for own, positions in of_targets]
            case "sim":
                return [sim(own, x, positions, options["heads"]) for own, positions in of_targets]
            case "sasrec":
                return sasrec(weights.under("block"), x, block.shared, tables, options["heads"], newest)
            case "longer":
                sizes = {name: options[name] for name in ("merge", "recent", "heads")}
                of_all = longer(weights.under("tables.0"), weights.under("user"), x, newest=newest, **sizes)
                return [of_all] * len(tables)
        raise NotImplementedError(block.kind)

    def _selected(self, encoded: EncodedRequest) -> Rectangle:
        selection = self._preset.selection
        assert selection.newest is None
        bits = sum(_BITS[name] for name in selection.sources)
        wanted = (encoded.source & bits) != 0
        return Rectangle.of(encoded, None if wanted.all() else wanted)

    def _nodes(self, table: str, rows: Tensor) -> Tensor:
        return self._weights[f"{table}.node.weight"][self._path[rows]].sum(1)

    def _parts(self, table: str, nodes: Tensor, sides: Tensor) -> dict[str, Tensor]:
        tables = [each["weight"] for each in self._weights.parts(f"{table}.side")]
        named = zip(self._schema.behavior_fields, tables, strict=True)
        return {NODE: self._nodes(table, nodes)} | {name: each[sides[:, at]] for at, (name, each) in enumerate(named)}


def _tower(weights: Weights, x_BX: Tensor) -> Tensor:
    """Gives a target's logit. (B, 1)."""
    *hidden, last = weights.parts()
    for layer in hidden:
        x_BX = torch.relu(x_BX @ layer["weight"].T + layer["bias"])
    return x_BX @ last["weight"].T + last["bias"]
