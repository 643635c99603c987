"""Data throughput: every source has the same images in the same order."""

import re

from experiments.benchmark import throughput


def test_it_measures_the_same_images_from_every_source(capsys):
    options = throughput.Options(number=24, side=6, batch_size=5, steps=7, workers=(1, 3))
    assert throughput.measure(options)
    said = capsys.readouterr().out
    assert len(re.findall(r"images/s  (\w{12})", said)) == 6 and len(set(re.findall(r"/s  (\w{12})", said))) == 1
