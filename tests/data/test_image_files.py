"""Every format and data type comes back as it went in; every broken file says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_affmae.card import PixelSize
from napari_affmae.data.image_file import open_image_file
from napari_affmae.data.scan import scan
from napari_affmae.errors import DataError

RNG = np.random.default_rng(0)
DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]


def noise(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    if np.dtype(dtype).kind == "f":
        return RNG.normal(0, 10, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def read_only(path: Path) -> np.ndarray:
    (record,) = scan(path).records
    return record.read()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_grey_tiff_round_trip(tmp_path: Path, dtype: str, byteorder: str, compression: str | None) -> None:
    image = noise((13, 17), dtype)
    tifffile.imwrite(tmp_path / "a.tif", image, byteorder=byteorder, compression=compression)
    pixels = read_only(tmp_path / "a.tif")
    assert pixels.dtype == np.dtype(dtype)
    assert pixels.dtype.isnative
    np.testing.assert_array_equal(pixels[..., 0], image)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_rgb_tiff_round_trip(tmp_path: Path, planar: str, dtype: str) -> None:
    image = noise((13, 17, 3), dtype)
    stored = image if planar == "contig" else np.moveaxis(image, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    np.testing.assert_array_equal(read_only(tmp_path / "a.tif"), image)


@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha", "unspecified"])
def test_rgba_tiff_drops_alpha(tmp_path: Path, extra: str) -> None:
    image = noise((13, 17, 4))
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", extrasamples=[extra])
    np.testing.assert_array_equal(read_only(tmp_path / "a.tif"), image[..., :3])


def test_grey_tiff_drops_alpha(tmp_path: Path) -> None:
    image = noise((13, 17, 2))
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_only(tmp_path / "a.tif"), image[..., :1])


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("imagej", [True, False])
def test_every_plane_of_a_stack_is_an_image(tmp_path: Path, compression: str | None, imagej: bool) -> None:
    stack = noise((5, 13, 17), "uint16")
    metadata = {"axes": "ZYX"} if imagej else None
    imagej = imagej and compression is None
    tifffile.imwrite(
        tmp_path / "s.tif", stack, imagej=imagej, compression=compression, metadata=metadata, photometric="minisblack"
    )
    records = scan(tmp_path).records
    assert [record.name for record in records] == [f"s.tif[{i}]" for i in range(5)]
    for record, plane in zip(records, stack, strict=True):
        np.testing.assert_array_equal(record.read()[..., 0], plane)


def test_pages_written_one_by_one_and_of_several_sizes(tmp_path: Path) -> None:
    images = [noise((13, 17)), noise((13, 17)), noise((9, 30))]
    with tifffile.TiffWriter(tmp_path / "s.tif") as writer:
        for image in images:
            writer.write(image, contiguous=False, photometric="minisblack", metadata=None)
    records = scan(tmp_path).records
    assert len(records) == 3
    for record, image in zip(records, images, strict=True):
        np.testing.assert_array_equal(record.read()[..., 0], image)


@pytest.mark.parametrize("kind", ["imagej", "ome", "ome compressed", "tifffile", "plain"])
def test_channel_axis_stays_with_its_plane(tmp_path: Path, kind: str) -> None:
    stack = noise((3, 2, 13, 17), "uint16")
    metadata = None if kind == "plain" else {"axes": "ZCYX"}
    path = tmp_path / ("a.ome.tif" if "ome" in kind else "a.tif")
    tifffile.imwrite(
        path,
        stack,
        imagej=kind == "imagej",
        ome="ome" in kind,
        metadata=metadata,
        photometric="minisblack",
        compression="zlib" if "compressed" in kind else None,
    )
    collection = scan(path)
    if kind == "plain":  # a TIFF without metadata TIFF keeps no axes: planes are images
        assert (len(collection), collection.channels) == (6, 1)
        return
    assert (len(collection), collection.channels) == (3, 2)
    for record, planes in zip(collection.records, stack, strict=True):
        np.testing.assert_array_equal(record.read(), np.moveaxis(planes, 0, -1))


@pytest.mark.parametrize("axes", ["CZYX", "TZCYX", "CYX"])
def test_ome_axes_in_any_order(tmp_path: Path, axes: str) -> None:
    sizes = {"T": 2, "Z": 3, "C": 2, "Y": 13, "X": 17}
    stack = noise(tuple(sizes[axis] for axis in axes), "uint16")
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata={"axes": axes}, photometric="minisblack")
    outer = [axis for axis in axes if axis in "TZ"]
    expected = stack.transpose([axes.index(axis) for axis in [*outer, "Y", "X", "C"]]).reshape(-1, 13, 17, 2)
    records = scan(tmp_path).records
    assert len(records) == len(expected)
    for record, image in zip(records, expected, strict=True):
        np.testing.assert_array_equal(record.read(), image)


def test_each_of_several_files_of_one_stack_holds_its_own_plane(tmp_path: Path) -> None:
    stack = noise((3, 13, 17))
    for number, plane in enumerate(stack):
        places = "".join(
            f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{z}.ome.tif">urn:uuid:{z}</UUID></TiffData>'
            for z in range(len(stack))
        )
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{number}"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="17" SizeY="13" SizeZ="3" SizeC="1" SizeT="1" '
            'PhysicalSizeX="4" PhysicalSizeY="4" PhysicalSizeXUnit="nm" PhysicalSizeYUnit="nm">'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{places}</Pixels></Image></OME>'
        )
        tifffile.imwrite(tmp_path / f"{number}.ome.tif", plane, description=xml, metadata=None, photometric="minisblack")
    records = scan(tmp_path).records
    assert [record.name for record in records] == ["0.ome.tif", "1.ome.tif", "2.ome.tif"]
    for record, plane in zip(records, stack, strict=True):
        np.testing.assert_array_equal(record.read()[..., 0], plane)
        assert record.pixel_size == PixelSize(y=4, x=4, unit="nanometer")


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "group4"])
def test_compressed_tiff_of_other_programs(tmp_path: Path, compression: str) -> None:
    image = noise((40, 50)) > 127 if compression == "group4" else noise((40, 50))
    Image.fromarray(image).save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(read_only(tmp_path / "a.tif")[..., 0], image)


@pytest.mark.parametrize("compression", ["lzw", "zstd", "packbits"])
@pytest.mark.parametrize("kind", ["planar", "16-bit colours", "white is zero", "five samples"])
def test_compressed_tiff_holds_what_an_uncompressed_one_holds(tmp_path: Path, kind: str, compression: str) -> None:
    image, settings = {
        "planar": (noise((3, 13, 17)), {"photometric": "rgb", "planarconfig": "separate"}),
        "16-bit colours": (noise((13, 17, 3), "uint16"), {"photometric": "rgb"}),
        "white is zero": (noise((13, 17)), {"photometric": "miniswhite"}),
        "five samples": (noise((13, 17, 5)), {"photometric": "minisblack", "planarconfig": "contig"}),
    }[kind]
    tifffile.imwrite(tmp_path / "plain.tif", image, **settings)
    tifffile.imwrite(tmp_path / "packed.tif", image, compression=compression, **settings)
    np.testing.assert_array_equal(read_only(tmp_path / "packed.tif"), read_only(tmp_path / "plain.tif"))


def test_a_compression_that_nobody_reads_costs_its_own_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise((13, 17)))
    tifffile.imwrite(tmp_path / "b.tif", noise((13, 17)), compression="zstd")

    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'compression'")

    monkeypatch.setattr(tifffile.TiffFile, "asarray", missing)
    collection = scan(tmp_path)
    assert [record.name for record in collection.records] == ["a.tif"]
    assert "compression ZSTD cannot be read" in collection.skipped[0].reason


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 3), ("LA", 1), ("P", 3), ("1", 1), ("I;16", 1)])
def test_png_modes(tmp_path: Path, mode: str, channels: int) -> None:
    if mode == "I;16":
        picture = Image.fromarray(noise((13, 17), "uint16"))
    elif mode in ("P", "1"):
        picture = Image.fromarray(noise((13, 17, 3))).convert(mode)
    else:
        depth = len(mode)
        picture = Image.fromarray(noise((13, 17) if depth == 1 else (13, 17, depth)), mode=None)
    assert picture.mode == mode
    picture.save(tmp_path / "a.PNG")
    pixels = read_only(tmp_path / "a.PNG")
    assert pixels.shape == (13, 17, channels)
    if mode in ("L", "RGB", "I;16"):
        np.testing.assert_array_equal(pixels.squeeze(), np.asarray(picture))
    if mode in ("RGBA", "LA"):
        np.testing.assert_array_equal(pixels, np.asarray(picture)[..., :channels])
    if mode == "P":
        np.testing.assert_array_equal(pixels, np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits_keeps_them(tmp_path: Path, channels: int) -> None:
    image = noise((13, 17, channels), "uint16")
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(image))
    np.testing.assert_array_equal(read_only(tmp_path / "a.png"), image[..., : {2: 1, 4: 3}.get(channels)])


def test_palette_ids_are_kept_for_labels(tmp_path: Path) -> None:
    ids = RNG.integers(0, 4, (13, 17), dtype=np.uint8)
    picture = Image.fromarray(ids)
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.save(tmp_path / "a.png")
    with open_image_file(tmp_path / "a.png", ids=True) as file:
        np.testing.assert_array_equal(file.read(0)[..., 0], ids)


@pytest.mark.parametrize(("suffix", "mode"), [(".jpg", "L"), (".JPEG", "RGB"), (".jpeg", "CMYK")])
def test_jpeg(tmp_path: Path, suffix: str, mode: str) -> None:
    Image.fromarray(noise((32, 48, 3))).convert(mode).save(tmp_path / f"a{suffix}", format="JPEG")
    assert read_only(tmp_path / f"a{suffix}").shape == (32, 48, 1 if mode == "L" else 3)


def test_a_picture_under_the_wrong_suffix_is_still_read(tmp_path: Path) -> None:
    Image.fromarray(noise((32, 48))).save(tmp_path / "a.jpg", format="PNG")
    assert read_only(tmp_path / "a.jpg").shape == (32, 48, 1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3)])
def test_tiny_images(tmp_path: Path, shape: tuple[int, int]) -> None:
    image = np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape)
    for name in ("a.tif", "b.png"):
        if name.endswith("tif"):
            tifffile.imwrite(tmp_path / name, image, photometric="minisblack")
        else:
            Image.fromarray(image).save(tmp_path / name)
        with open_image_file(tmp_path / name) as file:
            np.testing.assert_array_equal(file.read(0)[..., 0], image)


def broken(kind: str, path: Path) -> None:
    """Write a file that is broken in one way."""
    image = noise((200, 300), "uint16")
    if kind.startswith("truncated png"):
        Image.fromarray(image).save(path)
    elif kind.startswith("truncated jpeg"):
        Image.fromarray((image >> 8).astype(np.uint8)).save(path, format="JPEG")
    elif kind.startswith("truncated tiff"):
        tifffile.imwrite(path, image, compression="zlib" if "compressed" in kind else None)
    if kind.startswith("truncated"):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * int(kind.split()[-1].rstrip("%")) // 100])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("these are not the pixels you are looking for\n" * 20)
    elif kind == "garbage after a good header":
        if path.suffix == ".tif":
            path.write_bytes(b"II*\0" + RNG.bytes(3000))
        else:
            path.write_bytes(b"\x89PNG\r\n\x1a\n" + RNG.bytes(3000))
    elif kind == "constant":
        tifffile.imwrite(path, np.full((20, 30), 7, np.uint8))
    elif kind in ("nan", "inf"):
        values = noise((20, 30), "float32")
        values[3, 4:6] = np.nan if kind == "nan" else -np.inf
        tifffile.imwrite(path, values)
    elif kind == "complex":
        tifffile.imwrite(path, noise((20, 30), "float32") + 1j)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("kind", "suffix", "words"),
    [
        ("empty", ".png", "empty"),
        ("empty", ".tif", "empty"),
        ("text", ".png", "no image"),
        ("text", ".jpg", "no image"),
        ("text", ".tif", "not an image"),
        ("garbage after a good header", ".png", "damaged"),
        ("garbage after a good header", ".tif", "damaged"),
        ("truncated png 60%", ".png", "truncated"),
        ("truncated png 3%", ".png", "damaged"),
        ("truncated jpeg 60%", ".jpg", "truncated"),
        ("truncated tiff 60%", ".tif", "truncated"),
        ("truncated tiff compressed 60%", ".tif", "truncated"),
        ("truncated tiff 0%", ".tif", "empty"),
        ("constant", ".tif", "constant: every value is 7"),
        ("nan", ".tif", "2 of 600 values are NaN or infinite"),
        ("inf", ".tif", "2 of 600 values are NaN or infinite"),
        ("complex", ".tif", "complex"),
    ],
)
def test_a_broken_file_says_what_is_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, suffix: str, words: str
) -> None:
    broken(kind, tmp_path / f"bad{suffix}")
    with pytest.raises(DataError, match=words) as caught:
        scan(tmp_path)
    assert f"bad{suffix}" in str(caught.value)
    # With a good neighbour the bad file is merely skipped.
    tifffile.imwrite(tmp_path / "good.tif", noise((20, 30)))
    collection = scan(tmp_path)
    assert [record.name for record in collection.records] == ["good.tif"]
    assert [item.name for item in collection.skipped] == [f"bad{suffix}"]
    assert words in collection.skipped[0].reason
    assert not caplog.records, "what the libraries had to say about it stays with them"


def test_random_damage_never_raises_anything_but_data_errors(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    tifffile.imwrite(tmp_path / "a.tif", noise((4, 40, 50), "uint16"), compression="zlib", photometric="minisblack")
    Image.fromarray(noise((40, 50, 3))).save(tmp_path / "a.png")
    Image.fromarray(noise((40, 50, 3))).save(tmp_path / "a.jpg")
    reasons = []
    for source in sorted(tmp_path.iterdir()):
        data = source.read_bytes()
        target = tmp_path / f"damaged{source.suffix}"
        for _ in range(60):
            changed = np.frombuffer(data, np.uint8).copy()
            # Damage the beginning most of the time: headers hold the most ways to go wrong.
            places = rng.integers(0, len(data) if rng.random() < 0.3 else min(400, len(data)), 5)
            changed[places] = rng.integers(0, 256, 5)
            target.write_bytes(changed.tobytes())
            try:
                for record in scan(target).records:
                    assert record.read().shape == (record.height, record.width, record.channels)
            except DataError as error:
                reasons.append(str(error))
    assert len(reasons) > 20, "the damage must not be harmless"
    assert all("damaged." in reason for reason in reasons)


def test_a_good_page_survives_its_bad_neighbour(tmp_path: Path) -> None:
    stack = noise((3, 20, 30), "float32")
    stack[1, 0, 0] = np.nan
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="minisblack")
    collection = scan(tmp_path)
    assert [record.name for record in collection.records] == ["s.tif[0]", "s.tif[2]"]
    assert collection.skipped[0].name == "s.tif[1]"


def test_what_a_cut_stack_has_lost_is_told(tmp_path: Path) -> None:
    stack = noise((6, 40, 50))
    tifffile.imwrite(tmp_path / "s.tif", stack, compression="zlib", photometric="minisblack")
    whole = (tmp_path / "s.tif").read_bytes()
    for part in (0.4, 0.66, 0.9):
        (tmp_path / "s.tif").write_bytes(whole[: int(part * len(whole))])
        collection = scan(tmp_path)
        assert collection.skipped[-1].reason.startswith("truncated"), part
        for record in collection.records:
            assert any(np.array_equal(record.read()[..., 0], plane) for plane in stack)


def test_reading_a_file_that_vanished_or_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((20, 30)))
    (record,) = scan(path).records
    tifffile.imwrite(path, noise((21, 30)))
    with pytest.raises(DataError, match=r"a\.tif: expected 20 × 30 .* 21 × 30"):
        record.read()
    path.unlink()
    with pytest.raises(DataError, match=r"a\.tif: the file is not there"):
        record.read()
