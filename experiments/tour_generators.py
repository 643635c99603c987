"""Chapters 3 to 5 on the tour: generative adversarial networks, diffusion models, neural radiance fields."""

from experiments.tour_lesson import Chapter, Lesson

GAN = Lesson(
    "gan",
    "A generative adversarial network finds eight modes",
    (
        "A generator G turns noise z into samples; a discriminator D says how likely a sample is to be real. Each is "
        "trained against the other.",
        "For a given G the best D is known, and against it the game measures how far the generated distribution is "
        "from the real one. At the equilibrium D answers 1/2 everywhere and the value is -2 log 2.",
        "The data are eight Gaussians on a ring, because there the densities are known: it can be counted how many "
        "modes G has found, and D can be drawn beside the best one.",
    ),
    ("gan.value", "gan.optimal_discriminator", "gan.jensen_shannon", "gan.generator_loss"),
    {
        "film.gif": "Generated dots, circles for the modes; D says real on blue, generated on orange",
        "discriminator.png": "D at the end, beside the best discriminator against this generator",
    },
    {
        "value": "Value of the game: -1.3863 at the equilibrium",
        "real_probability": "D on real data, mean",
        "fake_probability": "D on generated data, mean",
    },
    (
        ("Modes with at least 20 of 2,500 samples", "modes_20", "of {modes_in_all:.0f}"),
        (
            "Samples within three standard deviations of a mode, percent",
            "high_quality_percent",
            "98.89 for perfect samples",
        ),
        ("Value of the game at the end", "value", "-2 log 2 = -1.3863 at the equilibrium"),
        ("D on real data", "real_probability", "1/2 at the equilibrium; on generated data {fake_probability:.4g}"),
        ("Jensen-Shannon divergence, by the best discriminator", "jensen_shannon", "0 at the equilibrium"),
    ),
)

DDPM = Lesson(
    "ddpm",
    "A diffusion model draws digits",
    (
        "Noise is added to an image in many small steps, until nothing is left of it. How that happens is fixed, and "
        "x_t can be drawn in one go from x_0.",
        "A network learns to say which noise was added. Going back step by step, from pure noise, gives new images.",
        "Every step backwards is a Gaussian whose mean follows from the predicted noise. The sum of the divergences "
        "between true and learned steps bounds -log p(x).",
    ),
    (
        "diffusion.q_sample",
        "diffusion.add_noise",
        "diffusion.q_posterior",
        "diffusion.mean_from_noise",
        "diffusion.ancestral_step",
        "diffusion.vlb_terms",
        "diffusion.simple_loss",
    ),
    {
        "denoising.png": "From noise to image: x_t, and below it the x_0 that is predicted from it",
        "samples.png": "New images",
        "neighbours.png": "Samples, and below each the training images nearest to it",
        "interpolations.png": "Between two test images, both half-way into the noise",
        "bound.png": "The bound's terms and the error of the noise at every step",
    },
    {"error": "Mean squared error of the predicted noise"},
    (
        (
            "Bound of -log p(x), bits/dim, test images",
            "bits_per_dim",
            "rate {rate:.4g} and distortion {distortion:.4g}; 8 bits/dim for uniform pixels",
        ),
        (
            "Frechet distance of samples on a classifier's features",
            "classifier_fid",
            "{classifier_fid_floor:.4g} for real images that were held out",
        ),
        ("Precision", "precision", "{precision_floor:.4g} for held-out images"),
        ("Recall", "recall", "{recall_floor:.4g} for held-out images"),
    ),
)

GUIDED = Lesson(
    "guided_diffusion",
    "Digits on demand: guidance",
    (
        "A diffusion model can be told what to draw. A classifier of noisy images says in which direction "
        "log p(y | x_t) rises, and every step backwards is pushed that way.",
        "It can be done without a classifier: a network that was trained with and without labels answers twice, and "
        "the difference of the answers is the push.",
        "The harder the push, the more samples are what was asked for, and the less they differ from each other.",
    ),
    ("diffusion.classifier_guidance", "diffusion.classifier_free_guidance", "diffusion.training_loss"),
    {
        "guided.png": (
            "A column begins with the same noise in every row, and is asked for the digits 0 to 9, twice: without a "
            "label; pushed by a classifier alone, ever harder; told the class; and pushed without a classifier"
        ),
        "tradeoff.png": "What is won and lost as the push grows",
        "classifier.png": "How often the classifier is right, the more noise there is",
    },
    {"error": "Mean squared error of the predicted noise"},
    (
        (
            "Samples of the digit that was asked for, percent, pushed by a classifier with scale 4",
            "named_right_percent_classifier_alone_4",
            "with scale 1 {named_right_percent_classifier_alone_1:.4g}, without a label "
            "{named_right_percent_without_labels:.4g}",
        ),
        (
            "The same by a network that is told the class",
            "named_right_percent_unguided",
            "pushed without a classifier, scale 4: {named_right_percent_classifier_free_4:.4g}",
        ),
        (
            "Recall, pushed without a classifier, scale 4",
            "recall_classifier_free_4",
            "told the class {recall_unguided:.4g}; held-out images {recall_floor:.4g}",
        ),
    ),
)

NERF = Lesson(
    "nerf",
    "A radiance field learned from images with poses",
    (
        "A network maps a place and a direction to a colour and a density. An image is made of rays: along each, "
        "colours are summed, weighted by how much is seen of them.",
        "All of it can be differentiated, so the network is trained by comparing rendered with photographed pixels.",
        "Sines and cosines of the position give it sharp detail, and a coarse network shows the fine one where along "
        "the ray there is something to see.",
        "The scene here is known exactly, so depth can be measured too.",
    ),
    (
        "nerf.camera_rays",
        "nerf.positional_encoding",
        "nerf.stratified_samples",
        "nerf.composite",
        "nerf.importance_samples",
        "nerf.photometric_loss",
    ),
    {
        "turntable.gif": "Around the scene, from places where no image was taken",
        "turntable-depth.gif": "The same way round, depth: near is warm, far is cold",
        "view-0.png": "A held-out view: truth, rendering, difference, depth, opacity",
        "view-1.png": "Another held-out view",
        "progress.png": "PSNR of a held-out view while training",
    },
    {
        "fine_squared_error": "Squared error of a pixel, fine network",
        "coarse_squared_error": "Squared error of a pixel, coarse network",
    },
    (
        ("PSNR of held-out views, dB", "psnr", "coarse network {psnr_coarse:.4g}"),
        ("SSIM of held-out views", "ssim", "1 at best"),
        ("Error of depth where the scene is opaque, world units", "depth_error", "0 at best"),
    ),
)

CHAPTERS = (
    Chapter("3. Generative adversarial networks", (GAN,)),
    Chapter("4. Diffusion models", (DDPM, GUIDED)),
    Chapter("5. Neural radiance fields", (NERF,)),
)
