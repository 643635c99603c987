"""What the experiments say of real MNIST without training: data, scaling and metric are right."""

import os

import pytest

from experiments.command import image_data
from jaxgen import autoencoder

FOLDER = os.environ.get("JAXGEN_DATA")
pytestmark = pytest.mark.skipif(not FOLDER, reason="JAXGEN_DATA is not set")


def test_pca_of_mnist_has_the_papers_error():
    """Hinton & Salakhutdinov 2006: PCA with 30 components has test error 13.87."""
    train, test = image_data.load(image_data.FlatImageData("mnist", f"{FOLDER}/mnist"))
    mean, components = autoencoder.pca(train.unit(), 30)
    project = lambda x: autoencoder.pca_reconstruct(x, mean, components)
    assert abs(autoencoder.reconstruction_error(project, test.unit()) - 13.87) < 0.01
