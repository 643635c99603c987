"""Draws sample batches of trained diffusion networks, and compares sample batches with real images.

    python -m experiments.sample_batches sample 256x256_diffusion.pt samples.npz --classifier 256x256_classifier.pt
    python -m experiments.sample_batches sample runs/ddpm-mnist-seed0 samples.npz --num 1000 --sampler.steps 100
    python -m experiments.sample_batches convert 64x64_diffusion.pt 64x64_diffusion.safetensors
    python -m experiments.sample_batches make-reference FOLDER reference.npz --inception WEIGHTS
    python -m experiments.sample_batches evaluate samples.npz reference.npz --inception WEIGHTS

A network is a file of guided-diffusion, improved-diffusion or Ho et al. (nothing in it is executed), a file that
`convert` wrote, or the folder of a run of `ddpm` or `guided_diffusion`. Which network a file holds is found from its
name or its size; one's own are described by --model. An interrupted command continues when it is repeated.
"""

import dataclasses
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from experiments.command import checks, image_data
from experiments.sample_batches import feature_classifier, networks, reference, sampling
from jaxgen import data, diffusion, metrics, training
from jaxgen.diffusion import Sampler
from jaxgen.training.files import write_json
from jaxgen.weights import flatten, read_weights, tree_digest

LAYOUTS = {"guided_diffusion": diffusion.to_guided_diffusion, "pytorch_diffusion": diffusion.to_pytorch_diffusion}


def check_new(path: str | Path, overwrite: bool) -> None:
    """Raises FileExistsError where the path is a file, unless it may be overwritten."""
    if Path(path).expanduser().exists() and not overwrite:
        raise FileExistsError(f"{path} is there already; give another name, or --overwrite")


@dataclasses.dataclass(frozen=True)
class Convert:
    """Read a network's weights and write them under this library's names, or those of another."""

    checkpoint: Positional[Annotated[Path, arg(metavar="CHECKPOINT")]]
    """file of weights (.pt, .npz, .safetensors, .index), or a run folder"""
    out: Positional[Annotated[Path, arg(metavar="OUT")]]
    """.npz or .safetensors; a folder for diffusers"""
    to: Literal["jaxgen", "guided_diffusion", "pytorch_diffusion", "diffusers"] = "jaxgen"
    """names to write; "pytorch_diffusion" is the port of Ho et al., "diffusers" its UNet2DModel"""
    network: str = ""
    """name of the published network; empty: found from the file"""
    model: diffusion.ModelFlags = diffusion.ModelFlags()
    overwrite: bool = False
    """replace OUT"""

    def run(self) -> None:
        """Converts."""
        if self.to != "diffusers":
            check_new(self.out, self.overwrite)
        if self.to == "jaxgen" and self.model.is_given:
            raise ValueError("this library's names do not show the settings of one's own network; choose another --to")
        network = networks.load(self.checkpoint, self.network, self.model)
        if self.to == "diffusers":
            diffusion.save_diffusers(self.out, network.model, network.params)
        else:
            convert = LAYOUTS.get(self.to, lambda _, params: params)
            diffusion.save_parameters(self.out, convert(network.model.network, network.params))
        print(f"{network.name}: {network.num_parameters:,} parameters in {self.out}")


@dataclasses.dataclass(frozen=True)
class Sample:
    """Draw samples into a file: arr_0 uint8 [N, H, W, C], and arr_1 int64 [N] where there are classes."""

    checkpoint: Positional[Annotated[Path, arg(metavar="CHECKPOINT")]]
    """file of weights (.pt, .npz, .safetensors, .index), or a run folder"""
    samples: Positional[Annotated[Path, arg(metavar="SAMPLES")]]
    """file to write, ending with .npz; the shards of an unfinished one are in SAMPLES.parts"""
    num: int = 100
    """number of samples; the papers take 50,000"""
    seed: int = 0
    """random seed; sample i depends on (seed, i) alone"""
    network: str = ""
    """name of the published network; empty: found from the name or the size of the file"""
    model: diffusion.ModelFlags = diffusion.ModelFlags()
    size: tuple[int, int] | None = None
    """height and width of the images, where they are not those of the training"""
    inpaint: str = ""
    """PNG or JPEG whose white pixels in --mask are kept; the others are drawn"""
    mask: str = ""
    """PNG or JPEG, white where --inpaint is kept and black where it is drawn"""
    resampling: diffusion.Resampling = diffusion.Resampling()
    sampler: Sampler = Sampler(steps="250")
    labels: str = ""
    """"random", "cycle", or classes "207,360" taken in turn; empty: random, or those of --low-resolution"""
    classifier: str = ""
    """file of a classifier of noisy images, or folder of a run that trained one; it guides samples to their class"""
    scale: float = 1.0
    """guidance scale of the classifier, or of classifier-free guidance, where 1 is the network itself"""
    interval: tuple[int, int] | None = None
    """classifier-free: the first and the last of the original timesteps at which there is guidance"""
    low_resolution: str = ""
    """sample batch of the small images that an upsampler enlarges"""
    pixels: sampling.Pixels = "nearest"
    """"truncated" rounds down, as guided-diffusion does, for its published numbers"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """precision of the computation"""
    batch_size: int = 64
    """images at a time, of each device"""
    devices: int = 0
    """number of devices of this machine; 0: all"""
    save_converted: str = ""
    """also write the parameters under this library's names: .npz or .safetensors"""

    def run(self) -> None:
        """Draws."""
        known = sampling.read_known(self.inpaint, self.mask, self.resampling)
        network = networks.load(self.checkpoint, self.network, self.model).in_dtype(self.dtype)
        classifier = networks.load_classifier(self.classifier).in_dtype(self.dtype) if self.classifier else None
        if self.size is not None:
            network, classifier = network.with_size(*self.size), classifier and classifier.with_size(*self.size)
        height, width, _ = network.model.shape
        print(f"{network.name}: {network.num_parameters:,} parameters, {height} x {width} pixels", flush=True)
        request = sampling.SampleRequest(
            network,
            self.sampler,
            classifier,
            self.scale,
            self.interval,
            self.labels,
            metrics.read_sample_batch(self.low_resolution) if self.low_resolution else None,
            self.pixels,
            self.seed,
            known,
            self.size,
        )
        request.check(self.num)
        if self.save_converted:
            save_converted(self.save_converted, network)
        devices, progress = training.pick_devices(self.devices), Progress(self.num)
        drawn = sampling.write(
            self.samples, self.num, request, batch_size=self.batch_size, devices=devices, progress=progress
        )
        print(f"{self.num} samples in {self.samples}" + ("" if drawn else " were there already"))


def save_converted(path: str, network: diffusion.Pretrained) -> None:
    """Writes the parameters, unless the same are in the file already."""
    if not Path(path).expanduser().exists():
        diffusion.save_parameters(path, network.params)
    elif tree_digest(read_weights(Path(path).expanduser())) != tree_digest(flatten(network.params)):
        raise FileExistsError(f"{path} holds other weights; give another name to --save-converted")


class Progress:
    """Prints how many of `num` samples are drawn, and how fast after the first shard."""

    def __init__(self, num: int):
        self.num, self.start, self.first = num, time.perf_counter(), (0, 0.0)

    def __call__(self, done: int) -> None:
        now, (before, at) = time.perf_counter(), self.first
        speed = f", {(done - before) / max(now - at, 1e-9):.3g} a second" if before else ""
        self.first = self.first if before else (done, now)
        print(f"{done} of {self.num} samples after {now - self.start:.0f} s{speed}", flush=True)


@dataclasses.dataclass(frozen=True)
class MakeReference:
    """Make the reference that samples are compared with: real images, and the moments of their features."""

    folder: Positional[Annotated[Path, arg(metavar="FOLDER")]]
    """folder of the data"""
    reference: Positional[Annotated[Path, arg(metavar="REFERENCE")]]
    """file to write, ending with .npz: arr_0, mu, sigma, and with Inception mu_s, sigma_s"""
    name: str = "images"
    """kind of data: "images", a folder of image files, or "mnist", "cifar10", "npy", "tfds:<name>", ..."""
    split: Literal["all", "train", "test"] = "all"
    """the papers take the training split"""
    size: int = 0
    """"images": side in pixels to which images are cropped and resized; 0: unchanged"""
    images: int = 10_000
    """number of images in the file, for precision and recall; the moments are of all; 0: all"""
    on_disk: bool = False
    """read images as they are needed, for data larger than memory"""
    inception: str = ""
    """file of Inception's weights, for FID and sFID"""
    features: str = ""
    """file of a classifier of this data, for classifier-FID; trained on the labels where it does not exist"""
    overwrite: bool = False
    """replace REFERENCE"""

    def run(self) -> None:
        """Makes the reference."""
        check_new(self.reference, self.overwrite)
        config = image_data.ImageData(self.name, str(self.folder), self.size, on_disk=self.on_disk)
        wrong = [] if self.reference.suffix == ".npz" else [f"{self.reference} does not end with .npz"]
        checks.refuse([*wrong, *checks.bounds(self, images=0, size=0), *config.check()])
        features = Path(self.features).expanduser() if self.features and not self.inception else None
        wanted = ["train", "test"] if self.split == "all" else [self.split]
        both: dict[str, data.Images]
        if features and not features.is_file():
            both = dict(zip(("train", "test"), image_data.load(config, labelled=True), strict=True))
        else:
            both = {split: image_data.load_split(config, split) for split in wanted}
        splits = [both[split] for split in wanted]
        extractor = None
        if self.inception:
            extractor = reference.load_extractor(self.inception, self.features)
        elif features and len(both) == 2:
            extractor = feature_classifier.cached(features, both["train"], both["test"])
        elif features:
            feature_classifier.check(features, both.get("train"), both.get("test"))
            extractor = feature_classifier.read(features)
        settings = reference.make_reference(self.reference, splits, extractor, self.images)
        what = f"moments of {extractor.name}'s features" if extractor else "no moments: no --inception, no --features"
        print(f"{self.reference}: {settings['images']} images of {splits[0].shape}, {what}")


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Compare a sample batch with a reference: FID, sFID, precision and recall, or classifier-FID in place of FID."""

    samples: Positional[Annotated[Path, arg(metavar="SAMPLES")]]
    """file of samples, from here or from elsewhere"""
    reference: Positional[Annotated[Path, arg(metavar="REFERENCE")]]
    """file of make-reference, a VIRTUAL_*.npz of guided-diffusion, a batch of real images, or mu and sigma alone"""
    inception: str = ""
    """file of Inception's weights (pytorch-fid's), see metrics.load_inception"""
    features: str = ""
    """file of a classifier of the data: features.npz of a run, or of make-reference"""
    images: int = 10_000
    """number of images on both sides, for precision and recall"""
    json: str = ""
    """file to which the metrics are written"""
    overwrite: bool = False
    """replace the file of --json"""

    def run(self) -> None:
        """Compares."""
        if self.json:
            check_new(self.json, self.overwrite)
        extractor = reference.load_extractor(self.inception, self.features)
        samples, real = metrics.read_sample_batch(self.samples), metrics.read_sample_batch(self.reference)
        measured = metrics.evaluate_sample_batch(samples, real, extractor, self.images)
        if self.json:
            write_json(self.json, {"metrics": measured, "samples": samples.settings, "reference": real.settings})
        if "precision" not in measured:
            print("precision and recall are left out: they need 4 images or more on both sides")
        width = max(map(len, measured))
        for name, value in measured.items():
            print(f"{name:{width}}  {value:10.5g}" if isinstance(value, float) else f"{name:{width}}  {value:10d}")


COMMANDS = {"sample": Sample, "convert": Convert, "make-reference": MakeReference, "evaluate": Evaluate}


def main(arguments: list[str] | None = None) -> None:
    asked = tyro.extras.subcommand_cli_from_dict(
        COMMANDS, prog="python -m experiments.sample_batches", description=__doc__, args=arguments
    )
    try:
        asked.run()
    except KeyboardInterrupt:
        print("Stopped; what was drawn is kept. Run the same command to continue.", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        if os.environ.get("JAXGEN_TRACEBACK"):
            traceback.print_exc()
        else:
            print(f"{type(error).__name__}: {error}\n(JAXGEN_TRACEBACK=1 shows where)", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
