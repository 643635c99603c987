r"""The notes' equations, and the papers' where the notes have none, each under the function that computes it.

The tour and the reference pages set them as MathML. Bold letters are written plain, as some phones lack them; \hat{x}
is what the function's docstring calls x-hat.
"""

AUTOENCODER = {
    "squared_error": r"\| x - x' \|^2 = \sum_i (x_i - x'_i)^2",
    "reconstruction_loss": r"L_{AE}(\theta, \phi) = \frac{1}{n} \sum_{i=1}^{n} \left( x^i - f_\theta(g_\phi(x^i)) "
    r"\right)^2",
    "cross_entropy": r"-\sum_i \left[ x_i \,\log\,p_i + (1 - x_i) \,\log\,(1 - p_i) \right], \quad "
    r"p = \frac{1}{1 + e^{-l}}",
    "gaussian_noise": r"\tilde{x} = x + \sigma \epsilon, \quad \epsilon \sim N(0, I)",
    "kl_sparsity": r"\sum_j \mathrm{KL}(\rho \,\|\, \hat{\rho}_j) = \sum_j \rho \log\,\frac{\rho}{\hat{\rho}_j} "
    r"+ (1-\rho) \log\,\frac{1-\rho}{1-\hat{\rho}_j}",
    "l1_sparsity": r"\sum_j |a_j|",
    "top_k": r"a_j \text{ if it is one of the } k \text{ largest, else } 0",
    "contractive_penalty": r"\| J_f(x) \|_F^2 = \sum_{ij} \left( \frac{\partial h_j(x)}{\partial x_i} \right)^2",
    "sigmoid_contractive_penalty": r"\| J_f(x) \|_F^2 = \sum_j \left( h_j (1 - h_j) \right)^2 \sum_i W_{ij}^2",
    "hutchinson_contractive_penalty": r"\| J_f(x) \|_F^2 = E_v \| J_f(x) v \|^2, \quad v \in \{-1, 1\}^D",
    "contractive_loss": r"L(x, f_\theta(g_\phi(x))) + \lambda \, \| J_g(x) \|_F^2",
    "contraction_ratio": r"\| f(x + r u) - f(x) \| / r, \quad \| u \| = 1",
    "jacobian_spectrum": r"J_f(x) = U \Sigma V^{T}, \quad \sigma_1 \geq \sigma_2 \geq \ldots",
    "pca_reconstruct": r"\hat{x} = m + (x - m) \, C^{T} C",
    "logistic_pca": r"x \sim \mathrm{Bernoulli} \left( \frac{1}{1 + e^{-(z W + b)}} \right)",
    "free_energy": r"F(v) = -\log\,\sum_h e^{-E(v, h)}",
    "contrastive_divergence": r"\Delta W \propto \langle v h \rangle_{data} - \langle v h \rangle_{reconstruction}",
    "hidden_given_visible": r"E [ h | v ] = \frac{1}{1 + e^{-(v W + c)}}",
    "visible_given_hidden": r"p(v = 1 | h) = \frac{1}{1 + e^{-(h W^{T} + b)}}",
}

VAE = {
    "reparameterize": r"z = \mu + \sigma \epsilon, \quad \epsilon \sim N(0, I)",
    "kl_to_standard_normal": r"D_{KL}(N(\mu, \sigma^2) \,\|\, N(0, I)) = \frac{1}{2} \sum_i \left( \mu_i^2 "
    r"+ \sigma_i^2 - \log\,\sigma_i^2 - 1 \right)",
    "monte_carlo_kl": r"\log\,q(z|x) - \log\,p(z), \quad z \sim q(z|x)",
    "bernoulli_log_likelihood": r"\log\,p(x|z) = \sum_i x_i \,\log\,p_i + (1 - x_i) \,\log\,(1 - p_i)",
    "gaussian_log_likelihood": r"\log\,p(x|z) = -\frac{1}{2} \sum_i \left( \frac{(x_i - m_i)^2}{s_i^2} "
    r"+ \log\,2 \pi s_i^2 \right)",
    "elbo": r"L_b = E_{q(z|x)} \,\log\,p(x|z) - D_{KL}(q(z|x) \,\|\, p(z)) \leq \log\,p(x)",
    "importance_weighted_bound": r"L_K = E \,\log\,\frac{1}{K} \sum_{k=1}^{K} w_k, \quad "
    r"w_k = \frac{p(x|z_k)\, p(z_k)}{q(z_k|x)}",
    "log_marginal_likelihood": r"\log\,p(x) \approx \log\,\frac{1}{K} \sum_{k=1}^{K} "
    r"\frac{p(x|z_k)\, p(z_k)}{q(z_k|x)}",
    "normalized_weights": r"\tilde{w}_k = w_k / \sum_{j=1}^{K} w_j",
}

GAN = {
    "value": r"\min_G \max_D \; E_{x \sim p_r} [ \,\log\,D(x) ] + E_{z \sim p_z} [ \,\log\,(1 - D(G(z))) ]",
    "optimal_discriminator": r"D^{*}(x) = \frac{p_r(x)}{p_r(x) + p_g(x)}",
    "optimal_logits": r"\log\,\frac{D^{*}(x)}{1 - D^{*}(x)} = \log\,p_r(x) - \log\,p_g(x)",
    "jensen_shannon": r"\max_D L(D, G) = 2 D_{JS}(p_r \,\|\, p_g) - 2 \,\log\,2",
    "discriminator_loss": r"-\log\,D(x) - \log\,(1 - D(G(z)))",
    "generator_loss": r"-E_{z \sim p_z} [ \,\log\,D(G(z)) ] \quad \text{(non-saturating), or} \quad "
    r"E_{z \sim p_z} [ \,\log\,(1 - D(G(z))) ]",
    "least_squares_discriminator_loss": r"\frac{1}{2} (D(x) - b)^2 + \frac{1}{2} (D(G(z)) - a)^2",
    "least_squares_generator_loss": r"\frac{1}{2} (D(G(z)) - c)^2",
    "wasserstein_discriminator_loss": r"f(G(z)) - f(x)",
    "wasserstein_generator_loss": r"-f(G(z))",
    "hinge_discriminator_loss": r"\max(0, 1 - f(x)) + \max(0, 1 + f(G(z)))",
    "gradient_penalty": r"\left( \| \nabla f(\hat{x}) \| - 1 \right)^2, \quad \hat{x} = e x + (1 - e) G(z), "
    r"\quad e \sim U(0, 1)",
    "r1_penalty": r"\frac{1}{2} \| \nabla f(x) \|^2",
    "spectral_norm": r"\sigma(W) = v^{T} W u, \quad v = W u / \| W u \|",
}

DIFFUSION = {
    "cosine_betas": r"\beta_t = \min \left( 1 - \frac{f(t + 1)}{f(t)}, \beta_{max} \right), \quad "
    r"f(t) = \cos^2 \left( \frac{t / T + s}{1 + s} \cdot \frac{\pi}{2} \right)",
    "make_schedule": r"\alpha_t = 1 - \beta_t, \quad \bar{\alpha}_t = \prod_{i=1}^{t} \alpha_i",
    "q_step": r"q(x_t | x_{t-1}) = N(x_t; \sqrt{1 - \beta_t} \, x_{t-1}, \beta_t I)",
    "q_sample": r"q(x_t | x_0) = N(x_t; \sqrt{\bar{\alpha}_t} \, x_0, (1 - \bar{\alpha}_t) I)",
    "add_noise": r"x_t = \sqrt{\bar{\alpha}_t}\, x_0 + \sqrt{1 - \bar{\alpha}_t}\, \epsilon",
    "q_posterior": r"\tilde{\beta}_t = \frac{1 - \bar{\alpha}_{t-1}}{1 - \bar{\alpha}_t} \beta_t, \quad "
    r"\tilde{\mu}_t = \frac{\sqrt{\bar{\alpha}_{t-1}} \beta_t}{1 - \bar{\alpha}_t} x_0 "
    r"+ \frac{\sqrt{\alpha_t} (1 - \bar{\alpha}_{t-1})}{1 - \bar{\alpha}_t} x_t",
    "mean_from_noise": r"\mu_\theta(x_t, t) = \frac{1}{\sqrt{\alpha_t}} \left( x_t - \frac{1 - \alpha_t}"
    r"{\sqrt{1 - \bar{\alpha}_t}} \epsilon_\theta(x_t, t) \right)",
    "x0_from_noise": r"\hat{x}_0 = \frac{x_t - \sqrt{1 - \bar{\alpha}_t} \, \epsilon}{\sqrt{\bar{\alpha}_t}}",
    "v_from_noise_and_x0": r"v = \sqrt{\bar{\alpha}_t} \, \epsilon - \sqrt{1 - \bar{\alpha}_t} \, x_0",
    "p_mean_variance": r"p_\theta(x_{t-1} | x_t) = N(x_{t-1}; \mu_\theta(x_t, t), \Sigma_\theta(x_t, t))",
    "ancestral_step": r"x_{t-1} = \mu_\theta(x_t, t) + \sigma_t z, \quad z \sim N(0, I)",
    "ddim_step": r"x_{t-1} = \sqrt{\bar{\alpha}_{t-1}} \, \hat{x}_0 + \sqrt{1 - \bar{\alpha}_{t-1} - \sigma^2} \, "
    r"\epsilon_\theta + \sigma z, \quad \sigma^2 = \eta^2 \tilde{\beta}_t",
    "prior_kl": r"L_T = D_{KL}(q(x_T | x_0) \,\|\, N(0, I))",
    "vlb_term": r"L_{t-1} = D_{KL}(q(x_{t-1} | x_t, x_0) \,\|\, p_\theta(x_{t-1} | x_t)), \quad "
    r"L_0 = -\log\,p_\theta(x_0 | x_1)",
    "vlb_terms": r"L_{VLB} = L_T + \sum_{t=2}^{T} L_{t-1} + L_0 \geq -\log\,p_\theta(x_0)",
    "noise_loss_weight": r"L_t = E \, \frac{(1 - \alpha_t)^2}{2 \sigma_t^2 \alpha_t (1 - \bar{\alpha}_t)} "
    r"\| \epsilon - \epsilon_\theta(x_t, t) \|^2",
    "simple_loss": r"L_{simple} = E_{t, x_0, \epsilon} \| \epsilon - \epsilon_\theta(x_t, t) \|^2",
    "training_loss": r"L_{hybrid} = L_{simple} + \lambda L_{VLB}",
    "timestep_probabilities": r"p_t \propto \sqrt{E [ L_t^2 ]}",
    "classifier_guidance": r"\mu_\theta(x_t, t) + s \, \Sigma_\theta(x_t, t) \, \nabla_{x_t} \,\log\,p_\phi(y | x_t)",
    "classifier_free_guidance": r"\epsilon_\theta(x_t) + s \left( \epsilon_\theta(x_t, y) "
    r"- \epsilon_\theta(x_t) \right)",
}

NERF = {
    "camera_rays": r"r(t) = o + t d",
    "positional_encoding": r"\gamma(p) = \left( \sin(2^0 \pi p), \cos(2^0 \pi p), \ldots, \sin(2^{L-1} \pi p), "
    r"\cos(2^{L-1} \pi p) \right)",
    "stratified_samples": r"t_i \sim U \left[ t_n + \frac{i-1}{N} (t_f - t_n), t_n + \frac{i}{N} (t_f - t_n) \right]",
    "composite": r"\hat{C}(r) = \sum_{i=1}^{N} T_i (1 - e^{-\sigma_i \delta_i}) c_i, \quad "
    r"T_i = e^{-\sum_{j<i} \sigma_j \delta_j}, \quad \delta_i = t_{i+1} - t_i",
    "importance_samples": r"\hat{w}_i = w_i / \sum_{j=1}^{N_c} w_j",
    "photometric_loss": r"L = \sum_r \| \hat{C}_c(r) - C(r) \|^2 + \| \hat{C}_f(r) - C(r) \|^2",
    "ndc_project": r"(x, y, z) \to \left( -\frac{2 f_x}{W} \frac{x}{z}, \; -\frac{2 f_y}{H} \frac{y}{z}, \; "
    r"1 + \frac{2 n}{z} \right)",
}

METRICS = {
    "frechet_distance": r"\| m_a - m_b \|^2 + \mathrm{tr} \left( C_a + C_b - 2 (C_a C_b)^{1/2} \right)",
    "parzen_log_density": r"\log\,\frac{1}{N} \sum_{n=1}^{N} N(x; s_n, \sigma^2 I)",
    "psnr": r"10 \,\log_{10} \frac{range^2}{MSE}",
}

EQUATIONS = {
    f"{package}.{name}": tex
    for package, found in {
        "autoencoder": AUTOENCODER,
        "vae": VAE,
        "gan": GAN,
        "diffusion": DIFFUSION,
        "nerf": NERF,
        "metrics": METRICS,
    }.items()
    for name, tex in found.items()
}
