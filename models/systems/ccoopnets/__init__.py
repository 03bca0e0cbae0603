"""CCoopNets: cooperative training of a fast initializer and a slow solver (Xie, Zheng, Fang, Zhu, Wu).

Conditions are class labels or images; the two kinds share the refinement and the training.
"""
