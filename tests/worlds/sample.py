"""One small dataset that uses every part of the contract."""

TAXONOMY = [
    {"category": 1, "parent": None, "name": "food", "domain": None},
    {"category": 2, "parent": 1, "name": "fruit", "domain": None},
    {"category": 3, "parent": 1, "name": None, "domain": ""},
    {"category": 9, "parent": None, "name": "home", "domain": None},
    {"category": 100, "parent": None, "name": "recipes", "domain": "content"},
    {"category": 101, "parent": 100, "name": "baking", "domain": "content"},
    {"category": 9, "parent": None, "name": "not home", "domain": "content"},
]
BRIDGES = [{"domain": "content", "category": 100, "node": 2}]
ITEMS = [
    {
        "item": 70,
        "category": 2,
        "name": "apple",
        "domain": None,
        "covers": None,
        "price": 1.5,
        "brand": "a",
        "tags": ["b", "a", "b"],
    },
    {
        "item": 71,
        "category": 101,
        "name": None,
        "domain": "content",
        "covers": None,
        "price": None,
        "brand": None,
        "tags": None,
    },
    {"item": 90, "category": 404, "name": None, "domain": None, "covers": None, "price": 2.0, "brand": "b"},
    {
        "item": 500,
        "category": 3,
        "name": "coupon",
        "domain": None,
        "covers": [71, 70, 70],
        "price": None,
        "brand": "7",
        "tags": ["007", "7"],
    },
]
USERS = [{"user": "anna", "age": "35-44", "size": 2, "likes": [5, 6]}, {"user": "7", "age": None, "size": None}]


def event(user, item, category, time, domain="ads", action="click", **more):
    return {
        "user": user,
        "item": item,
        "category": category,
        "domain": domain,
        "action": action,
        "timestamp_ms": time,
        **more,
    }


BEHAVIORS = [
    event("anna", 70, 2, 50, scene="top"),
    event("anna", 71, 101, 20, "content", "view", scene="feed"),
    event("anna", 999, 3, 30, scene="top"),
    event("anna", 70, 2, 10, scene=""),
    event("7", 90, 404, 40, "content", "view", scene=None),
    event("7", 12345, None, 41, "content", "view", scene="feed"),
    event("anna", 998, 101, 20, "content", "view", scene="feed"),
]


def tables():
    return {"behaviors": BEHAVIORS, "taxonomy": TAXONOMY, "bridges": BRIDGES, "items": ITEMS, "users": USERS}
