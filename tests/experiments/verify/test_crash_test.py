"""The crash test: what it refuses before any training begins. Its runs take minutes; RESULTS.md has their count."""

import sys

import pytest

from experiments.verify import crash_test


@pytest.mark.parametrize(
    "options, message",
    [
        (["--kills", "0"], "kills is 0, seconds 0.0; expected at least 1 and 0"),
        (["--seconds", "-1"], "kills is 100, seconds -1.0; expected at least 1 and 0"),
        (["vae", "vaee"], "no experiment 'vaee' is recorded; those are deep_autoencoder"),
    ],
)
def test_what_cannot_be_tried_is_refused_at_once(options, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["crash_test", *options])
    monkeypatch.setattr(crash_test, "KilledRuns", lambda *_: pytest.fail("a training began"))
    with pytest.raises(SystemExit) as end:
        crash_test.main()
    assert end.value.code == 2 and message in capsys.readouterr().err
