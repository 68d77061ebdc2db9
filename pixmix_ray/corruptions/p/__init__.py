"""The perturbation sequences of CIFAR-10-P and ImageNet-P (Hendrycks and Dietterich, ICLR 2019)."""
