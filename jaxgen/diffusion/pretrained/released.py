"""The networks of the papers, and the files in which their authors released them."""

from typing import Any, Literal, NamedTuple

from jaxgen.diffusion.betas import cosine_betas, linear_betas
from jaxgen.diffusion.model import DiffusionModel
from jaxgen.diffusion.schedule import make_schedule
from jaxgen.diffusion.unet.networks import EncoderUNet, UNet

_MULTIPLIERS = {32: (1, 2, 2, 2), 64: (1, 2, 3, 4), 128: (1, 1, 2, 3, 4), 256: (1, 1, 2, 2, 4, 4)}
_PYTORCH: dict[str, Any] = {
    "embedding": "cos_sin",
    "stride_padding": "symmetric",
    "norm_epsilon": 1e-5,
    "initialization": "fan_in",
}
_ADM = _PYTORCH | {"scale_shift": True, "resample": "residual", "num_heads": 4}


def ddpm_unet(image_size: int, **changes: Any) -> UNet:
    """Ho et al. (2020): 35,746,307 parameters at 32 (CIFAR-10), 113,673,219 at 256 (CelebA-HQ, LSUN).

    Args:
        image_size: 32 or 256.
        **changes: of `UNet`'s attributes.

    Raises:
        ValueError: another size.
    """
    _check(image_size, (32, 256), "Ho et al.")
    settings = {"multipliers": _MULTIPLIERS[image_size], "dropout": 0.1 if image_size == 32 else 0.0}
    return UNet(**(settings | changes))


def iddpm_unet(image_size: int, **changes: Any) -> UNet:
    """Nichol & Dhariwal (2021), with learned variance: 52,546,438 parameters at 32, 121,063,942 at 64.

    Class-conditional at 64: `channels=192, num_classes=1000`. The upsampler to 256: `in_channels=6, channels=192,
    num_blocks=2, num_classes=1000`, on images of `with_low_resolution`.

    Args:
        image_size: 32, 64 or 256.
        **changes: of `UNet`'s attributes.

    Raises:
        ValueError: another size.
    """
    _check(image_size, (32, 64, 256), "Nichol & Dhariwal")
    settings = _PYTORCH | {
        "out_channels": 6,
        "multipliers": _MULTIPLIERS[image_size],
        "num_blocks": 3,
        "attention_resolutions": (16, 8),
        "num_heads": 4,
        "dropout": 0.3 if image_size == 32 else 0.0,
        "scale_shift": True,
    }
    return UNet(**(settings | changes))


def adm_unet(image_size: int, num_classes: int | None = 1000, **changes: Any) -> UNet:
    """ADM of Dhariwal & Nichol (2021), with learned variance, for ImageNet, and without classes for LSUN at 256.

    Args:
        image_size: 64, 128, 256 or 512.
        num_classes: of the labels, or None.
        **changes: of `UNet`'s attributes.

    Raises:
        ValueError: another size.
    """
    _check(image_size, (64, 128, 256, 512), "Dhariwal & Nichol")
    settings = _ADM | {
        "out_channels": 6,
        "channels": 256,
        "multipliers": _MULTIPLIERS.get(image_size, (0.5, 1, 1, 2, 2, 4, 4)),
        "attention_resolutions": (32, 16, 8),
        "head_channels": None if image_size == 128 else 64,
        "dropout": 0.0,
        "num_classes": num_classes,
    }
    if image_size == 64:
        settings |= {"channels": 192, "num_blocks": 3, "qkv_order": "qkv_first", "dropout": 0.1}
    return UNet(**(settings | changes))


def adm_upsampler(image_size: int, num_classes: int | None = 1000, **changes: Any) -> UNet:
    """ADM's upsampler to 256 (from 64) or 512 (from 128), on images of `with_low_resolution`.

    Args:
        image_size: 256 or 512, of the result.
        num_classes: of the labels, or None.
        **changes: of `UNet`'s attributes.

    Raises:
        ValueError: another size.
    """
    _check(image_size, (256, 512), "Dhariwal & Nichol")
    settings = {
        "in_channels": 6,
        "channels": 192,
        "multipliers": _MULTIPLIERS[256],
        "attention_resolutions": (32, 16, 8) if image_size == 256 else (32, 16),
        "head_channels": None if image_size == 256 else 64,
    }
    return adm_unet(256, num_classes, **(settings | changes))


def adm_classifier(image_size: int, num_classes: int = 1000, **changes: Any) -> EncoderUNet:
    """ADM's classifier of noisy images at 64, 128, 256 or 512.

    Args:
        image_size: 64, 128, 256 or 512.
        num_classes: width of the logits.
        **changes: of `EncoderUNet`'s attributes.

    Raises:
        ValueError: another size.
    """
    _check(image_size, (64, 128, 256, 512), "Dhariwal & Nichol")
    settings = _ADM | {
        "out_channels": num_classes,
        "channels": 128,
        "multipliers": _MULTIPLIERS.get(image_size, (0.5, 1, 1, 2, 2, 4, 4)),
        "num_blocks": 4 if image_size == 64 else 2,
        "attention_resolutions": (32, 16, 8),
        "head_channels": 64,
        "dropout": 0.0,
    }
    return EncoderUNet(**(settings | changes))


class Released(NamedTuple):
    """A network that its authors released.

    Attributes:
        model: the network, and what its output means.
        num_parameters: number of its parameters.
    """

    model: DiffusionModel
    num_parameters: int


def released() -> dict[str, Released]:
    """The networks of guided-diffusion (July 2021), improved-diffusion (March 2021) and Ho et al., by file name.

    Ho et al.'s files are called model.ckpt-790000 and the like; they are "ddpm_cifar10" and "ddpm_256" here.
    """
    lsun_2021_03 = iddpm_unet(256, num_blocks=2, num_heads=1, scale_shift=False, attention_resolutions=(16,))
    iddpm_upsampler = iddpm_unet(256, in_channels=6, channels=192, num_blocks=2, num_classes=1000)
    lsun = adm_unet(256, None, dropout=0.1)
    imagenet64 = _entry(iddpm_unet(64), 64, 121_063_942, "cosine", 4000, rescaled=True)
    cifar10 = _entry(iddpm_unet(32), 32, 52_546_438, "cosine", 4000, rescaled=True)
    return {
        "64x64_diffusion.pt": _entry(adm_unet(64), 64, 295_904_454, "cosine"),
        "128x128_diffusion.pt": _entry(adm_unet(128), 128, 421_529_606, "linear"),
        "256x256_diffusion.pt": _entry(adm_unet(256), 256, 553_838_086, "linear"),
        "256x256_diffusion_uncond.pt": _entry(adm_unet(256, None), 256, 552_814_086, "linear"),
        "512x512_diffusion.pt": _entry(adm_unet(512), 512, 558_997_638, "linear"),
        "64_256_upsampler.pt": _entry(adm_upsampler(256), 256, 311_795_910, "linear", low_resolution=64),
        "128_512_upsampler.pt": _entry(adm_upsampler(512), 512, 308_835_270, "linear", low_resolution=128),
        "lsun_bedroom.pt": _entry(lsun, 256, 552_814_086, "linear"),
        "lsun_cat.pt": _entry(lsun, 256, 552_814_086, "linear"),
        "lsun_horse.pt": _entry(lsun, 256, 552_814_086, "linear"),
        "lsun_horse_nodropout.pt": _entry(adm_unet(256, None), 256, 552_814_086, "linear"),
        "64x64_classifier.pt": _entry(adm_classifier(64), 64, 65_438_568, "cosine"),
        "128x128_classifier.pt": _entry(adm_classifier(128), 128, 42_568_040, "linear"),
        "256x256_classifier.pt": _entry(adm_classifier(256), 256, 54_096_360, "linear"),
        "512x512_classifier.pt": _entry(adm_classifier(512), 512, 54_448_360, "linear"),
        "cifar10_uncond_50M_500K.pt": cifar10,
        "cifar10_uncond_vlb_50M_500K.pt": cifar10,
        "imagenet64_uncond_100M_1500K.pt": imagenet64,
        "imagenet64_uncond_vlb_100M_1500K.pt": imagenet64,
        "imagenet64_cond_270M_250K.pt": _entry(
            iddpm_unet(64, channels=192, num_classes=1000), 64, 273_049_350, "cosine", 4000
        ),
        "upsample_cond_500K.pt": _entry(iddpm_upsampler, 256, 279_792_390, "linear", 4000, low_resolution=64),
        "lsun_uncond_100M_1200K_bs128.pt": _entry(lsun_2021_03, 256, 113_676_678, "linear"),
        "lsun_uncond_100M_2400K_bs64.pt": _entry(lsun_2021_03, 256, 113_676_678, "linear"),
        "ddpm_cifar10": _entry(ddpm_unet(32), 32, 35_746_307, "linear"),
        "ddpm_256": _entry(ddpm_unet(256), 256, 113_673_219, "linear"),
    }


def _entry(
    network: UNet | EncoderUNet,
    image_size: int,
    num_parameters: int,
    schedule: Literal["linear", "cosine"],
    num_steps: int = 1000,
    rescaled: bool = False,
    low_resolution: int | None = None,
) -> Released:
    betas = (linear_betas if schedule == "linear" else cosine_betas)(num_steps)
    channels = network.in_channels // (1 if low_resolution is None else 2)
    model = DiffusionModel(
        network,
        make_schedule(betas),
        variance="learned_range" if network.out_channels == 2 * channels else "fixed_large",
        shape=(image_size, image_size, channels),
        rescaled_timesteps=rescaled,
        low_resolution=low_resolution,
    )
    return Released(model, num_parameters)


def _check(image_size: int, sizes: tuple[int, ...], authors: str) -> None:
    if image_size not in sizes:
        known = ", ".join(str(size) for size in sizes)
        raise ValueError(f"{authors} have networks for images of {known}, not {image_size}; UNet(...) makes others")
