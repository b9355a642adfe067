"""Folders in KITTI's layout: what is read, and all that can be wrong with them."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evojax.data import DataError
from evojax.data.kitti import SceneList, load_kitti
from evojax.data.kitti.split import labelled, split, validation


def identifiers(scenes):
    return [entry.identifier for entry in scenes.entries]


def test_reads_what_the_lists_say_in_their_order(town):
    scenes = load_kitti(f"kitti:{town}")
    assert (scenes.name, scenes.skipped) == ("town", {})
    assert identifiers(scenes.train) == ["000003", "000000", "000001", "000002"]
    assert identifiers(scenes.test) == ["000005", "000004"]
    assert scenes.train.count("Car") == 8 and scenes.train.count("Van") == 0


def test_images_are_padded_at_the_right_and_below(town):
    image, objects, identifier = load_kitti(f"kitti:{town}").train[1]
    assert (identifier, image.shape, image.dtype) == ("000000", (384, 1248, 3), np.uint8)
    assert (image[:120, :200] > 0).any(-1).all()
    assert not image[120:].any() and not image[:, 200:].any()
    assert objects.distance.tolist() == [8, 30]
    assert objects.boxes.tolist() == [[10, 20, 60, 70], [100, 30, 120, 44]]
    for left, top, right, bottom in objects.boxes.astype(int):
        assert (image[top:bottom, left:right] == (230, 30, 20)).all()  # red, green, blue


def test_a_smaller_canvas_scales_images_and_boxes(town):
    whole, half = (
        load_kitti(f"kitti:{town}", height=h, width=w).train for h, w in ((384, 1248), (192, 624))
    )
    image, objects, _ = half[1]
    assert image.shape == (192, 624, 3)
    np.testing.assert_array_equal(objects.boxes, whole.objects(1).boxes / 2)
    np.testing.assert_array_equal(half.objects(1).boxes, objects.boxes)
    for left, top, right, bottom in objects.boxes.astype(int):
        assert (image[top:bottom, left:right] == (230, 30, 20)).all()
    assert not image[60:].any() and image[59, :100].any(-1).all()


def test_a_pixel_of_a_smaller_canvas_is_the_mean_of_those_it_covers(town, write):
    image = np.zeros((120, 200, 3), np.uint8)
    image[:, ::6] = 252
    write(town, "000000", image=image)
    small = load_kitti(f"kitti:{town}", height=64, width=208).train[1].image
    assert (small[:20, :33] == 252 / 6).all()


def test_a_note_that_the_camera_was_turned_is_overlooked(town):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (200, 120), "white").save(town / "image_2" / "000001.jpg", exif=exif)
    image = load_kitti(f"kitti:{town}").train[2].image
    assert image[119, 199].all() and not image[120:].any()


@pytest.mark.parametrize("size", [(192, 620), (200, 650), (400, 1300), (0, 0), (16, 52)])
def test_other_canvases_are_refused(town, size):
    with pytest.raises(DataError, match="384 x 1248 or less.*192 x 624"):
        load_kitti(f"kitti:{town}", height=size[0], width=size[1])
    with pytest.raises(DataError, match="384 x 1248 or less"):
        SceneList((), *size)


def test_subset_is_spread_over_the_training_list(town):
    half = load_kitti(f"kitti:{town}", subset=0.4)  # 1.6 of 4
    assert identifiers(half.train) == ["000003", "000001"] and len(half.test) == 2
    assert identifiers(load_kitti(f"kitti:{town}", subset=0.01).train) == ["000003"]
    for subset in (0, 1.1, float("nan")):
        with pytest.raises(DataError, match=r"subset is .* in \(0, 1\]"):
            load_kitti(f"kitti:{town}", subset=subset)


def test_identity_is_of_labels_names_and_sizes(town, write):
    def identity(subset=1.0, height=384, width=1248):
        return load_kitti(f"kitti:{town}", subset=subset, height=height, width=width).identity

    first = identity()
    assert identity(height=192, width=624) == first
    assert len({first, identity(subset=0.5)}) == 2
    labels = town / "label_2" / "000004.txt"
    original = labels.read_text()
    changes = ("8.00", "8.01"), ("Car", "Van"), (" 0.10", " 0.11"), (" 0 ", " 1 "), ("60.", "61.")
    for old, new in changes:
        labels.write_text(original.replace(old, new, 1))
        assert identity() != first
    labels.write_text("\n".join(line + "  " for line in original.splitlines()) + "\n")
    assert identity() == first
    write(town, "000004", image=np.zeros((120, 200, 3), np.uint8), labels=original)
    assert identity() != first
    write(town, "000004", labels=original)
    assert identity() == first
    # Two images alike but for their names change places, and one the lists.
    for train, test in (("3 2 1 0", "5 4"), ("3 0 1", "2 5 4")):
        for name, numbers in (("train.txt", train), ("test.txt", test)):
            (town / name).write_text("".join(f"00000{n}\n" for n in numbers.split()))
        assert identity() != first


def break_line(town):
    with (town / "label_2" / "000001.txt").open("a") as file:
        file.write("\nCar 0.0 0\n")


def outside(town):
    file = town / "label_2" / "000005.txt"
    file.write_text(file.read_text().replace(" 60.00", " 600.00"))


def truncate(name):
    def harm(town):
        file = town / "image_2" / name
        file.write_bytes(file.read_bytes()[:-70])

    return harm


def hollow(town):
    file = town / "image_2" / "000000.png"
    content = file.read_bytes()
    file.write_bytes(content[:60] + bytes(len(content) - 80) + content[-20:])


HARMS = [
    (hollow, "unreadable image", r"image_2/000000.png cannot be read"),
    (break_line, "broken line", r"label_2/000001.txt, line 3 has 3 columns"),
    (outside, "box outside the image", r"label_2/000005.txt, line 1: .* image, which is 200 x 120"),
    (truncate("000000.png"), "truncated image", r"image_2/000000.png ends too early"),
    (truncate("000001.jpg"), "truncated image", r"image_2/000001.jpg ends too early"),
    (
        lambda town: (f := town / "image_2" / "000001.jpg").write_bytes(f.read_bytes() + bytes(63)),
        "truncated image",
        r"image_2/000001.jpg ends too early.*or something else follows the image",
    ),
    (
        lambda town: (town / "image_2" / "000002.png").write_bytes(b""),
        "unreadable image",
        r"image_2/000002.png is empty; expected a PNG or JPEG",
    ),
    (
        lambda town: Image.new("L", (200, 120)).save(town / "image_2" / "000002.png", "GIF"),
        "unreadable image",
        r"image_2/000002.png is something else, by its first bytes; expected a PNG or JPEG",
    ),
    (
        lambda town: (town / "label_2" / "000002.txt").unlink(),
        "no labels",
        r"train.txt, line 4: image_2/000002.png has no labels; expected label_2/000002.txt",
    ),
    (
        lambda town: (town / "image_2" / "000005.jpg").unlink(),
        "no image",
        r"test.txt, line 1: label_2/000005.txt has no image; expected image_2/000005.png or",
    ),
    (
        lambda town: (town / "label_2" / "000002.txt").write_bytes(b"\xff\xfe\x00"),
        "unreadable labels",
        r"label_2/000002.txt cannot be read",
    ),
    (
        lambda town: (town / "train.txt").write_text("000000\n\n000001\n000000\n"),
        "index listed twice",
        r"train.txt, line 4: the index 000000 is in train.txt, line 1 already",
    ),
    (
        lambda town: (town / "train.txt").write_text("000000\n000004\n"),
        "index in both lists",
        r"train.txt, line 2: the index 000004 is in test.txt, line 2 already",
    ),
    (
        lambda town: (town / "train.txt").write_text("000000\n../000001\n"),
        "no image",
        r"train.txt, line 2: '../000001' is no index; expected .* such as 000012",
    ),
    (
        lambda town: shutil.copy(town / "image_2" / "000001.jpg", town / "image_2" / "000000.jpg"),
        "two images",
        r"image_2/000000.png has the index of 000000.jpg; expected one image an index",
    ),
    (
        lambda town: (town / "image_2" / "notes.txt").touch(),
        "not an image",
        r"image_2/notes.txt ends in none of .png, .jpg, .jpeg; expected images",
    ),
]


@pytest.mark.parametrize(
    "harm, reason, says", HARMS, ids=[f"{h[1]} {i}" for i, h in enumerate(HARMS)]
)
def test_bad_scenes_are_named_or_skipped_and_counted(town, harm, reason, says):
    harm(town)
    with pytest.raises(DataError, match=says) as error:
        load_kitti(f"kitti:{town}")
    assert "has 1 problem(s)" in str(error.value) and "--skip-bad" in str(error.value)
    scenes = load_kitti(f"kitti:{town}", skip_bad=True)
    assert scenes.skipped == {reason: 1}
    for scene in (*scenes.train, *scenes.test):
        assert len(scene.objects.kinds) == 2
    assert identifiers(scenes.test)[-1] == "000004"


def test_images_of_other_sizes(town, write):
    write(town, "000000", image=np.full((384, 1248, 3), 9, np.uint8))
    assert (load_kitti(f"kitti:{town}").train[1].image == 9).all()
    write(town, "000000", image=np.zeros((385, 1248, 3), np.uint8))
    write(town, "000002", image=np.zeros((300, 1249, 3), np.uint8))
    with pytest.raises(DataError) as error:
        load_kitti(f"kitti:{town}")
    assert "000000.png is 1248 x 385 pixels; expected at most 1248 x 384" in str(error.value)
    assert "000002.png is 1249 x 300" in str(error.value)  # both are named
    assert load_kitti(f"kitti:{town}", skip_bad=True).skipped == {"image too large": 2}


def test_what_is_damaged_later_is_named_then(town):
    scenes = load_kitti(f"kitti:{town}")
    file = town / "image_2" / "000000.png"
    content = file.read_bytes()
    hollow(town)
    with pytest.raises(DataError, match="000000.png cannot be decoded"):
        scenes.train[1]
    file.unlink()
    with pytest.raises(DataError, match="000000.png cannot be read"):
        scenes.train[1]
    for other in (b"", content[: len(content) // 2], content + bytes(9)):
        file.write_bytes(other)
        with pytest.raises(DataError, match=rf"has {len(other)} bytes, but had .* was checked: it"):
            scenes.train[1]
    file = town / "image_2" / "000001.jpg"
    content = bytearray(file.read_bytes())
    size = content.index(b"\xff\xc0") + 5
    content[size : size + 2] = (96).to_bytes(2)
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"decodes to \(96, .*\), though its header says"):
        scenes.train[2]
    content[size : size + 4] = b"\xfd\xe8" * 2  # 65,000 x 65,000 pixels, at which OpenCV raises
    file.write_bytes(content)
    with pytest.raises(DataError, match="000001.jpg cannot be decoded"):
        scenes.train[2]


@pytest.mark.parametrize("name", ["train.txt", "test.txt"])
def test_a_list_that_cannot_be_opened_is_not_taken_for_none(town, name):
    (town / name).unlink()
    (town / name).symlink_to(name)
    with pytest.raises(DataError, match=f"{name} cannot be read .*symbolic links"):
        load_kitti(f"kitti:{town}", skip_bad=True)


@pytest.mark.parametrize("name", ["train.txt", "test.txt", "label_2/000001.txt"])
def test_a_mark_at_a_text_s_begin_is_no_part_of_it(town, name):
    whole = load_kitti(f"kitti:{town}").identity
    file = town / name
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert load_kitti(f"kitti:{town}").identity == whole
    file.write_text(file.read_text("utf-8-sig"), "utf-16")  # as PowerShell writes it
    with pytest.raises(DataError, match=f"{name} cannot be read .* expected text in UTF-8"):
        load_kitti(f"kitti:{town}")


@pytest.mark.parametrize("part", ["image_2", "label_2"])
def test_a_folder_that_cannot_be_read(town, part, monkeypatch):
    scandir = os.scandir

    def deny(path):
        if Path(path).name == part:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(DataError, match=f"cannot be looked into .*{part}.*that you may read"):
        load_kitti(f"kitti:{town}")


@pytest.mark.parametrize("folder", ["~nobody-of-this-name/kitti", "x" * 300])
def test_a_folder_that_cannot_be(folder):
    with pytest.raises(DataError, match="cannot be looked into|is no folder; expected"):
        load_kitti(f"kitti:{folder}")


def test_files_of_no_account_are_overlooked(town, write):
    write(town, "000077", labels="nonsense")  # in no list
    (town / "image_2" / ".thumbnails").mkdir()
    (town / "label_2" / "000078.txt").write_text("of no image")
    (town / "label_2" / "000001.xml").write_text("no labels of KITTI's")
    with (town / "image_2" / "000001.jpg").open("ab") as file:
        file.write(bytes(62))  # its end is within the last 64 bytes
    assert not load_kitti(f"kitti:{town}").skipped


@pytest.mark.parametrize("which, index", [("training", "00000[0-3]"), ("test", "00000[45]")])
def test_a_list_without_cars(town, which, index):
    for file in (town / "label_2").glob(f"{index}.txt"):
        file.write_text(file.read_text().replace("Car", "Van"))
    with pytest.raises(DataError, match=f"none of the . {which} images has a Car"):
        load_kitti(f"kitti:{town}")


def test_endings_in_capitals_and_of_four_letters(town):
    (town / "image_2" / "000000.png").rename(town / "image_2" / "000000.PNG")
    (town / "image_2" / "000001.jpg").rename(town / "image_2" / "000001.jpeg")
    assert len(load_kitti(f"kitti:{town}").train) == 4


def test_of_many_problems_ten_are_shown(town):
    for number in range(11):
        (town / "image_2" / f"notes{number:02d}.txt").touch()
        with pytest.raises(DataError) as error:
            load_kitti(f"kitti:{town}")
        shown = str(error.value).splitlines()[1:-1]
        assert len(shown) == number + 1
    assert shown[-1] == "  and 1 more"


def test_nothing_left(town):
    for file in (town / "label_2").iterdir():
        file.write_text("?")
    with pytest.raises(DataError, match=r"none of the 0 .* that are left \(broken line: 6\)"):
        load_kitti(f"kitti:{town}", skip_bad=True)


@pytest.mark.parametrize(
    "harm, says",
    [
        (lambda town: shutil.rmtree(town / "image_2"), "has no folder image_2; .* folder.$"),
        (lambda town: shutil.rmtree(town / "label_2"), "has no folder label_2"),
        (lambda town: (town / "test.txt").unlink(), "has train.txt alone; expected both"),
        (lambda town: (town / "train.txt").unlink(), "has test.txt alone; expected both"),
    ],
)
def test_what_must_be_there(town, harm, says):
    harm(town)
    for skip_bad in (False, True):
        with pytest.raises(DataError, match=says):
            load_kitti(f"kitti:{town}", skip_bad=skip_bad)


def test_the_folder_above_is_pointed_down(town):
    town.rename(town.parent / "training")
    with pytest.raises(DataError, match="Is it .*training"):
        load_kitti(f"kitti:{town.parent}")


@pytest.mark.parametrize("source", ["", "kitty", "kitti:", "kitti: ", "coco:FOLDER"])
def test_other_sources(source):
    with pytest.raises(DataError, match="expected 'kitti' or kitti:FOLDER"):
        load_kitti(source)


@pytest.mark.parametrize("where", ["manual_dir", "data_dir"])
def test_archives_are_for_tensorflow_datasets(town, where):
    with pytest.raises(DataError, match=f"{where} .*: only for sets of tensorflow-datasets"):
        load_kitti(f"kitti:{town}", **{where: str(town)})


def test_the_split_of_the_papers():
    train, test = split(labelled())
    assert (len(train), len(test)) == (6373, 1108)
    assert set(test) == validation() and not set(train) & set(test)
    assert set(train) | set(test) == {f"{index:06d}" for index in range(7481)}


def test_a_folder_without_lists_must_be_all_of_kitti(town):
    for name in ("train.txt", "test.txt"):
        (town / name).unlink()
    (town / "label_2" / "x.txt").touch()
    says = r"lacks 7475 of them \(000006, 000007, .*\) and has 1 others \(x\). Write the indices"
    with pytest.raises(DataError, match=says):
        load_kitti(f"kitti:{town}", skip_bad=True)
    (town / "label_2" / "x.txt").unlink()
    says = r"it lacks 7475 of them \(000006, 000007, 000008, 000009, 000010, \.\.\.\)\. Write"
    with pytest.raises(DataError, match=says):
        load_kitti(f"kitti:{town}", skip_bad=True)


def test_results_are_called_kitti_only_on_the_papers_split(town, monkeypatch):
    named = town.rename(town.parent / "kitti")
    assert load_kitti(f"kitti:{named}").name == "kitti-own-split"
    named = named.rename(town.parent / "KITTI")
    assert load_kitti(f"kitti:{named}").name == "kitti-own-split"
    few = frozenset(f"{index:06d}" for index in range(6))
    monkeypatch.setattr("evojax.data.kitti.folder.labelled", lambda: few)
    monkeypatch.setattr("evojax.data.kitti.split.validation", lambda: {"000005", "000004"})
    assert load_kitti(f"kitti:{named}").name == "kitti"
    for name in ("train.txt", "test.txt"):
        (named / name).unlink()
    scenes = load_kitti(f"kitti:{named}")
    assert scenes.name == "kitti"
    assert identifiers(scenes.train) == ["000000", "000001", "000002", "000003"]
    assert identifiers(scenes.test) == ["000004", "000005"]
