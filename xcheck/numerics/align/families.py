"""The family of a module, a layer or a function, by names common to both frameworks."""

from __future__ import annotations

import re

_SAME = {
    "linear": "dense",
    "matmul": "dense",
    "einsum": "dense",
    "einsumdense": "dense",
    "bmm": "dense",
    "addmm": "dense",
    "mm": "dense",
    "convolution": "conv",
    "batchnormalization": "batchnorm",
    "layernormalization": "layernorm",
    "groupnormalization": "groupnorm",
    "rmsnormalization": "rmsnorm",
    "instancenorm": "groupnorm",
    "depthwiseconv": "conv",
    "convtranspose": "convtranspose",
    "averagepooling": "avgpool",
    "averagepool": "avgpool",
    "maxpooling": "maxpool",
    "upsampling": "resize",
    "upsample": "resize",
    "interpolate": "resize",
    "resizing": "resize",
    "grucell": "gru",
    "lstmcell": "lstm",
    "rnncell": "rnn",
    "simplernn": "rnn",
    "simplernncell": "rnn",
    "multiheadattentionforward": "attention",
    "multiheadattention": "attention",
    "multiheadattn": "attention",
    "scaleddotproductattention": "attention",
    "dotproductattention": "attention",
    "swish": "silu",
    "hardswish": "hardsilu",
    "mul": "multiply",
    "sub": "subtract",
    "div": "divide",
    "truediv": "divide",
    "truedivide": "divide",
    "pow": "power",
    "cat": "concatenate",
    "concat": "concatenate",
    "reversibleembedding": "embedding",
    "view": "reshape",
    "permute": "transpose",
    "amax": "max",
    "amin": "min",
}


def family_of(kind: str) -> str:
    """One word for a class or a function: "Conv2d" and "Conv2D" are "conv", "BatchNormalization" is "batchnorm"."""
    word = re.sub(r"\d+d|_", "", kind.lower())
    return _SAME.get(word, word)
