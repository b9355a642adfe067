"""The picture of what a detector finds: boxes lie where they should, and few generations show."""

import io

import numpy as np
import pytest
from PIL import Image

from evojax.report.scenes import scenes

BOX = [52.0, 16.0, 156.0, 48.0]  # From a quarter to three quarters of the image.


def lineage(generations, detections, labelled=()):
    records = [
        {
            "generation": number,
            "architectural_efficiency": 1.0,
            "precision": 0.5,
            "recall": 0.25,
            "detections": {"street": detections},
        }
        for number in range(1, generations + 1)
    ]
    return {"dataset": {"examples": {"street": list(labelled)}}, "generations": records}


def drawn(lineage):
    images = {"street": np.full((64, 208, 3), (0, 0, 200), np.uint8)}
    picture = scenes(lineage, images)
    return np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB")).astype(int), picture.alt


def around(pixels, colour):
    """Left, top, right and bottom of what is nearly of a colour."""
    rows, columns = np.nonzero(np.abs(pixels - colour).max(-1) < 40)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def test_detections_lie_where_their_boxes_say():
    pixels, alt = drawn(lineage(1, [BOX], [[0.0, 0.0, 10.0, 10.0]]))
    left, top, right, bottom = around(pixels, (0, 0, 200))
    wide, tall = right - left, bottom - top
    expected = [left + wide / 4, top + tall / 4, right - wide / 4, bottom - tall / 4]
    line = wide / 208  # Half a line's width, and more.
    np.testing.assert_allclose(around(pixels, (255, 176, 0)), expected, atol=2 * line)
    assert alt == "1 test images with 1 labelled cars. generation 1: 1 detections."


def test_no_detection_draws_no_box():
    pixels, alt = drawn(lineage(1, []))
    assert not (np.abs(pixels - (255, 176, 0)).max(-1) < 40).any()
    assert "generation 1: 0 detections" in alt


def test_of_many_generations_four_show_the_last_among_them():
    _, alt = drawn(lineage(11, []))
    assert [int(part.split(":")[0]) for part in alt.split("generation ")[1:]] == [1, 4, 8, 11]


@pytest.mark.parametrize("images", [{}, {"elsewhere": np.zeros((64, 208, 3), np.uint8)}])
def test_other_images_are_refused(images):
    with pytest.raises(ValueError, match=r"expected images of \['street'\]"):
        scenes(lineage(1, []), images)
