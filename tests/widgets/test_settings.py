"""Settings come back, and a broken file is no disaster."""

from __future__ import annotations

from napari_affmae.widgets.settings_store import DockSettings, SettingsStore
from napari_affmae.widgets.state import add_class


def test_settings_come_back(tmp_path):
    store = SettingsStore(tmp_path / "deep" / "dock.json")
    assert store.load() == DockSettings()
    settings = DockSettings(folder="/images", preset="small", tile=512, minutes=3.5, classes=add_class(DockSettings().classes))
    store.save(settings)
    assert SettingsStore(store.path).load() == settings


def test_a_broken_file_starts_over(tmp_path, caplog):
    path = tmp_path / "dock.json"
    for text in ("{", '{"minutes": -1}', '{"of another version": 1}'):
        path.write_text(text)
        assert SettingsStore(path).load() == DockSettings()
    assert "start over" in caplog.text


def test_a_tile_of_an_earlier_version_stays_chosen(make_dock, tmp_path):
    SettingsStore(tmp_path / "settings" / "dock.json").save(DockSettings(tile=96))
    assert make_dock().pretrain.tile.currentData() == 96


def test_a_read_only_home_disturbs_nobody(tmp_path, caplog):
    blocker = tmp_path / "file"
    blocker.write_text("")
    SettingsStore(blocker / "dock.json").save(DockSettings())
    assert "could not be kept" in caplog.text


def test_the_dock_remembers(make_dock, image_folder, click, wait_idle, qtbot):
    dock = make_dock()
    dock.pretrain.tile.setCurrentIndex(dock.pretrain.tile.findData(512))
    dock.pretrain.minutes.setValue(7.5)
    dock.label.brush.setValue(33)
    click(dock.label.panel.add)
    dock.images.folder.set_text(str(image_folder))
    dock.images._render()
    click(dock.images.scan)
    wait_idle(dock)
    dock.shut_down()
    again = make_dock(dock._viewer)
    assert again.images.folder.text() == str(image_folder)
    assert again.pretrain.tile.currentData() == 512
    assert again.pretrain.minutes.value() == 7.5
    assert again.label.brush.value() == 33
    assert again.label.classes.rowCount() == 3
