"""`python -m pixmix_ray`, the same as the command `pixmix-ray`."""

from pixmix_ray.cli import main

if __name__ == "__main__":
    main()
