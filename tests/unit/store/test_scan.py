import numpy as np
import pytest

from store import BehaviorStore, parse_id, rebuild
from store.events import STREAMS_PER_DOMAIN
from store.keys import mix_one
from store.operations.taxonomy_check.category_use import snapshot_use
from store.reading.scan import scan, touched_users, user_bounds
from store.types import NO_ID
from tests.worlds import living, sample
from tests.worlds.datasets import build_store


@pytest.fixture(params=["live", "rebuilt"])
def snapshot(request, tmp_path):
    root = living.build(tmp_path)
    if request.param == "rebuilt":
        rebuild(root)
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        yield snapshot


def scanned_rows(snapshot, **options):
    words, kinds = snapshot.vocabulary, snapshot.meta.behavior_fields
    out = []
    for rows in scan(snapshot, **options):
        for at in range(len(rows)):
            domain, action = divmod(int(rows.stream[at]), STREAMS_PER_DOMAIN)
            fields = {name: rows.fields[number][at] for number, (name, _) in enumerate(kinds)}
            out.append(
                (
                    int(rows.user[at]),
                    int(rows.item[at]),
                    int(rows.category[at]),
                    int(rows.timestamp_ms[at]),
                    words.domains[domain],
                    words.actions[action],
                    words.scenes[rows.scene[at]],
                    NO_ID if rows.key is None else int(rows.key[at]),
                    {name: value for name, value in fields.items() if not living.is_missing(value)},
                )
            )
    return out


@pytest.mark.parametrize("block_rows", [1, 3, 1 << 17])
def test_a_scan_gives_every_event_once_in_the_order_of_reading_one_by_one(snapshot, block_rows):
    expected = living.plain_rows(snapshot)
    assert scanned_rows(snapshot, block_rows=block_rows) == expected
    assert len(expected) == len(living.BEHAVIORS) + len(living.LIVE) - 1  # bo, with one event, was deleted


def test_a_block_never_cuts_a_user(snapshot):
    seen = [user for rows in scan(snapshot, block_rows=1) for user in np.unique(rows.user).tolist()]
    assert len(seen) == len(set(seen))
    assert seen == sorted(seen, key=mix_one) == list(snapshot.user_ids())


def test_only_users_whom_the_delta_concerns_are_read_one_by_one(tmp_path):
    root = living.build(tmp_path)
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        assert touched_users(snapshot) == {parse_id(name) for name in ("anna", "new", "cy", "bo")}
    rebuild(root)
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        assert touched_users(snapshot) == set()


def test_bounds_of_users(snapshot):
    for rows in scan(snapshot):
        bounds = user_bounds(rows).tolist()
        assert bounds[0] == 0
        assert bounds[-1] == len(rows)
        assert [int(rows.user[start]) for start in bounds[:-1]] == list(dict.fromkeys(rows.user.tolist()))


def test_an_empty_store_has_no_blocks(tmp_path):
    root = build_store(tmp_path, **{**sample.tables(), "behaviors": []})
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        assert list(scan(snapshot)) == []


def test_use_of_categories_counts_live_events_too(snapshot):
    use = snapshot_use(snapshot)
    expected: dict[tuple[str, int, int], int] = {}
    for _, item, category, _, domain, *_ in living.plain_rows(snapshot):
        expected[domain, item, category] = expected.get((domain, item, category), 0) + 1
    domains = [use.domains[code] for code in use.domain.tolist()]
    keys = zip(domains, use.item.tolist(), use.category.tolist(), strict=True)
    assert dict(zip(keys, use.count.tolist(), strict=True)) == expected
