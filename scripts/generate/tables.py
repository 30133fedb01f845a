"""Puts the generated world, users and impressions into the tables of the input contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from scripts.generate.users import START_MS, STREAMS
from scripts.joins import Runs, count_before, per_100_days

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scripts.generate.mechanisms import Marks
    from scripts.generate.truth import Impressions
    from scripts.generate.users import Behaviors
    from scripts.generate.world import World
    from store.types import F64, I64

AGE_BANDS = ("18-24", "25-34", "35-49", "50-64", "65+")
PRICE_BANDS = ("low", "middle", "high")
SCENES = ("feed", "search")
VECTOR_DIM = 16
"""Of content vectors; `attention_dim` of `scripts/configs/worlds`."""
TONES, PACES = ("cold", "warm"), ("calm", "brisk")
"""Words of the signs -1 and +1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What users and ads are like besides what they did, and the effect it has on every target's logit."""

    age_band: I64
    """(users,)"""
    price_band: I64
    """(ads,)"""
    user_effect: F64
    """Two thirds of its variance follow from the age band. (users,)"""
    ad_effect: F64
    """Two thirds of its variance follow from the price band. (ads,)"""


def draw_traits(num_users: int, num_ads: int, draw: np.random.Generator) -> Traits:
    """Draws users' and ads' traits; both effects have a standard deviation of about 0.35."""
    age, price = draw.integers(0, len(AGE_BANDS), num_users), draw.integers(0, len(PRICE_BANDS), num_ads)
    of_age, of_price = np.linspace(-0.4, 0.4, len(AGE_BANDS)), np.linspace(0.35, -0.35, len(PRICE_BANDS))
    return Traits(
        age_band=age,
        price_band=price,
        user_effect=of_age[age] + draw.normal(0.0, 0.2, num_users),
        ad_effect=of_price[price] + draw.normal(0.0, 0.2, num_ads),
    )


def taxonomy_table(world: World) -> pa.Table:
    """Gives the three trees, the ads' one with a null domain."""
    columns: dict[str, list[str | None]] = {"category": [], "parent": [], "domain": []}
    for domain, tree in world.trees.items():
        columns["category"] += tree.names
        columns["parent"] += [tree.names[node] if node >= 0 else None for node in tree.parent.tolist()]
        columns["domain"] += [None if domain == "ad" else domain] * len(tree.names)
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def bridges_table(world: World) -> pa.Table:
    """Gives the bridges from the other domains' trees to nodes of the ads' tree."""
    rows = [
        (domain, world.trees[domain].names[node], world.trees["ad"].names[target])
        for domain, bridge in world.bridges.items()
        for node, target in enumerate(bridge.tolist())
        if target >= 0
    ]
    return pa.table({name: [row[at] for row in rows] for at, name in enumerate(("domain", "category", "node"))})


def items_table(world: World, traits: Traits, marks: Marks | None) -> pa.Table:
    """Gives ads and articles, with their styles if there are any.

    Streams of the live domain are unknown items, known by their category alone.
    """
    ads, articles = world.items["ad"], world.items["content"]
    article_names = articles.names()
    covers = pa.ListArray.from_arrays(
        pa.array(np.append(world.covers_offsets, np.full(len(article_names), len(world.covers))), pa.int32()),
        pa.array([article_names[article] for article in world.covers.tolist()], pa.string()),
    )
    category = [world.trees["ad"].names[node] for node in ads.category.tolist()]
    category += [world.trees["content"].names[node] for node in articles.category.tolist()]
    price = [PRICE_BANDS[band] for band in traits.price_band.tolist()]
    styles = [] if marks is None else [*marks.style["ad"].tolist(), *marks.style["content"].tolist()]
    return pa.table(
        {
            "item": ads.names() + article_names,
            "category": category,
            "domain": pa.array([None] * len(price) + ["content"] * len(article_names), pa.string()),
            "covers": covers,
            "price_band": pa.array(price + [None] * len(article_names), pa.string()),
            **({"style": [f"style {style}" for style in styles]} if marks is not None else {}),
        }
    )


def users_table(traits: Traits) -> pa.Table:
    """Gives the users' age bands."""
    return pa.table(
        {
            "user": user_names(np.arange(len(traits.age_band))),
            "age_band": [AGE_BANDS[band] for band in traits.age_band.tolist()],
        }
    )


def user_names(users: I64) -> pa.Array:
    """Gives user ids as an Arrow string column."""
    return pa.array(np.char.add("user ", users.astype(str)), pa.string())


def behaviors_table(world: World, behaviors: Behaviors, marks: Marks | None, draw: np.random.Generator) -> pa.Table:
    """Gives all behaviors, with their signs if there are any; those of unknown items carry their domain's category."""
    domains = [domain for domain, *_ in STREAMS]
    item = np.empty(len(behaviors.user), dtype=object)
    category = np.full(len(behaviors.user), None, dtype=object)
    for domain, items in world.items.items():
        rows = np.flatnonzero(np.array(domains)[behaviors.stream] == domain)
        item[rows] = np.array(items.names(), dtype=object)[behaviors.item[rows]]
        if domain == "live":
            names = np.array(world.trees[domain].names, dtype=object)
            category[rows] = names[items.category[behaviors.item[rows]]]
    scene = draw.integers(0, len(SCENES), len(item))
    return pa.table(
        {
            "user": user_names(behaviors.user),
            "item": pa.array(item, pa.string()),
            "category": pa.array(category, pa.string()),
            "domain": pa.array(np.array(domains, dtype=object)[behaviors.stream], pa.string()),
            "action": pa.array(np.array([action for _, action, *_ in STREAMS], dtype=object)[behaviors.stream]),
            "scene": pa.array(np.array(SCENES, dtype=object)[scene], pa.string()),
            "timestamp_ms": behaviors.timestamp_ms,
            **({} if marks is None else _marks_columns(marks)),
        }
    )


def _marks_columns(marks: Marks) -> dict[str, pa.Array | I64]:
    signs = {"tone": _words(marks.tone, TONES), "pace": _words(marks.pace, PACES)}
    return {**signs, "arrived_ms": marks.arrived_ms}


def _words(sign: I64, words: tuple[str, str]) -> pa.Array:
    return pa.array(np.array(words, dtype=object)[(sign > 0).astype(np.int64)], pa.string())


def impressions_table(world: World, behaviors: Behaviors, shown: Impressions, labels: dict[str, I64]) -> pa.Table:
    """Gives the impressions with their labels and, as of their time, how popular ad and category were."""
    ads = world.items["ad"]
    of_ads = np.flatnonzero(np.array([domain == "ad" for domain, *_ in STREAMS])[behaviors.stream])
    item, time = behaviors.item[of_ads], behaviors.timestamp_ms[of_ads]
    popularity, _ = count_before(item, time, shown.ad, shown.timestamp_ms)
    category_popularity, _ = count_before(ads.leaf[item], time, ads.leaf[shown.ad], shown.timestamp_ms)
    return pa.table(
        {
            "user": user_names(shown.user),
            "item": pa.array(np.char.add("ad ", shown.ad.astype(str)), pa.string()),
            "timestamp_ms": shown.timestamp_ms,
            **{f"label_{name}": label.astype(np.int8) for name, label in labels.items()},
            "num_covers": np.diff(world.covers_offsets)[shown.ad].astype(np.float32),
            "item_popularity": per_100_days(popularity, shown.timestamp_ms, START_MS).astype(np.float32),
            "category_popularity": per_100_days(category_popularity, shown.timestamp_ms, START_MS).astype(np.float32),
        }
    )


def needle_table(shown: pa.Table, needles: Mapping[str, Runs], behaviors: Behaviors, rows: I64) -> pa.Table:
    """Gives, for some impressions, the times of the behaviors that decide, a list per target; what search must find.

    Args:
        shown: User, item and time of every impression.
        needles: By target, of every impression.
        behaviors: Give the times.
        rows: Which impressions.
    """
    table = shown.take(rows)
    for target, runs in needles.items():
        chosen = Runs(runs.order, runs.start[rows], runs.stop[rows])
        _, found = chosen.pairs(slice(0, len(rows)))
        offsets = np.concatenate(([0], np.cumsum(chosen.sizes)))
        times = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(behaviors.timestamp_ms[found]))
        table = table.append_column(target, times)
    return table


def style_vectors_table(world: World, marks: Marks, draw: np.random.Generator) -> pa.Table:
    """Gives every ad and article a content vector of its style and of nothing else: equal styles, equal vectors."""
    directions = draw.standard_normal((int(marks.style["ad"].max()) + 1, VECTOR_DIM)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    styles = np.concatenate([marks.style[domain] for domain in ("ad", "content")])
    names = [name for domain in ("ad", "content") for name in world.items[domain].names()]
    vectors = pa.array(directions[styles].ravel())
    return pa.table({"item": names, "vector": pa.FixedSizeListArray.from_arrays(vectors, VECTOR_DIM)})
