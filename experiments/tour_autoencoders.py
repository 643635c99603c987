"""Chapters 1 and 2 on the tour: autoencoders, plain, sparse, contractive and variational."""

from experiments.tour_lesson import Chapter, Lesson

DEEP = Lesson(
    "deep_autoencoder",
    "A deep autoencoder beside PCA",
    (
        "An autoencoder squeezes x through a few numbers, the code z = g(x), and rebuilds x from them.",
        "It is trained so that f(g(x)) comes close to x; nobody tells it what the code should mean.",
        "Here each image is a stroke drawn from six numbers, and the code has six. PCA, the best linear code, "
        "needs far more components for the same error: the strokes lie on a curved surface.",
    ),
    ("autoencoder.reconstruction_loss", "autoencoder.pca_reconstruct"),
    {
        "reconstructions.png": "Test images, rebuilt from 6 numbers by the autoencoder, and by PCA from 6 and from 18",
        "filters.png": "What the first layer's units look for",
    },
    {"squared_error": "Squared error of training images"},
    (
        (
            "Squared error of the autoencoder with 6 numbers, test images",
            "test_error",
            "PCA with 6 numbers {pca_error:.4g}, with 18 {pca_18_error:.4g}",
        ),
        (
            "The same as a share of the error of PCA with 18",
            "error_over_pca_18",
            "Hinton & Salakhutdinov 2006, on their own curves: 1.44 / 5.90 = 0.244",
        ),
    ),
)

SPARSE = Lesson(
    "sparse_autoencoder",
    "Sparse codes",
    (
        "A code may have more units than x has pixels, if only a few of them are used at a time.",
        "Four codes of 144 units on scanned digits: without a constraint, with an L1 penalty, with a mean activation "
        "held near rho (KL), and with all but the k largest units set to zero.",
        "A code is good if a linear classifier reads the digit from it.",
    ),
    ("autoencoder.kl_sparsity", "autoencoder.l1_sparsity", "autoencoder.top_k"),
    {
        "filters-plain.png": "Filters without a constraint",
        "filters-l1.png": "Filters with L1",
        "filters-kl.png": "Filters with KL",
        "filters-k_sparse.png": "Filters of the k-sparse code: strokes, and noise where a unit never learned",
        "reconstructions-k_sparse.png": "Rebuilt from the k-sparse code",
    },
    {"squared_error": "Squared error of training images"},
    (
        (
            "Errors of a linear classifier on the k-sparse code, percent",
            "k_sparse_probe_error_percent",
            "on the pixels themselves {pixels_probe_error_percent:.4g}",
        ),
        (
            "The same on the KL code",
            "kl_probe_error_percent",
            "on the plain code {plain_probe_error_percent:.4g}, on the L1 code {l1_probe_error_percent:.4g}",
        ),
        ("Share of units in use on an image, k-sparse", "k_sparse_active_share", "plain {plain_active_share:.4g}"),
    ),
)

CONTRACTIVE = Lesson(
    "contractive_autoencoder",
    "A contractive code",
    (
        "A robust code hardly moves when x moves a little: the Jacobian of the encoder is kept small.",
        "The reconstruction keeps it from being small in every direction, so it stays large along the few directions "
        "in which the data itself varies. The singular values show them.",
        "Each of six layers is then fine-tuned as a classifier.",
    ),
    ("autoencoder.contractive_penalty", "autoencoder.sigmoid_contractive_penalty"),
    {
        "jacobian-spectra.png": (
            "Mean singular values of the Jacobian: those of the contractive code (cae) fall faster than those of the "
            "others that rebuild as well"
        ),
        "filters-ae.png": "Filters of the plain autoencoder",
        "filters-cae.png": "Filters of the contractive autoencoder",
    },
    {"squared_error": "Squared error of training images"},
    (
        (
            "Norm of the Jacobian, contractive",
            "cae_jacobian_norm",
            "plain {ae_jacobian_norm:.4g}, KL-sparse {kl_jacobian_norm:.4g}",
        ),
        (
            "Errors of the fine-tuned classifier, percent, contractive",
            "cae_error_percent",
            "plain {ae_error_percent:.4g}; Rifai et al. 2011 on MNIST: 1.14 and 1.78",
        ),
    ),
)

VAE = Lesson(
    "vae",
    "A variational autoencoder with two latent numbers",
    (
        "An autoencoder rebuilds but cannot invent: nobody knows which codes stand for images.",
        "A VAE makes the code random, z ~ N(mu(x), sigma(x)^2), and pulls it towards N(0, I). Then z drawn from "
        "N(0, I) gives new images.",
        "Minus the loss is a lower bound of log p(x), in nats, and nothing is rescaled. Here log p(x) "
        "is also estimated, by importance sampling, so the gap can be seen.",
    ),
    ("vae.reparameterize", "vae.kl_to_standard_normal", "vae.elbo", "vae.log_marginal_likelihood"),
    {
        "manifold.png": "The decoder's image at every place of the latent plane",
        "posterior.png": "Where the encoder puts the test images: no label was used",
        "interpolations.png": "From one test image to another, through the latent plane",
        "samples.png": "New images: z drawn from N(0, I)",
        "reconstructions.png": "Test images, drawn as black and white, and rebuilt",
    },
    {"bound": "Lower bound of log p(x), nats, training images", "kl": "KL(q(z|x) || p(z)), nats"},
    (
        (
            "-log p(x), nats, test images",
            "negative_log_likelihood",
            "standard error {standard_error:.2g}; by the bound log p(x) is at least {test_bound:.4g}",
        ),
        ("Latent numbers in use", "active_units", "of 2"),
    ),
)

CHAPTERS = (
    Chapter("1. Autoencoders", (DEEP, SPARSE, CONTRACTIVE)),
    Chapter("2. Variational autoencoders", (VAE,)),
)
