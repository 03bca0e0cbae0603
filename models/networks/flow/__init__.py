"""Flow++ (Ho et al., ICML 2019): a normalising flow of images, with logistic-mixture couplings."""
