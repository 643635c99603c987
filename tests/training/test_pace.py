"""How many steps a call has, by a clock of the test's own."""

import pytest

from jaxgen.training import pace


@pytest.mark.parametrize("seconds, expected", [(1 / 128, 64), (1 / 8, 4), (3 / 8, 1), (8.0, 1)])
def test_a_call_takes_about_half_a_second_and_has_at_least_one_step(seconds, expected, monkeypatch):
    calls = pace.Pace(0)

    def end(step, time):
        monkeypatch.setattr(pace.time, "perf_counter", lambda: time)
        calls.ended(step)

    # The first call also compiles.
    for step, time in ((1, 0.0), (2, 7.0)):
        assert calls.unknown and calls.steps() == 1
        end(step, time)
    assert not calls.unknown
    # The last four ends count.
    for step in range(4):
        end(2 + step, 64 + step * seconds)
    assert calls.steps() == expected


def test_a_fixed_number_of_steps_needs_no_clock():
    calls = pace.Pace(7)
    assert not calls.unknown and calls.steps() == 7
