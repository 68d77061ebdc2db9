"""The corruptions of CIFAR-10-C, CIFAR-100-C and ImageNet-C (Hendrycks and Dietterich, ICLR 2019)."""
