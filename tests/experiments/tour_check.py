"""Whether a run has what the tour wants to show of it."""

import json

from experiments.tour import CHAPTERS


def finds_what_it_shows(experiment, workdir):
    """Fails where a picture, a logged quantity or a metric that the tour names is not in the finished run."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    metrics = json.loads((workdir / "results.json").read_text())["metrics"]
    lessons = [lesson for chapter in CHAPTERS for lesson in chapter.lessons if lesson.experiment == experiment]
    assert lessons
    for lesson in lessons:
        assert set(lesson.pictures) <= {path.name for path in (workdir / "figures").iterdir()}
        assert set(lesson.quantities) <= {quantity for line in lines for quantity in line}
        for _, metric, beside in lesson.numbers:
            assert metric in metrics and beside.format_map(metrics)
