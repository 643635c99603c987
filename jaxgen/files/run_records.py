"""What the files of a run folder hold, as shapes for `check_shape`; read by the engine, and by reports without jax."""

EXPECTED = "a file as a run writes it"
CONFIG = {
    "experiment": str, "preset?": str, "seed?": int, "untracked?": [str],
    "config": {"train?": {"num_steps?": int, str: None}, str: None}, str: None,
}  # fmt: skip
ENVIRONMENT = {"versions?": {str: str}, "data?": {str: str}, "resumed_in?": [dict], str: None}
# A list, or an object of sentences in 0.1.0.
MEASURED = ([{"key": {"what": str, str: None}, "values": {str: float}}], {str: {str: float}})
METRICS = {"step": int, "stage?": str, str: float}
TIMING = {"step": int, "stage?": str, "session?": int, "seconds?": float, "steps_per_second?": float, str: None}
WHOLE_TIMING = {"step": int, "stage?": str, "session": int, "seconds": float, "steps_per_second": float, str: None}
RESULTS = {
    "step": int, "params_sha256": str, "seconds": float, "metrics": {str: float}, "paper": {str: float}, str: None,
}  # fmt: skip

FILES = ("config.json", "environment.json", "measured.json", "results.json", "metrics.jsonl", "timing.jsonl")
FOLDERS = ("checkpoints", "figures", "tensorboard")
