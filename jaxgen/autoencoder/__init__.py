"""Autoencoders: plain, denoising, sparse and contractive (chapter 1 of the notes)."""

from jaxgen.autoencoder.baselines import (
    logistic_pca,
    logistic_pca_codes,
    logistic_pca_reconstruct,
    pca,
    pca_reconstruct,
)
from jaxgen.autoencoder.conjugate_gradient import conjugate_gradient_update
from jaxgen.autoencoder.contraction import (
    contraction_ratio,
    contractive_loss,
    contractive_penalty,
    higher_order_contractive_penalty,
    hutchinson_contractive_penalty,
    jacobian_spectrum,
    probed_contractive_penalty,
    saturation,
    sigmoid_contractive_penalty,
)
from jaxgen.autoencoder.corruption import gaussian_noise, masking_noise
from jaxgen.autoencoder.evaluation import (
    classification_error,
    linear_probe_error,
    map_in_chunks,
    neighbour_error,
    reconstruction_error,
)
from jaxgen.autoencoder.k_sparse import annealed_k, auxk_error, k_sparse_encode, k_sparse_loss, top_k
from jaxgen.autoencoder.networks import Autoencoder, Classifier, classifier_params, identity, init_params
from jaxgen.autoencoder.objectives import (
    classification_loss,
    cross_entropy,
    reconstruction_loss,
    squared_error,
)
from jaxgen.autoencoder.pretraining import Pretraining, pretrain
from jaxgen.autoencoder.rbm import (
    contrastive_divergence,
    contrastive_divergence_update,
    free_energy,
    hidden_given_visible,
    momentum_sgd,
    rbm_params,
    two_stage_momentum,
    unroll,
    visible_given_hidden,
)
from jaxgen.autoencoder.sparse_codes import SparseCode, SparseMethod, build_sparse
from jaxgen.autoencoder.sparsity import (
    dead_units,
    kl_sparsity,
    kl_sparsity_loss,
    kl_sparsity_statistics,
    l1_sparsity,
    l1_sparsity_loss,
    linearized_kl_sparsity,
)

__all__ = [
    "Autoencoder",
    "Classifier",
    "Pretraining",
    "SparseCode",
    "SparseMethod",
    "annealed_k",
    "auxk_error",
    "build_sparse",
    "classification_error",
    "classification_loss",
    "classifier_params",
    "conjugate_gradient_update",
    "contraction_ratio",
    "contractive_loss",
    "contractive_penalty",
    "contrastive_divergence",
    "contrastive_divergence_update",
    "cross_entropy",
    "dead_units",
    "free_energy",
    "gaussian_noise",
    "hidden_given_visible",
    "higher_order_contractive_penalty",
    "hutchinson_contractive_penalty",
    "identity",
    "init_params",
    "jacobian_spectrum",
    "k_sparse_encode",
    "k_sparse_loss",
    "kl_sparsity",
    "kl_sparsity_loss",
    "kl_sparsity_statistics",
    "l1_sparsity",
    "l1_sparsity_loss",
    "linear_probe_error",
    "linearized_kl_sparsity",
    "logistic_pca",
    "logistic_pca_codes",
    "logistic_pca_reconstruct",
    "map_in_chunks",
    "masking_noise",
    "momentum_sgd",
    "neighbour_error",
    "pca",
    "pca_reconstruct",
    "pretrain",
    "probed_contractive_penalty",
    "rbm_params",
    "reconstruction_error",
    "reconstruction_loss",
    "saturation",
    "sigmoid_contractive_penalty",
    "squared_error",
    "top_k",
    "two_stage_momentum",
    "unroll",
    "visible_given_hidden",
]
