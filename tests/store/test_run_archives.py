import hashlib
import os
import stat
import subprocess
import zipfile

import pytest
from fakes import results, runs

from harness.core.errors import BadInput, CannotMeasure
from harness.core.result import SCHEMA
from harness.store import run_archives
from harness.store.run_archives import SUMS, export_run, import_run, read_archive
from harness.store.runs import LAUNCHES, RESULT, Begun, Launched, RunFolder, Runs

IDENTITY = "20261124-201503-9f3a"


def saved(folder, identity=IDENTITY, **changes):
    """A run as 'harness run' leaves it, with logs and reports."""
    run = RunFolder(folder / identity)
    run.append(Begun(SCHEMA, identity, "run scenarios", "2026-11-24T20:15:03+00:00", 7, {}))
    run.append(Launched("tiny/plain-cpu-b1", "content", runs.even_run()))
    run.save(results.result(id=identity, **changes), {"report.html": b"<p>of another machine</p>", "summary.json": b"{}"})
    run.logs.mkdir()
    (run.logs / "worker-1.log").write_text("warm\n")
    return run


@pytest.fixture
def run(tmp_path):
    return saved(tmp_path / "there")


@pytest.fixture
def archive(run, tmp_path):
    return export_run(run, tmp_path / "run.zip")


@pytest.fixture
def here(tmp_path):
    return Runs(tmp_path / "here")


def rewritten(archive, change):
    """The same archive with ``change(name, data)`` in the place of every member; None leaves it out, a list adds more."""
    with zipfile.ZipFile(archive) as old:
        members = [(info, old.read(info)) for info in old.infolist()]
    with zipfile.ZipFile(archive, "w") as new:
        for info, data in members:
            for name, changed in change(info.filename, data) or ():
                other = zipfile.ZipInfo(name, info.date_time)
                other.external_attr = info.external_attr
                new.writestr(other, changed)
    return archive


def with_member(archive, name, data=b"x", *, mode=stat.S_IFREG | 0o644, listed=True):
    """The archive with one member more, in its list of digests too."""
    with zipfile.ZipFile(archive) as old:
        members = {info.filename: old.read(info) for info in old.infolist()}
    if listed:
        short = name.partition("/")[2] or name
        members[f"{IDENTITY}/{SUMS}"] += f"{hashlib.sha256(data).hexdigest()}  {short}\n".encode()
    with zipfile.ZipFile(archive, "w") as new:
        for known, content in members.items():
            new.writestr(known, content)
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        new.writestr(info, data)
    return archive


def test_a_run_arrives_whole_with_its_launches_and_logs(run, archive, here):
    folder, new = import_run(archive, here)
    assert new and folder.id == IDENTITY and folder.path.parent == here.folder
    assert folder.result() == run.result()
    for name in (RESULT, LAUNCHES, "logs/worker-1.log"):
        assert (folder.path / name).read_bytes() == (run.path / name).read_bytes()
    assert here.find(IDENTITY[:8]).id == IDENTITY


def test_pages_of_another_machine_do_not_travel(archive, here):
    with zipfile.ZipFile(archive) as opened:
        assert sorted(opened.namelist()) == sorted(f"{IDENTITY}/{name}" for name in (SUMS, LAUNCHES, RESULT, "logs/worker-1.log"))
    folder, _ = import_run(archive, here)
    assert not (folder.path / "report.html").exists()


def test_the_same_run_is_the_same_file(run, archive, tmp_path):
    again = export_run(run, tmp_path / "again.zip")
    assert again.read_bytes() == archive.read_bytes()


def test_the_digests_are_as_sha256sum_reads_them(archive, tmp_path):
    zipfile.ZipFile(archive).extractall(tmp_path / "unzipped")
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", SUMS], cwd=tmp_path / "unzipped" / IDENTITY, capture_output=True, text=True, check=True
    )
    assert done.stdout.count(": OK") == 3


def test_a_second_import_changes_nothing(archive, here):
    first, _ = import_run(archive, here)
    (first.path / "report.html").write_text("rendered here")
    second, new = import_run(archive, here)
    assert (second, new) == (first, False)
    assert (first.path / "report.html").read_text() == "rendered here"


def test_another_run_of_the_same_id_is_refused_and_the_first_stays(archive, here, tmp_path):
    import_run(archive, here)
    other = export_run(saved(tmp_path / "elsewhere", seed=99), tmp_path / "other.zip")
    with pytest.raises(BadInput, match=f"run {IDENTITY} is there already, and result.json is not the same"):
        import_run(other, here)
    assert here.find(IDENTITY).result().seed == results.result().seed


def test_latest_stays_where_it_points(archive, here):
    here.create("20270101-000000-aaaa").append(Begun(SCHEMA, "20270101-000000-aaaa", "run x", "2027-01-01T00:00:00+00:00", 0, {}))
    import_run(archive, here)
    assert here.find("latest").id == "20270101-000000-aaaa"


def test_an_archive_is_read_without_a_trace(archive, run, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert read_archive(archive) == run.result()
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unfinished_run_is_not_exported(tmp_path, here):
    begun = here.create(IDENTITY)
    begun.append(Begun(SCHEMA, IDENTITY, "run scenarios", "2026-11-24T20:15:03+00:00", 7, {}))
    with pytest.raises(CannotMeasure, match="did not finish"):
        export_run(begun, tmp_path / "run.zip")
    assert not (tmp_path / "run.zip").exists()


def test_links_in_a_run_are_not_followed(run, tmp_path, here):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (run.path / "logs" / "link.log").symlink_to(secret)
    export_run(run, tmp_path / "run.zip")
    with zipfile.ZipFile(tmp_path / "run.zip") as opened:
        assert not [name for name in opened.namelist() if "link" in name]


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        (f"{IDENTITY}/../escaped", stat.S_IFREG),
        (f"{IDENTITY}/logs/../../escaped", stat.S_IFREG),
        ("/etc/escaped", stat.S_IFREG),
        ("other-run/result.json", stat.S_IFREG),
        (f"{IDENTITY}/logs\\..\\escaped", stat.S_IFREG),
        (f"{IDENTITY}/C:escaped", stat.S_IFREG),
        (f"{IDENTITY}/.hidden", stat.S_IFREG),
        (f"{IDENTITY}/logs/", stat.S_IFDIR),
        (f"{IDENTITY}/link", stat.S_IFLNK),
        (f"{IDENTITY}/pipe", stat.S_IFIFO),
        (f"{IDENTITY}/RESULT.JSON", stat.S_IFREG),
        (f"{IDENTITY}/report.html", stat.S_IFREG),
        (f"{IDENTITY}/a\x1b[31m", stat.S_IFREG),
    ],
)
def test_nothing_is_unpacked_of_an_archive_with_a_dangerous_name(archive, here, tmp_path, name, mode):
    with_member(archive, name, mode=mode | 0o644)
    before = sorted(path for path in tmp_path.rglob("*") if path != here.folder)
    with pytest.raises(BadInput, match="is not a run that can be taken over"):
        import_run(archive, here)
    assert sorted(path for path in tmp_path.rglob("*") if path != here.folder) == before
    assert list(here.folder.iterdir()) == []


def test_a_changed_byte_is_found(archive, here):
    rewritten(archive, lambda name, data: [(name, data.replace(b'"seed":', b'"seed" :') if name.endswith(RESULT) else data)])
    with pytest.raises(BadInput, match=r"result.json is not what SHA256SUMS says"):
        import_run(archive, here)
    assert list(here.folder.iterdir()) == []


@pytest.mark.parametrize("missing", [SUMS, RESULT, LAUNCHES])
def test_an_archive_without_one_of_its_parts_is_refused(archive, here, missing):
    rewritten(archive, lambda name, data: None if name.endswith(missing) else [(name, data)])
    with pytest.raises(BadInput, match=f"it has no {missing}"):
        import_run(archive, here)


def test_a_file_that_the_list_does_not_name_is_refused(archive, here):
    with_member(archive, f"{IDENTITY}/extra.txt", listed=False)
    with pytest.raises(BadInput, match=r"do not agree on extra.txt"):
        import_run(archive, here)


def test_a_folder_named_for_another_run_is_refused(archive, here):
    rewritten(archive, lambda name, data: [(name.replace(IDENTITY, "20261124-201503-0000"), data)])
    with pytest.raises(BadInput, match="its folder is named 20261124-201503-0000"):
        import_run(archive, here)


def test_a_result_of_another_schema_is_refused(run, here, tmp_path):
    text = (run.path / RESULT).read_text().replace(f'"schema":{SCHEMA}', '"schema":99')
    (run.path / RESULT).write_text(text)
    with pytest.raises(CannotMeasure, match="schema 99"):
        export_run(run, tmp_path / "run.zip")


@pytest.mark.parametrize(("limit", "told"), [("MOST_BYTES", "GiB unpacked"), ("MOST_FILES", "files, of which at most 2")])
def test_an_archive_that_would_unpack_to_too_much_is_refused_before_it_is_unpacked(archive, here, monkeypatch, limit, told):
    monkeypatch.setattr(run_archives, limit, 2)
    with pytest.raises(BadInput, match=told):
        import_run(archive, here)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 torn", b"not a zip at all"])
def test_what_is_no_zip_is_refused(tmp_path, here, data):
    file = tmp_path / "run.zip"
    file.write_bytes(data)
    with pytest.raises(BadInput, match="is not a run that can be taken over"):
        import_run(file, here)


def test_a_torn_archive_is_refused(archive, here):
    os.truncate(archive, archive.stat().st_size // 2)
    with pytest.raises(BadInput, match="is not a run that can be taken over"):
        import_run(archive, here)


def test_a_list_of_digests_that_is_none_is_refused(archive, here):
    rewritten(archive, lambda name, data: [(name, b"hello\n" if name.endswith(SUMS) else data)])
    with pytest.raises(BadInput, match="a line that is no digest"):
        import_run(archive, here)
