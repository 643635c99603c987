"""Whether a run has what the tour wants to show of it."""

import json

from experiments.tour import lesson


def finds_what_it_shows(experiment, workdir):
    """Fails where a picture, a logged quantity or a metric that the tour names is not in the finished run."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    metrics = json.loads((workdir / "results.json").read_text())["metrics"]
    lessons = [each for chapter in lesson.read_chapters() for each in chapter.lessons if each.experiment == experiment]
    assert lessons
    for shown in lessons:
        assert set(shown.pictures) <= {path.name for path in (workdir / "figures").iterdir()}
        assert set(shown.quantities) <= {quantity for line in lines for quantity in line}
        for number in shown.numbers:
            assert number.metric in metrics and number.context.format_map(metrics)
