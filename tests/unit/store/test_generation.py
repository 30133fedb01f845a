import json

import pytest

from store.errors import CorruptGenerationError, MissingGenerationError, StoreIOError
from store.generation import GenerationWriter, current_name, open_generation


class Unwritable:
    def __str__(self):
        raise ZeroDivisionError


def publish(root, text="hello", kind="store"):
    with GenerationWriter(root, kind=kind) as writer:
        (writer.path / "sub").mkdir()
        (writer.path / "sub" / "a.txt").write_text(str(text))
        writer.meta["count"] = 3
        return writer.publish()


def test_a_published_generation_opens_with_what_was_written(tmp_path):
    name = publish(tmp_path)
    opened = open_generation(tmp_path, "store")
    assert opened.name == name == current_name(tmp_path, "store")
    assert (tmp_path / "CURRENT").read_text() == name + "\n"
    assert opened.manifest.meta == {"count": 3}
    assert list(opened.manifest.files) == ["sub/a.txt"]
    assert (opened.path / "sub" / "a.txt").read_text() == "hello"


def test_the_last_to_publish_is_current_and_the_former_stays(tmp_path):
    first, second = publish(tmp_path, "one"), publish(tmp_path, "two")
    assert open_generation(tmp_path, "store").name == second
    assert open_generation(tmp_path, "store", first).name == first


def test_nothing_is_left_of_a_build_that_fails(tmp_path):
    first = publish(tmp_path)
    with pytest.raises(ZeroDivisionError):
        publish(tmp_path, text=Unwritable())
    with GenerationWriter(tmp_path, kind="store") as writer:
        (writer.path / "unpublished").write_text("x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["CURRENT", "generations"]
    assert current_name(tmp_path, "store") == first


def test_an_unwritable_root_is_an_io_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreIOError, match="cannot make a folder"):
        GenerationWriter(tmp_path / "file", kind="store").__enter__()


def test_nothing_published_says_what_to_run(tmp_path):
    with pytest.raises(MissingGenerationError, match=r"CURRENT.*lookback-store ingest"):
        open_generation(tmp_path / "nowhere", "store")
    with pytest.raises(MissingGenerationError, match="lookback-search build-index"):
        open_generation(tmp_path, "index")
    publish(tmp_path)
    with pytest.raises(MissingGenerationError, match="no such store generation"):
        open_generation(tmp_path, "store", "20200101-000000-00000000")


@pytest.mark.parametrize("text", ["", "../../etc", "20200101"])
def test_a_damaged_current_is_refused(tmp_path, text):
    publish(tmp_path)
    (tmp_path / "CURRENT").write_text(str(text))
    with pytest.raises(CorruptGenerationError, match="CURRENT"):
        open_generation(tmp_path, "store")


def test_a_name_that_leads_elsewhere_is_refused(tmp_path):
    publish(tmp_path)
    with pytest.raises(MissingGenerationError):
        open_generation(tmp_path, "store", "../generations")


def test_another_kind_is_refused(tmp_path):
    publish(tmp_path, kind="index")
    with pytest.raises(CorruptGenerationError, match=r"index generation, a store generation is needed"):
        open_generation(tmp_path, "store")


def test_a_changed_file_is_refused_by_size_and_by_hash(tmp_path):
    file = open_generation(tmp_path, "store", publish(tmp_path)).path / "sub" / "a.txt"
    file.write_text("hellO")
    with pytest.raises(CorruptGenerationError, match=r"a\.txt.*sha256"):
        open_generation(tmp_path, "store")
    file.write_text("hell")
    with pytest.raises(CorruptGenerationError, match=r"a\.txt: 4 bytes, the manifest says 5"):
        open_generation(tmp_path, "store")
    file.unlink()
    with pytest.raises(MissingGenerationError, match=r"a\.txt"):
        open_generation(tmp_path, "store")


def test_a_symbolic_link_is_refused(tmp_path):
    file = open_generation(tmp_path, "store", publish(tmp_path)).path / "sub" / "a.txt"
    (tmp_path / "elsewhere").write_text("hello")
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptGenerationError, match="symbolic link"):
        open_generation(tmp_path, "store")


def edit_manifest(root, change):
    path = open_generation(root, "store").path / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_changed_manifest_does_not_match_its_name(tmp_path):
    publish(tmp_path)
    edit_manifest(tmp_path, lambda content: content["meta"].update(count=4))
    with pytest.raises(CorruptGenerationError, match="does not match its name"):
        open_generation(tmp_path, "store")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("files"), "files: Field required"),
        (lambda content: content.update(extra=1), "extra"),
        (lambda content: content.update(format_version=2), "format version 2, this program reads 1"),
        (lambda content: content["files"].update(x={"size": -1, "sha256": ""}), "files"),
    ],
)
def test_a_manifest_of_another_shape_is_refused(tmp_path, change, message):
    publish(tmp_path)
    edit_manifest(tmp_path, change)
    with pytest.raises(CorruptGenerationError, match=message):
        open_generation(tmp_path, "store")


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "sub/../../secret", ""])
def test_a_listed_path_that_leads_out_is_refused(tmp_path, path):
    with GenerationWriter(tmp_path, kind="store") as writer:
        (writer.path / "a").write_text("x")
        name = writer.publish()
    manifest_path = tmp_path / "generations" / name / "manifest.json"
    content = json.loads(manifest_path.read_text())
    content["files"][path] = content["files"].pop("a")
    manifest_path.write_text(json.dumps(content))
    renamed = consistent_name(manifest_path)
    with pytest.raises(CorruptGenerationError, match="leads out of the generation"):
        open_generation(tmp_path, "store", renamed)


def consistent_name(manifest_path):
    """Renames a forged generation so that its name matches its content, as an attacker could."""
    from store.generation import Manifest, _name_of

    manifest = Manifest.model_validate_json(manifest_path.read_text())
    name = _name_of(manifest)
    manifest_path.write_text(manifest.model_copy(update={"name": name}).model_dump_json())
    manifest_path.parent.rename(manifest_path.parent.parent / name)
    return name
