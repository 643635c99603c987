"""What a GAN looks like: a film of its samples (in the plane with D's field), the course of the game, neighbours."""

import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import films, gan_data, gan_evaluation
from experiments.gan_game import Game
from jaxgen import gan, pictures, training

FIELD = 120  # points a side at which D is computed
FACTOR = 4
REAL, FAKE = np.array([0x3F, 0x90, 0xDA]), np.array([0xE7, 0x63, 0x00])  # D = 1 and D = 0
INK = np.array([30, 30, 30])


def filmed(game: Game) -> training.Every:
    """Keeps pictures of the samples for the film, more of them early, when most happens. The noise stays the same."""
    folder = game.run.workdir / "frames" / game.name
    num_steps, frames = game.config.train.num_steps, game.config.evaluation.frames
    every = max(num_steps // (8 * frames), 1)
    chosen = {0, num_steps} | {every * round(num_steps / every * (i / frames) ** 2) for i in range(frames)}

    def keep(step: int, state: training.TrainState) -> None:
        if step not in chosen:
            return
        picture = frame(game, game.generator(state), game.discriminator(state))
        if picture is not None:
            folder.mkdir(parents=True, exist_ok=True)
            pictures.save_png(folder / f"{step:09d}.png", pictures.captioned(picture, f"step {step}"))

    return training.Every(every, keep)


def frame(game: Game, generator: Any, discriminator: Any) -> np.ndarray | None:
    """The samples now: in the plane with D's field, images as a grid; None for points on a line."""
    if isinstance(game.data, gan_data.Images):
        return image_grid(game, game.fake(generator, 1, 64), 8)
    if game.data.shape != (2,):
        return None
    field = lambda x: game.logits(discriminator, x, None)
    return plane(game, field, game.fake(generator, 1, 500))


def image_grid(game: Game, samples: np.ndarray, columns: int) -> np.ndarray:
    """What a generator made, [N, ...], as a picture."""
    assert isinstance(game.data, gan_data.Images)
    train = game.data.train
    images = train.pictures(game.data.to_unit(samples))
    return pictures.upscale(pictures.grid(images, columns), max(1, 48 // train.shape[0]))


def plane(game: Game, logits: Callable[[np.ndarray], np.ndarray], samples: np.ndarray) -> np.ndarray:
    """A field D(x) (blue: real, orange: generated, white: 1/2), the modes as rings and samples as dots."""
    assert isinstance(game.data, gan_data.Points)
    means = np.asarray(game.data.mixture.means)
    half = 1.3 * float(np.abs(means).max())
    centre = (np.arange(FIELD) + 0.5) / FIELD * 2 - 1
    x, y = np.meshgrid(half * centre, -half * centre)
    points = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    d = np.asarray(jax.nn.sigmoid(jnp.asarray(logits(points)))).reshape(FIELD, FIELD, 1)
    # In steps, so that a GIF's 256 colours suffice.
    strength = np.round(np.abs(2 * d - 1) * 12) / 12 * 0.55
    picture = 255 + strength * (np.where(d > 0.5, REAL, FAKE) - 255.0)
    picture = pictures.upscale(np.rint(picture).astype(np.uint8), FACTOR)

    rows, columns = np.mgrid[: FIELD * FACTOR, : FIELD * FACTOR]
    at = lambda p: ((p[:, ::-1] * [-1, 1]) / half + 1) / 2 * FIELD * FACTOR  # [N, 2] -> rows, columns
    for row, column in at(means):
        distance = np.hypot(rows + 0.5 - row, columns + 0.5 - column)
        picture[np.abs(distance - 9) < 1] = INK
    offsets = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=-1).reshape(-1, 2)
    spots = (np.floor(at(samples)).astype(int)[:, None] + offsets[None]).reshape(-1, 2)
    inside = np.all((spots >= 0) & (spots < FIELD * FACTOR), axis=1)
    picture[tuple(spots[inside].T)] = FAKE * 0.75
    return picture


def draw(game: Game, generator: Any, last: Any, discriminator: Any) -> None:
    """All figures of one game."""
    save = lambda what, picture: pictures.save_png(game.run.figures / f"{game.prefix}{what}.png", picture)
    frames = sorted((game.run.workdir / "frames" / game.name).glob("*.png"))
    if frames:
        shown = [pictures.read_png(path) for path in frames]
        # The last one stays a while.
        films.save(game.run.figures / f"{game.prefix}film", shown + 10 * shown[-1:], 8)
    save("game", course(game))
    if isinstance(game.data, gan_data.Images):
        draw_images(game, generator, save)
    elif game.data.shape == (2,):
        draw_plane(game, last, discriminator, save)
    else:
        draw_line(game, last, discriminator, save)


def course(game: Game) -> np.ndarray:
    """The value of the game and D on both sides over the steps."""
    lines = [json.loads(line) for line in (game.run.workdir / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line.get("stage", "") == game.name]
    steps = np.array([line["step"] for line in lines])
    series = {name: (steps, np.array([line[key] for line in lines])) for name, key in COURSE.items()}
    series["value at the equilibrium"] = (steps, np.full(len(steps), gan.VALUE_AT_EQUILIBRIUM))
    return pictures.curves(series, "step", "mean over the steps of a line")


COURSE = {"value of the game": "value", "D on real": "real_probability", "D on generated": "fake_probability"}


def draw_images(game: Game, generator: Any, save: Callable) -> None:
    """Samples, walks between two draws of z, and the training image nearest to each sample."""
    assert isinstance(game.data, gan_data.Images)
    samples = game.fake(generator, 2, 200)
    save("samples", image_grid(game, samples, 20))
    unit, train = game.data.to_unit(samples[:16]), game.data.train
    nearest = train.unit()[[int(np.argmin(squares(train, x))) for x in unit]]
    rows = [train.pictures(unit), train.pictures(nearest)]
    save("nearest", pictures.strip(rows, ["sample", "nearest"], factor=max(1, 48 // train.shape[0])))

    players = game.players
    z = np.asarray(players.noise(jax.random.split(game.draw_key(3), 20)))
    t = np.linspace(0, 1, 12, dtype=np.float32)[:, None]
    walks = np.concatenate([(1 - t) * a + t * b for a, b in zip(z[0::2], z[1::2], strict=True)])
    labels = None if players.condition is None else jnp.repeat(jnp.asarray(game.labels(10)), 12)
    walked = jax.jit(lambda z, labels: players.generator.apply({"params": generator}, z, labels))
    save("walks", image_grid(game, np.asarray(walked(jnp.asarray(walks), labels)), 12))


def squares(images, x: np.ndarray) -> np.ndarray:
    """Squared distances of x [D] to all images, without a float copy of them."""
    return np.concatenate(
        [np.sum((images.unit(i, i + 5000) - x[None]) ** 2, axis=1) for i in range(0, len(images.x), 5000)]
    )


def draw_plane(game: Game, last: Any, discriminator: Any, save: Callable) -> None:
    """D's field, and beside it that of the best discriminator against this generator."""
    assert isinstance(game.data, gan_data.Points)
    samples, mixture = game.fake(last, 14, gan_evaluation.GAME_SAMPLES), game.data.mixture
    own = plane(game, lambda x: game.logits(discriminator, x, None), samples[:1000])
    # Far from both their ratio says nothing: there it is drawn as 1/2.
    floor = -7.0
    best = plane(game, lambda x: gan_evaluation.best_logits(mixture, samples, x, floor), samples[:1000])
    panels = [pictures.captioned(own, "D"), pictures.captioned(best, "D* = p_r / (p_r + p_g)")]
    save("discriminator", np.concatenate(panels, axis=1))


def draw_line(game: Game, last: Any, discriminator: Any, save: Callable) -> None:
    """On a line: D beside the best one."""
    assert isinstance(game.data, gan_data.Points)
    samples, x = game.fake(last, 14, gan_evaluation.GAME_SAMPLES), gan_evaluation.around(game.data.mixture)
    sigmoid = lambda logits: 1 / (1 + np.exp(-logits))
    best = sigmoid(gan_evaluation.best_logits(game.data.mixture, samples, x))
    series = {"D": (x[:, 0], sigmoid(game.logits(discriminator, x, None))), "D*": (x[:, 0], best)}
    save("discriminator", pictures.curves(series, "x, mean +- 2 standard deviations", "probability of being real"))
