"""Sets drawn by statistical models of pictures: dead leaves, spectra, an untrained StyleGAN."""
