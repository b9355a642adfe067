"""The handwritten digits that come inside scikit-learn: real data that needs no download."""

import numpy as np

from evojax.data.dataset import DataError, Dataset, Split, stratified

_TEST_SHARE = 0.2


def load_digits() -> Dataset:
    """The 1,797 digits of 8 x 8 pixels, four fifths of each class to train on.

    Ink is scaled from 0..16 to 0..255. The split is fixed: 1,438 training and 359 test images.
    The same people wrote both parts, so accuracies are higher than on unseen writers.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998
    (its test part, as scikit-learn distributes it).

    Returns:
      A `Dataset` of images ``(N, 8, 8, 1)``.

    Raises:
      DataError: where scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError(
            "The data set 'digits' comes inside scikit-learn, which is not installed: "
            "pip install scikit-learn"
        ) from error
    embedded = datasets.load_digits()
    images = np.rint(embedded.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = embedded.target.astype(np.int32)
    test = np.zeros(len(labels), bool)
    test[stratified(labels, _TEST_SHARE)] = True
    return Dataset(
        "digits",
        10,
        Split(images[~test], labels[~test]),
        Split(images[test], labels[test]),
        "scikit-learn",
    )
