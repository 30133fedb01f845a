import json

import pytest

from store.errors import CorruptGenerationError, MissingGenerationError, StoreIOError
from store.publishing.generation import GenerationWriter, current_name, open_generation
from store.publishing.manifest import Manifest, name_of


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
    with pytest.raises(MissingGenerationError, match=r"nowhere: no such folder.*lookback-store ingest"):
        open_generation(tmp_path / "nowhere", "store")
    with pytest.raises(MissingGenerationError, match=r"CURRENT: no such file.*lookback-store ingest"):
        open_generation(tmp_path, "store")
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


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("../secret", "leads out of the generation"),
        ("/etc/passwd", "leads out of the generation"),
        ("sub/../../secret", "leads out of the generation"),
        ("sub/..", "leads out of the generation"),
        ("..\\secret", "leads out of the generation"),
        ("", "leads out of the generation"),
        (".", "leads out of the generation"),
        ("a\x00", "cannot be printed"),
        ("a\n", "cannot be printed"),
        ("./a", "another way to write 'a'"),
        ("sub//a", "another way to write 'sub/a'"),
        ("a/", "another way to write 'a'"),
        ("sub/./a", "another way to write 'sub/a'"),
    ],
)
@pytest.mark.parametrize("check_content", [True, False])
def test_a_listed_path_that_is_no_plain_one_is_refused(tmp_path, path, told, check_content):
    with GenerationWriter(tmp_path, kind="store") as writer:
        (writer.path / "a").write_text("x")
        name = writer.publish()
    manifest_path = tmp_path / "generations" / name / "manifest.json"
    content = json.loads(manifest_path.read_text())
    content["files"][path] = content["files"]["a"]
    manifest_path.write_text(json.dumps(content))
    renamed = consistent_name(manifest_path)
    with pytest.raises(CorruptGenerationError, match=told) as caught:
        open_generation(tmp_path, "store", renamed, check_content=check_content)
    assert str(tmp_path / "generations" / renamed / "manifest.json") in str(caught.value)


@pytest.mark.parametrize("repeated", ['"sub/a.txt": {"size": 1, "sha256": ""}, ', '"kind": "index", '])
def test_a_key_that_stands_twice_is_refused(tmp_path, repeated):
    path = open_generation(tmp_path, "store", publish(tmp_path)).path / "manifest.json"
    key = repeated.split(":")[0]
    content = json.dumps(json.loads(path.read_text())).replace(key, repeated + key, 1)
    path.write_text(content.replace('""', f'"{"0" * 64}"'))
    with pytest.raises(CorruptGenerationError, match=f"{key.strip(chr(34))}' stands there twice"):
        open_generation(tmp_path, "store")


def file_link(folder, elsewhere):
    elsewhere.write_text("x")
    (folder / "unlisted").symlink_to(elsewhere)


def folder_link(folder, elsewhere):
    (folder / "sub").rename(elsewhere)
    (folder / "sub").symlink_to(elsewhere)


def whole_link(folder, elsewhere):
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)


def manifest_link(folder, elsewhere):
    (folder / "manifest.json").rename(elsewhere)
    (folder / "manifest.json").symlink_to(elsewhere)


@pytest.mark.parametrize("link", [file_link, folder_link, whole_link, manifest_link])
def test_a_symbolic_link_anywhere_is_refused(tmp_path, link):
    link(open_generation(tmp_path, "store", publish(tmp_path)).path, tmp_path / "elsewhere")
    with pytest.raises(CorruptGenerationError, match="symbolic link"):
        open_generation(tmp_path, "store")


def consistent_name(manifest_path):
    """Renames a forged generation so that its name matches its content, as an attacker could."""
    manifest = Manifest.model_validate_json(manifest_path.read_text())
    name = name_of(manifest)
    manifest_path.write_text(manifest.model_copy(update={"name": name}).model_dump_json())
    manifest_path.parent.rename(manifest_path.parent.parent / name)
    return name
