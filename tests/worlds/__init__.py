"""Worlds that tests are made in: fixtures and helpers that several test files share. No test stands here.

| take | for |
|---|---|
| `daily` | a generated dataset with everything published of it, and a day with new behaviors for the daily job |
| `datasets` | any dataset of the input contract from rows as dicts, and a store made of it: start here |
| `sample` | one small dataset that uses every part of the contract, for the store's own tests |
| `living` | a store with everything in it: two generations, live events, a deleted user |
| `appends` | batches of events for the delta, without a store |
| `blocks` | random rows of many users in record order, for codecs |
| `search` | a drawn store, index and request: differential tests of search |
| `index` | one tiny store and index with known vectors |
| `soft` | vectors and an index of nothing else: soft search alone |
| `drawn` | drawn events with side-info, for Hypothesis |
| `recall` | labels that follow from the past, as strongly as asked: the recall report |
| `association_reference` | the recall report's association, counted again in plain loops |
| `bundles` | a bundle made by hand, random weights |
| `networks` | small networks of any preset and requests for them, no store |
| `examples` | random training examples, and the comparison of batches |
| `pair_blocks`, `list_blocks` | every attention block, small, with inputs and their laws |
| `pair_attention` | inputs for the operation of attention over pairs, and what its paths are compared by |
| `services` | dataset, store, bundle and index on disk, and both services over them |
| `training` | labelled impressions on that dataset, and what to train on them in a second or two |
| `browser` | a headless Chromium, to look at a page |
| `security` | keys and tokens for servers behind TLS, and for those that must not get in |
| `workers` | a search server of several workers, as its operator sees it |
| `tcp_proxy` | a network between client and server that slows, holds, drops or resets |
| `wire` | drawn messages, compared bit by bit |
| `calls`, `load` | messages of live methods as numbers; callers without a pause, and what an ending server loses |
| `journey` | original Complete Journey files, small enough to count by hand |
| `fault_store`, `fault_search` | worlds in which every event, or every generation, is known by its number alone |
"""
