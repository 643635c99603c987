"""The splits that an experiment trains on and measures."""

import numpy as np
import pytest

from experiments.command import image_data


def test_held_out_images_replace_the_test_images():
    (train, test), (fewer, held_out) = (
        image_data.load(image_data.FlatImageData(held_out=number), labelled=True) for number in (0, 10)
    )
    np.testing.assert_array_equal(np.concatenate([fewer.image, held_out.image]), train.image)
    np.testing.assert_array_equal(np.concatenate([fewer.labels, held_out.labels]), train.labels)
    assert len(held_out) == 10 and len(test) > 10
    for number in (len(train), len(train) + 1):
        with pytest.raises(ValueError, match=f"data.held_out is {number}; of {len(train)} training images at least"):
            image_data.load(image_data.FlatImageData(held_out=number))


def test_only_measures_of_test_images_stand_beside_the_papers():
    assert image_data.FlatImageData("mnist").is_test_of("mnist")
    assert not image_data.FlatImageData("mnist", held_out=10).is_test_of("mnist")
    assert not image_data.FlatImageData("digits").is_test_of("mnist")
