"""The devices of a Keras backend."""

from __future__ import annotations

import keras

from ...errors import SetupError


def sees_gpu() -> bool:
    """Whether the Keras backend can run on a GPU here."""
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    if backend == "jax":
        import jax  # pyright: ignore[reportMissingImports]

        return jax.default_backend() == "gpu"
    from keras.src.backend.torch import core

    return core.DEFAULT_DEVICE == "cuda"


def named_device(device: str) -> str:
    """What the Keras backend calls "cpu" or "cuda", made ready.

    Raises:
        SetupError: there is no such device.
    """
    torch_backend = keras.config.backend() == "torch"  # which takes "cpu:0" for another device than "cpu"
    if device == "cpu":
        return "cpu" if torch_backend else "cpu:0"
    if not sees_gpu():
        raise SetupError(
            "Keras sees no GPU.",
            numbers=f"--device cuda, keras {keras.__version__} on {keras.config.backend()}",
            todo="run with --device auto or --device cpu",
        )
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)  # PyTorch lives on the same card
        tf.config.experimental.enable_tensor_float_32_execution(False)
        tf.config.experimental.enable_op_determinism()
    return "cuda" if torch_backend else "gpu:0"
