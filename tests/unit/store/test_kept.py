"""Which generations stay: the newest ones asked for, and the current one wherever it stands."""

import pytest

from store.errors import CorruptGenerationError
from store.publishing.generation import GenerationWriter, current_name, open_generation
from store.publishing.kept import kept_generations, remove_generations, roll_back


@pytest.fixture
def names(tmp_path):
    found = []
    for number in range(4):
        with GenerationWriter(tmp_path, kind="index") as writer:
            (writer.path / "number").write_text(str(number))
            found.append(writer.publish())
    return found


def check(root, name):
    return open_generation(root, "index", name)


def test_the_newest_are_kept(tmp_path, names):
    assert remove_generations(tmp_path, 2, kind="index") == names[:2]
    assert kept_generations(tmp_path) == names[2:]


def test_the_current_one_is_kept_though_it_is_old(tmp_path, names):
    roll_back(tmp_path, "index", check, names[0])
    assert remove_generations(tmp_path, 1, frozenset(names[:1]), kind="index") == names[1:3]
    assert kept_generations(tmp_path) == [names[0], names[3]]
    assert current_name(tmp_path, "index") == names[0]


def test_one_that_must_go_goes_whatever_is_kept(tmp_path, names):
    assert remove_generations(tmp_path, 4, frozenset(names[1:2]), kind="index") == names[1:2]


def test_a_damaged_one_is_not_gone_back_to(tmp_path, names):
    (tmp_path / "generations" / names[2] / "number").write_text("9")
    with pytest.raises(CorruptGenerationError):
        roll_back(tmp_path, "index", check)
    assert current_name(tmp_path, "index") == names[3]
