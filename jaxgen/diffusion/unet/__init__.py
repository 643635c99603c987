"""The U-Net of Ho et al. (2020), Nichol & Dhariwal (2021) and Dhariwal & Nichol (2021)."""
