"""The pixel size is found in every dialect, and never taken from a printer's resolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_affmae.card import PixelSize
from napari_affmae.data.pixel_size import pixel_size, same_pixel_size
from napari_affmae.data.scan import scan

IMAGE = np.arange(200, dtype=np.uint8).reshape(10, 20)


def stated(path: Path) -> tuple[float, float] | None:
    size = scan(path).pixel_size
    return None if size is None else size.nanometres()


@pytest.mark.parametrize(("unit", "nanometres"), [("um", 1e3), ("micron", 1e3), ("\\u00B5m", 1e3), ("nm", 1.0), ("mm", 1e6)])
def test_imagej(tmp_path: Path, unit: str, nanometres: float) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, imagej=True, resolution=(4, 8), metadata={"unit": unit})
    assert stated(tmp_path) == pytest.approx((0.125 * nanometres, 0.25 * nanometres))


def test_imagej_in_pixels_states_nothing(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, imagej=True, resolution=(1, 1), metadata={"unit": "pixel"})
    assert stated(tmp_path) is None


@pytest.mark.parametrize(("unit", "nanometres"), [("µm", 1e3), ("nm", 1.0), ("Å", 0.1)])
def test_ome(tmp_path: Path, unit: str, nanometres: float) -> None:
    metadata = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    tifffile.imwrite(tmp_path / "a.ome.tif", IMAGE, metadata=metadata)
    assert stated(tmp_path) == pytest.approx((0.25 * nanometres, 0.5 * nanometres))


def test_a_number_that_is_none_costs_the_size_and_not_the_image(tmp_path: Path) -> None:
    metadata = {"axes": "YX", "PhysicalSizeX": "0,325", "PhysicalSizeY": "0,325"}
    tifffile.imwrite(tmp_path / "a.ome.tif", IMAGE, metadata=metadata)
    assert b"0,325" in (tmp_path / "a.ome.tif").read_bytes()
    assert stated(tmp_path) is None


@pytest.mark.parametrize(
    ("unit", "nanometres"), [("picometer", 1e-3), ("angstrom", 0.1), ("nanometer", 1.0), ("centimeter", 1e7), ("meter", 1e9)]
)
def test_units_of_ome_zarr(unit: str, nanometres: float) -> None:
    size = pixel_size(2, 3, unit)
    assert size is not None
    assert size.nanometres() == pytest.approx((2 * nanometres, 3 * nanometres))


def test_plain_resolution_in_centimetres(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, resolution=(1e4 / 0.02, 1e4 / 0.02), resolutionunit="CENTIMETER")
    assert stated(tmp_path) == pytest.approx((20, 20))


@pytest.mark.parametrize("dpi", [72, 96, 300, 600, 1200, 2400])
def test_printers_are_not_believed(tmp_path: Path, dpi: int) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, resolution=(dpi, dpi), resolutionunit="INCH")
    Image.fromarray(IMAGE).save(tmp_path / "a.png", dpi=(dpi, dpi))
    Image.fromarray(IMAGE).save(tmp_path / "a.jpg", dpi=(dpi, dpi))
    for unit, side in (("inch", 1.0), ("cm", 2.54)):
        per = dpi / side
        tifffile.imwrite(tmp_path / f"{unit}.tif", IMAGE, imagej=True, resolution=(per, per), metadata={"unit": unit})
    assert [record.pixel_size for record in scan(tmp_path).records] == [None] * 5


def test_png_that_means_it(tmp_path: Path) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png", dpi=(25.4e6 / 50, 25.4e6 / 100))  # 50 nm wide, 100 nm high
    assert stated(tmp_path) == pytest.approx((100, 50), rel=1e-3)


def test_electron_microscopes(tmp_path: Path) -> None:
    fei = "[Scan]\r\nPixelWidth=4.5e-009\r\nPixelHeight=5e-009\r\n"
    tifffile.imwrite(tmp_path / "fei.tif", IMAGE, extratags=[(34682, "s", 0, fei, True)])
    zeiss = "\r\n0\r\n0\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 7.25 nm\r\n"
    tifffile.imwrite(tmp_path / "zeiss.tif", IMAGE, extratags=[(34118, "s", 0, zeiss, True)])
    assert stated(tmp_path / "fei.tif") == pytest.approx((5, 4.5))
    assert stated(tmp_path / "zeiss.tif") == pytest.approx((7.25, 7.25))


def test_a_collection_states_a_size_only_if_its_images_agree(tmp_path: Path) -> None:
    for name, pixels_per_um in (("a", 4), ("b", 4.0001)):
        tifffile.imwrite(tmp_path / f"{name}.tif", IMAGE, imagej=True, resolution=(pixels_per_um,) * 2, metadata={"unit": "um"})
    Image.fromarray(IMAGE).save(tmp_path / "c.png")
    assert stated(tmp_path) == pytest.approx((250, 250))
    assert "250 nm per pixel" in scan(tmp_path).describe()
    tifffile.imwrite(tmp_path / "d.tif", IMAGE, imagej=True, resolution=(2, 2), metadata={"unit": "um"})
    assert stated(tmp_path) is None
    assert "pixel sizes differ" in scan(tmp_path).describe()


def test_senseless_sizes_are_no_sizes() -> None:
    assert pixel_size(0, 1, "um") is None
    assert pixel_size(1, float("nan"), "um") is None
    assert pixel_size(1, 1, "furlong") is None
    assert same_pixel_size(PixelSize(y=4, x=4, unit="nanometer"), PixelSize(y=0.004, x=0.004, unit="micrometer"))
    assert not same_pixel_size(PixelSize(y=4, x=4), PixelSize(y=4, x=5))
