"""KITTI's label files: what is read from good ones, and where bad ones are said to be bad."""

import numpy as np
import pytest

from evojax.data import DataError
from evojax.data.kitti import SceneError, parse_labels

SHAPE = (375, 1242)
CAR = "Car 0.25 1 1.85 387.63 181.54 423.81 203.12 1.67 1.87 3.69 -16.53 2.39 58.49 1.57"
NEAR = "Van 0.00 3 1.55 614 181.78 1242 375.00 1.57 1.73 4.15 1.00 1.75 13.22 1.62"
NOTHING = "DontCare -1 -1 -10 0.00 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10"


def test_reads_all_columns_that_count_line_by_line():
    objects = parse_labels("\n".join([NOTHING, NEAR, "", CAR]) + "\n", "000001.txt", SHAPE)
    assert objects.kinds.tolist() == ["DontCare", "Van", "Car"]
    np.testing.assert_array_equal(
        objects.boxes,
        np.float32([[0, 169.71, 590.61, 190.13], [614, 181.78, 1242, 375],
                    [387.63, 181.54, 423.81, 203.12]]),
    )  # fmt: skip
    np.testing.assert_array_equal(objects.truncated, np.float32([-1, 0, 0.25]))
    np.testing.assert_array_equal(objects.occluded, [-1, 3, 1])
    np.testing.assert_array_equal(objects.distance, np.float32([-1000, 13.22, 58.49]))
    assert [x.dtype for x in objects[1:]] == [np.float32, np.float32, np.int32, np.float32]


def test_nothing_labelled():
    objects = parse_labels("\n", "000001.txt", SHAPE)
    assert [x.shape for x in objects] == [(0,), (0, 4), (0,), (0,), (0,)]
    assert objects.kinds.dtype.kind == "U"


@pytest.mark.parametrize(
    "line",
    [
        CAR.replace("0.25", "1"),
        CAR.replace("0.25", "2"),  # As KITTI's tracking sequences have it.
        CAR.replace(" 1 ", " 2 "),
        CAR.replace("181.54", "0"),
    ],
)
def test_numbers_at_the_end_of_their_range_are_read(line):
    assert len(parse_labels(line, "000001.txt", SHAPE).kinds) == 1


@pytest.mark.parametrize(
    "line, reason, says",
    [
        (CAR.rsplit(" ", 1)[0], "broken line", "has 14 columns, not 15; expected kind"),
        (CAR + " 0.93", "broken line", "has 16 columns.* A 16th is a score"),
        (CAR.replace("Car", "car"), "unknown kind", "kind is 'car'; expected one of Car, Van"),
        (CAR.replace("58.49", "5x"), "wrong number", "'5x' is not a number"),
        (CAR.replace("58.49", "nan"), "wrong number", "'nan' is not a number"),
        (CAR.replace("58.49", "1e39"), "wrong number", "'1e39' is not .* too large"),
        (CAR.replace("387.63", "38_7"), "wrong number", "'38_7' is not a number"),
        (CAR.replace("387.63", "\u0663"), "wrong number", "is not a number"),
        (CAR.replace("387.63", "inf"), "wrong number", "'inf' is not a number"),
        (CAR.replace("0.25", "1.5"), "wrong number", "truncated is 1.5; expected 0..1"),
        (CAR.replace("0.25", "-0.5"), "wrong number", "truncated is -0.5"),
        (CAR.replace(" 1 ", " 0.5 "), "wrong number", "occluded is 0.5; expected 0, 1, 2 or 3"),
        (CAR.replace(" 1 ", " 4 "), "wrong number", "occluded is 4"),
        (CAR.replace("387.63", "423.81"), "box inside out", "423.81, 181.54.*left < right"),
        (CAR.replace("423.81", "387.6300001"), "box inside out", "or empty"),  # In float32.
        (CAR.replace("203.12", "181.54"), "box inside out", "or empty"),
        (CAR.replace("203.12", "100"), "box inside out", "top < bottom"),
        (CAR.replace("387.63", "-0.5"), "box outside the image", "image, which is 1242 x 375"),
        (CAR.replace("423.81", "1243"), "box outside the image", "not inside its image"),
        (CAR.replace("181.54", "-1"), "box outside the image", "not inside"),
        (NOTHING.replace("190.13", "376"), "box outside the image", "not inside"),
    ],
)
def test_names_file_and_line(line, reason, says):
    with pytest.raises(SceneError, match=f"^label_2/000001.txt, line 3.*{says}") as error:
        parse_labels("\n".join([CAR, "", line, NEAR]), "label_2/000001.txt", SHAPE)
    assert error.value.reason == reason and isinstance(error.value, DataError)
