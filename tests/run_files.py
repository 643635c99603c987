"""The files of a small run, written by hand."""

import json

import numpy as np

from jaxgen import pictures

FILES = ("config.json", "environment.json", "measured.json", "metrics.jsonl", "timing.jsonl", "results.json")


def write_run(folder):
    """Writes the files that a report reads; returns the paths of those of FILES."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    config = {"seed": 0, "data": {"name": "digits"}, "train": {"num_steps": 200, "sizes": [1, 2]}}
    record = {"experiment": "toy", "preset": "quick", "seed": 0, "config": config, "untracked": ["data.name"]}
    environment = {"versions": {"jax": "0.10"}, "data": {"toy": "ab"}, "x64": False}
    measured = [{"key": {"what": "bound", "images": 40, "on": {"a": [1]}}, "values": {"nats": 1.5}}]
    results = {"step": 200, "params_sha256": "ab" * 32, "seconds": 12.5, "metrics": {"a": 1.5}, "paper": {"a": 1}}
    lines = [{"step": step, "stage": stage, "loss": 100 / step, "n": step} for stage in "ab" for step in (10, 20, 30)]
    times = [{"step": s, "session": 1, "seconds": s / 10, "steps_per_second": 10.0} for s in (10, 20, 30)]
    values = {"config": record, "environment": environment, "measured": measured, "results": results}
    texts = {f"{name}.json": json.dumps(value) for name, value in values.items()}
    texts["metrics.jsonl"], texts["timing.jsonl"] = ("\n".join(map(json.dumps, rows)) + "\n" for rows in (lines, times))
    for name, text in texts.items():
        (folder / name).write_text(text)
    pictures.save_png(folder / "figures" / "samples.png", np.zeros((3, 3, 3), np.uint8))
    return [folder / name for name in FILES]
