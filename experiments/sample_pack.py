"""Samples of trained diffusion networks as the field exchanges them, and what they are worth.

    python -m experiments.sample_pack sample 256x256_diffusion.pt samples.npz --classifier 256x256_classifier.pt
    python -m experiments.sample_pack sample runs/ddpm-mnist-seed0 samples.npz --num 1000 --sampler.steps 100
    python -m experiments.sample_pack convert 64x64_diffusion.pt 64x64_diffusion.safetensors
    python -m experiments.sample_pack make-reference FOLDER reference.npz --inception WEIGHTS
    python -m experiments.sample_pack evaluate samples.npz reference.npz --inception WEIGHTS

A network is a file of guided-diffusion, improved-diffusion or Ho et al. (nothing in it is executed), a file that
`convert` wrote, or the folder of a run of `ddpm` or `guided_diffusion`. Which network a file holds is found from its
name or its size. An interrupted command goes on when it is given again.
"""

import dataclasses
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import tyro
from tyro.conf import Positional, arg

from experiments import (
    features,
    image_batches,
    pack_evaluation,
    pack_files,
    pack_sampling,
    trained_networks,
    trained_runs,
)
from experiments.ddpm_evaluation import Sampler
from jaxgen import diffusion, training
from jaxgen.training.files import write_json


@dataclasses.dataclass(frozen=True)
class Convert:
    """Read a network's weights and write them under this library's names."""

    checkpoint: Positional[Annotated[Path, arg(metavar="CHECKPOINT")]]
    """file of weights (.pt, .npz, .safetensors, .index), or a run folder"""
    out: Positional[Annotated[Path, arg(metavar="OUT")]]
    """.npz or .safetensors"""
    network: str = ""
    """which published network it is; empty: found out"""

    def run(self) -> None:
        """Converts."""
        model = trained_runs.load(self.checkpoint, self.network)
        trained_networks.save(self.out, model.params)
        print(f"{model.name}: {number_of_parameters(model):,} parameters in {self.out}")


@dataclasses.dataclass(frozen=True)
class Sample:
    """Draw samples into a pack: arr_0 uint8 [N, H, W, C], and arr_1 int64 [N] where there are classes."""

    checkpoint: Positional[Annotated[Path, arg(metavar="CHECKPOINT")]]
    """of the network: file of weights (.pt, .npz, .safetensors, .index), or a run folder"""
    pack: Positional[Annotated[Path, arg(metavar="PACK")]]
    """file to write, ending with .npz; the shards of an unfinished one lie beside it in PACK.parts"""
    num: int = 100
    """samples; the papers take 50,000"""
    seed: int = 0
    """sample i depends on (seed, i) alone"""
    network: str = ""
    """which published network the checkpoint is; empty: found from its name or its size"""
    sampler: Sampler = Sampler(steps="250")
    labels: str = ""
    """"random", "cycle", or classes "207,360" taken in turn; empty: random, or those of --low-resolution"""
    classifier: str = ""
    """file of a classifier of noisy images, or folder of a run that trained one; its gradient draws to the class"""
    scale: float = 1.0
    """of that gradient; without a classifier, of classifier-free guidance, where 1 is the network itself"""
    interval: tuple[int, int] | None = None
    """classifier-free: the first and the last of the original timesteps at which there is guidance"""
    low_resolution: str = ""
    """pack of the small images that an upsampler enlarges"""
    pixels: pack_sampling.Pixels = "nearest"
    """"truncated" rounds down, as guided-diffusion does: for its published numbers"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """of the computation"""
    batch_size: int = 64
    """images at a time, of each device"""
    devices: int = 0
    """of this machine; 0: all"""
    save_converted: str = ""
    """also write the parameters under this library's names: .npz or .safetensors"""

    def run(self) -> None:
        """Draws."""
        model = in_dtype(trained_runs.load(self.checkpoint, self.network), self.dtype)
        print(
            f"{model.name}: {number_of_parameters(model):,} parameters, {model.size} x {model.size} pixels", flush=True
        )
        if self.save_converted:
            trained_networks.save(self.save_converted, model.params)
        classifier = in_dtype(trained_runs.load_classifier(self.classifier), self.dtype) if self.classifier else None
        began, first = time.perf_counter(), []

        def progress(done: int) -> None:
            first.append((done, time.perf_counter()))
            rate = (done - first[0][0]) / max(time.perf_counter() - first[0][1], 1e-9)
            speed = f", {rate:.3g} a second" if len(first) > 1 else ""
            print(f"{done} of {self.num} samples after {time.perf_counter() - began:.0f} s{speed}", flush=True)

        drawn = pack_sampling.write(
            self.pack,
            self.num,
            model,
            self.sampler,
            pack_sampling.Guide(self.scale, classifier, self.interval),
            seed=self.seed,
            labels=self.labels,
            low=pack_files.read(self.low_resolution) if self.low_resolution else None,
            pixels=self.pixels,
            batch_size=self.batch_size,
            devices=training.pick_devices(self.devices),
            progress=progress,
        )
        print(f"{self.num} samples in {self.pack}" + ("" if drawn else " were there already"))


@dataclasses.dataclass(frozen=True)
class MakeReference:
    """Make the reference that samples are compared with: real images, and the moments of their features."""

    folder: Positional[Annotated[Path, arg(metavar="FOLDER")]]
    """of the data"""
    reference: Positional[Annotated[Path, arg(metavar="REFERENCE")]]
    """file to write, ending with .npz: arr_0, mu, sigma, and with Inception mu_s, sigma_s"""
    name: str = "images"
    """kind of data: "images", a folder of PNG or JPEG files, or "mnist", "cifar10", "npy", "tfds:<name>", ..."""
    split: Literal["all", "train", "test"] = "all"
    """the papers take the training split"""
    size: int = 0
    """"images": crop and resize to so many pixels a side; 0: as they are"""
    images: int = 10_000
    """how many are in the file, for precision and recall; the moments are of all; 0: all"""
    on_disk: bool = False
    """read images as they are needed, for data larger than memory"""
    inception: str = ""
    """file of Inception's weights, for FID and sFID"""
    features: str = ""
    """file of a classifier of this data, for classifier-FID; made of the labels where it is not there"""

    def run(self) -> None:
        """Makes it."""
        config = image_batches.Data(self.name, str(self.folder), self.size, on_disk=self.on_disk)
        train, test = image_batches.load(config)
        extractor = None
        if self.inception:
            extractor = pack_evaluation.load_extractor(self.inception, self.features)
        elif self.features:
            extractor = features.cached(self.features, train, test)
        splits = {"all": [train, test], "train": [train], "test": [test]}[self.split]
        settings = pack_evaluation.make_reference(self.reference, splits, extractor, self.images)
        what = f"moments of {extractor.name}'s features" if extractor else "no moments: no --inception, no --features"
        print(f"{self.reference}: {settings['images']} images of {train.shape}, {what}")


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Compare a pack with a reference: FID, sFID, precision and recall, or classifier-FID in the place of FID."""

    pack: Positional[Annotated[Path, arg(metavar="PACK")]]
    """of samples, from here or from elsewhere"""
    reference: Positional[Annotated[Path, arg(metavar="REFERENCE")]]
    """of make-reference, a VIRTUAL_*.npz of guided-diffusion, or a pack of real images"""
    inception: str = ""
    """file of Inception's weights (pytorch-fid's), see experiments.inception"""
    features: str = ""
    """file of a classifier of the data: features.npz of a run, or of make-reference"""
    images: int = 10_000
    """of either side, for precision and recall"""
    json: str = ""
    """file for the numbers"""

    def run(self) -> None:
        """Compares."""
        extractor = pack_evaluation.load_extractor(self.inception, self.features)
        pack, reference = pack_files.read(self.pack), pack_files.read(self.reference)
        measured = pack_evaluation.evaluate(pack, reference, extractor, self.images)
        if self.json:
            write_json(self.json, {"metrics": measured, "samples": pack.settings, "reference": reference.settings})
        width = max(map(len, measured))
        for name, value in measured.items():
            print(f"{name:{width}}  {value:10.5g}" if isinstance(value, float) else f"{name:{width}}  {value:10d}")


COMMANDS = {"sample": Sample, "convert": Convert, "make-reference": MakeReference, "evaluate": Evaluate}


def number_of_parameters(model: trained_networks.Trained) -> int:
    """Of the network."""
    return sum(x.size for x in jax.tree.leaves(model.params))


def in_dtype(model: trained_networks.Trained, dtype: str) -> trained_networks.Trained:
    """The model, computing in that dtype."""
    network: diffusion.UNet | diffusion.EncoderUNet = model.network
    return model._replace(network=network.clone(dtype=jnp.bfloat16 if dtype == "bfloat16" else None))


def main(arguments: list[str] | None = None) -> None:
    asked = tyro.extras.subcommand_cli_from_dict(
        COMMANDS, prog="python -m experiments.sample_pack", description=__doc__, args=arguments
    )
    try:
        asked.run()
    except KeyboardInterrupt:
        print("Stopped; what was drawn is kept. Run the same command to go on.", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        if os.environ.get("JAXGEN_TRACEBACK"):
            traceback.print_exc()
        else:
            print(f"{type(error).__name__}: {error}\n(JAXGEN_TRACEBACK=1 shows where)", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
