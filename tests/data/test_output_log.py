"""The log of a folder knows what is finished, what may be replaced, and what is not ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_affmae.data.output_log import LOG, PLACES_LOG, OutputLog, Request, made_in
from napari_affmae.data.outputs import Outputs
from napari_affmae.errors import ConfigError, StorageError

SETTINGS = {"model_sha256": "abc", "settings": {"tile": 64, "refinement": {"specks": 0}}}


def request_for(folder: Path, name: str) -> Request:
    return Request(name, f"/images/{name}", Outputs(folder / f"{name}.tif", folder / f"{name}_probabilities.tif"))


def make(request: Request) -> None:
    for path in request.outputs.paths():
        path.write_text("pixels")


@pytest.fixture
def requests(tmp_path: Path) -> list[Request]:
    """One finished, one begun with its files in place, one never heard of."""
    done, begun, new = (request_for(tmp_path, name) for name in ("done", "begun", "new"))
    log = OutputLog(tmp_path)
    for request in (done, begun):
        log.begin(request, SETTINGS)
        make(request)
    log.finish(done, {"areas": []})
    return [done, begun, new]


def test_what_is_left_and_what_may_be_replaced(tmp_path: Path, requests: list[Request]) -> None:
    done, begun, new = requests
    log = OutputLog(tmp_path)
    assert log.to_do(requests, SETTINGS, resume=True, overwrite=False) == [(begun, True), (new, False)]
    assert log.to_do(requests, SETTINGS, resume=False, overwrite=True) == [(done, True), (begun, True), (new, True)]
    with pytest.raises(StorageError, match=r"done.tif and 3 more are there already.*--resume.*--overwrite"):
        log.to_do(requests, SETTINGS, resume=False, overwrite=False)
    assert [line["name"] for line in log.finished()] == ["done"]


def test_what_an_image_has_under_other_names_goes_when_the_new_is_there(tmp_path: Path, requests: list[Request]) -> None:
    now = Request("done", requests[0].source, Outputs(tmp_path / "done.tif"))
    before = tmp_path / "done_probabilities.tif"
    OutputLog(tmp_path).begin(now, SETTINGS)
    assert before.exists(), "whoever stops here keeps what there was"
    assert before.name in made_in(tmp_path)
    log = OutputLog(tmp_path)
    log.begin(now, SETTINGS)
    log.finish(now, {"areas": []})
    assert sorted(path.name for path in tmp_path.glob("done*")) == ["done.tif"]
    assert before.name not in made_in(tmp_path)


def test_what_another_image_has_or_lies_elsewhere_stays(tmp_path: Path, requests: list[Request]) -> None:
    taken = Request("new", "/images/new", requests[0].outputs)
    outside = tmp_path / "precious.tif"
    outside.touch()
    log = OutputLog(tmp_path / "out")
    log.begin(Request("a", "/images/a", Outputs(tmp_path / "out" / ".." / "precious.tif")), SETTINGS)
    log.finish(Request("a", "/images/a", Outputs(tmp_path / "out" / "a.tif")), {"areas": []})
    assert outside.exists()
    log = OutputLog(tmp_path)
    log.begin(taken, SETTINGS)
    renamed = Request("done", "/images/done", Outputs(tmp_path / "other.tif"))
    log.begin(renamed, SETTINGS)
    log.finish(renamed, {"areas": []})
    assert all(path.exists() for path in requests[0].outputs.paths())


def test_what_an_image_has_under_other_names_is_in_the_way(tmp_path: Path, requests: list[Request]) -> None:
    zarr = Request("done", requests[0].source, Outputs(tmp_path / "done.ome.zarr"))
    log = OutputLog(tmp_path)
    with pytest.raises(StorageError, match=r"done.tif and 1 more are there already"):
        log.to_do([zarr], SETTINGS, resume=False, overwrite=False)
    with pytest.raises(ConfigError, match="go on with the same settings"):
        log.to_do([zarr], {**SETTINGS, "settings": {"format": "ome-zarr"}}, resume=True, overwrite=False)
    assert log.to_do([zarr], SETTINGS, resume=True, overwrite=False) == [(zarr, True)]


def test_a_file_that_went_missing_is_made_again(tmp_path: Path, requests: list[Request]) -> None:
    (tmp_path / "done_probabilities.tif").unlink()
    left = OutputLog(tmp_path).to_do(requests[:1], SETTINGS, resume=True, overwrite=False)
    assert left == [(requests[0], True)]


def test_a_strangers_file_is_in_the_way(tmp_path: Path, requests: list[Request]) -> None:
    make(requests[2])
    with pytest.raises(StorageError, match=r"new.tif and 1 more are there already; choose another folder, or pass --overwrite"):
        OutputLog(tmp_path).to_do(requests, SETTINGS, resume=True, overwrite=False)


def test_other_settings_are_named(tmp_path: Path, requests: list[Request]) -> None:
    other = {**SETTINGS, "settings": {"tile": 64, "refinement": {"specks": 7}}}
    log = OutputLog(tmp_path)
    with pytest.raises(ConfigError, match=r"made with --specks 0, and now it is 7"):
        log.to_do(requests, other, resume=True, overwrite=False)
    assert log.made_with(SETTINGS)
    assert not log.made_with(other)
    assert not OutputLog(tmp_path / "nowhere").made_with(SETTINGS)


def test_lines_that_were_cut_do_not_count_and_do_no_harm(tmp_path: Path, requests: list[Request]) -> None:
    with (tmp_path / LOG).open("a") as file:
        file.write('{"name": "begun", "state": "do')
    log = OutputLog(tmp_path)
    assert len(log.to_do(requests, SETTINGS, resume=True, overwrite=False)) == 2
    log.begin(requests[2], SETTINGS)
    log.finish(requests[2], {"areas": []})
    assert [line["name"] for line in OutputLog(tmp_path).finished()] == ["done", "new"]


def test_a_log_that_was_begun_for_nothing_goes_away(tmp_path: Path) -> None:
    log = OutputLog(tmp_path / "out")
    log.begin(request_for(tmp_path / "out", "a"), SETTINGS)
    log.forget_if_empty()
    assert not (tmp_path / "out" / LOG).exists()


def test_what_both_jobs_made_is_known_and_a_broken_log_hides_nothing_of_the_other(tmp_path: Path) -> None:
    for name, image in ((LOG, "one"), (PLACES_LOG, "two")):
        OutputLog(tmp_path, name).begin(request_for(tmp_path, image), SETTINGS)
    one, two = ({f"{name}{more}.tif": f"/images/{name}" for more in ("", "_probabilities")} for name in ("one", "two"))
    assert made_in(tmp_path) == one | two
    (tmp_path / LOG).write_bytes(b"\xff\xfe")
    assert made_in(tmp_path) == two
