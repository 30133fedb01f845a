"""Random blocks of rows as the base orders them, and single users taken out of them plainly."""

import numpy as np

from store.keys import mix, mix_one
from store.records.block_codec import EncodedBlock
from store.records.rows import UserBlock
from store.types import NO_ID, Section, UserColumns, UserExtras

STREAMS = np.array([1, 2, 258, 515, 0xFF00, 0xFFFF], np.uint16)


def random_block(lengths, seed, *, item=np.uint32, scene=np.uint8, category=np.uint16, keyed=False, fields=()):
    """Gives a block of users of certain lengths, with side-info fields of certain types."""
    rng = np.random.default_rng(seed)
    lengths = np.array(lengths, np.int64)
    users = np.unique(rng.integers(0, NO_ID, 2 * len(lengths) + 1, np.uint64))[: len(lengths)]
    users = users[np.argsort(mix(users))]
    bounds = np.concatenate(([0], np.cumsum(lengths)))
    size = int(bounds[-1])
    owner = np.repeat(np.arange(len(lengths)), lengths)
    stream = rng.choice(STREAMS[: rng.integers(1, len(STREAMS) + 1)], size)
    node = rng.integers(0, rng.integers(1, 2000), size).astype(np.uint32)
    time = rng.integers(0, 2 ** rng.integers(1, 45), size)
    by_time = np.lexsort((time, owner))
    rank = np.empty(size, np.int64)
    rank[by_time] = np.arange(size) - bounds[owner]
    rows = np.lexsort((rank, node, stream, owner))
    order = np.empty(size, np.int64)
    order[bounds[owner] + rank[rows]] = np.arange(size) - bounds[owner]
    return UserBlock(
        users=users,
        bounds=bounds,
        stream=stream[rows],
        node=node[rows],
        timestamp_ms=time[rows],
        item=_random(rng, size, item),
        scene=_random(rng, size, scene),
        rank=rank[rows].astype(np.uint32),
        order=order.astype(np.uint32),
        category=_random(rng, size, category),
        key=_random(rng, size, np.uint64) if keyed else None,
        fields=tuple(_random(rng, size, dtype) for dtype in fields),
    )


def _random(rng, size, dtype):
    if dtype == np.float32:
        return np.where(rng.random(size) < 0.1, np.float32(np.nan), rng.random(size, np.float32))
    return rng.integers(0, np.iinfo(dtype).max, size, dtype, endpoint=True)


def user_of(block, at):
    """Gives columns and extras of one user of a block."""
    start, stop = block.bounds[at : at + 2]
    stream = block.stream[start:stop]
    sections = tuple(
        Section(domain=int(code) >> 8, action=int(code) & 255, start=int(rows[0]), stop=int(rows[-1]) + 1)
        for code in np.unique(stream)
        for rows in [np.flatnonzero(stream == code)]
    )
    columns = UserColumns(
        sections=sections,
        **{
            name: getattr(block, name)[start:stop]
            for name in ("node", "timestamp_ms", "item", "scene", "rank", "order")
        },
    )
    extras = UserExtras(
        category=block.category[start:stop],
        key=None if block.key is None else block.key[start:stop],
        fields=tuple(values[start:stop] for values in block.fields),
    )
    return columns, extras


def block_of_records(records):
    """Gives records by user, whatever they hold, as the writer of a base takes them."""
    users = sorted(records, key=mix_one)
    data = b"".join(records[user] for user in users)
    return EncodedBlock(
        users=np.array(users, np.uint64),
        offsets=np.cumsum([0, *(len(records[user]) for user in users)]),
        data=np.frombuffer(data, np.uint8),
    )
