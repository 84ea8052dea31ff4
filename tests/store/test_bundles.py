import io
import stat
import tarfile
import zipfile

import pytest

from harness.core.errors import BadInput, CannotMeasure
from harness.store.bundles import differences, files_of, is_taken, opened, pack, read_sums, stem_of, write_sums


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "made"
    (made / "raw").mkdir(parents=True)
    (made / "raw" / "a.csv").write_text("1,2\n" * 1_000)
    (made / "b.txt").write_text("b")
    return made


def test_a_list_names_what_changed_what_is_gone_and_what_came(folder):
    write_sums(folder)
    assert differences(folder, read_sums(folder)) == []
    (folder / "b.txt").write_text("c")
    (folder / "raw" / "a.csv").unlink()
    (folder / "d.txt").touch()
    assert differences(folder, read_sums(folder)) == [
        "b.txt: changed, its SHA-256 is not the one in SHA256SUMS",
        "raw/a.csv: listed in SHA256SUMS and missing",
        "d.txt: not listed in SHA256SUMS",
    ]


def test_a_list_that_is_none_is_refused_with_its_line(folder):
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  b.txt\nand so on\n")
    with pytest.raises(CannotMeasure, match="SHA256SUMS line 2"):
        read_sums(folder)


@pytest.mark.parametrize("ending", [".zip", ".tar.gz", ".tgz"])
def test_the_same_files_give_the_same_bytes_whenever_they_were_written(folder, tmp_path, ending):
    import os

    first = tmp_path / f"bundle{ending}"
    pack(folder, first)
    before = first.read_bytes()
    os.utime(folder / "b.txt", (1, 1))
    (folder / "b.txt").chmod(0o600)
    pack(folder, first)
    assert first.read_bytes() == before
    with opened(first) as unpacked:
        assert files_of(unpacked) == ["b.txt", "raw/a.csv"] and unpacked.name == "bundle"
        assert (unpacked / "raw" / "a.csv").read_bytes() == (folder / "raw" / "a.csv").read_bytes()


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "top/../../evil.txt", "evil.txt", "top\\evil.txt"])
def test_an_archive_that_would_write_elsewhere_is_refused(tmp_path, name):
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), "evil")
    with pytest.raises(BadInput, match="does not lie in the bundle's folder"), opened(path):
        pass
    assert not list(tmp_path.rglob("evil.txt"))


def test_links_in_an_archive_are_refused(tmp_path):
    path = tmp_path / "bundle.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("top/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(BadInput, match="is no plain file"), opened(path):
        pass
    zipped = tmp_path / "bundle.zip"
    with zipfile.ZipFile(zipped, "w") as made:
        info = zipfile.ZipInfo("top/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(info, "/etc/passwd")
    with pytest.raises(BadInput, match="is no plain file"), opened(zipped):
        pass


def test_a_link_in_a_folder_is_refused(folder):
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(CannotMeasure, match="is no plain file"):
        files_of(folder)


def test_a_file_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "bundle.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for text in (b"one", b"two"):
            info = tarfile.TarInfo("top/a.txt")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
    with pytest.raises(BadInput, match=r"holds 'top/a\.txt' twice"), opened(path):
        pass


@pytest.mark.parametrize("data", [b"", b"no archive", b"PK\x05\x06 torn"])
def test_what_is_no_archive_is_bad_input(tmp_path, data):
    path = tmp_path / "bundle.zip"
    path.write_bytes(data)
    with pytest.raises(BadInput, match="is no bundle that can be read"), opened(path):
        pass


def test_what_is_not_there_says_what_to_name(tmp_path):
    with pytest.raises(BadInput, match="does not exist"), opened(tmp_path / "none.zip"):
        pass


def test_an_empty_folder_is_free_and_anything_else_is_taken(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    assert not is_taken(tmp_path / "empty") and not is_taken(tmp_path / "none") and is_taken(folder) and is_taken(folder / "b.txt")
    assert stem_of(tmp_path / "a-1.4.tar.gz") == tmp_path / "a-1.4" and stem_of(tmp_path / "a-1.4") == tmp_path / "a-1.4"
