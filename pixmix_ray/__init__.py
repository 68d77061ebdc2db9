"""Train and evaluate safe image classifiers on a Ray cluster (PixMix, Hendrycks et al., CVPR 2022).

Importing this package imports neither ray nor torch; each room is imported by its own name:
`pixmix_ray.methods`, `pixmix_ray.corruptions`, `pixmix_ray.metrics`, `pixmix_ray.storage` and so on.
"""

__version__ = "0.1.0"
