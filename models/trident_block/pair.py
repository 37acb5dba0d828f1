"""One block at three dilations with a stride, on scikit-learn's digits."""

from __future__ import annotations

import xcheck

from ..common import builders, channels_first, digits, minibatches, optimizers


def pair(
    image_size: int = 8,
    filters: int = 8,
    bottleneck: int = 4,
    batch_size: int = 4,
    keras_all_used: bool = False,
    keras_padded_at_end: bool = False,
) -> xcheck.Pair:
    """The pair at any size; the original's blocks have filters=1024, bottleneck=256 on maps of about 50x84.

    What goes wrong in a port: all branches are used in a trained model, a strided map is padded at its end.
    """
    sizes = {"filters": filters, "bottleneck": bottleneck}
    build_torch, _ = builders(__name__, **sizes)
    _, build_keras = builders(__name__, **sizes, all_used=keras_all_used, padded_at_end=keras_padded_at_end)
    torch_optimizer, keras_optimizer = optimizers("SGD", learning_rate=0.05, momentum=0.9)

    def torch_loss(logits, labels):
        from .torch_model import loss

        return loss(logits, labels)

    def keras_loss(labels, logits):
        from .keras_model import loss

        return loss(labels, logits)

    weight_map: dict[str, str | tuple[str, str]] = {
        "stem.weight": "trident_net/stem/kernel",
        "stem.bias": "trident_net/stem/bias",
        "kernel": ("trident_net/conv/kernel", "conv"),
        "head.weight": "trident_net/head/kernel",
        "head.bias": "trident_net/head/bias",
    }
    for name in ("reduce", "expand", "shortcut"):
        weight_map[f"{name}.weight"] = f"trident_net/{name}/kernel"
    for name, keras in (("reduce", "reduce"), ("kernel", "conv"), ("expand", "expand"), ("shortcut", "shortcut")):
        weight_map[f"{name}_norm.weight"] = f"trident_net/{keras}_norm/gamma"
        weight_map[f"{name}_norm.bias"] = f"trident_net/{keras}_norm/beta"
    wrong = keras_all_used or keras_padded_at_end
    cause = "number_of_calls" if keras_all_used else "padding"
    return xcheck.Pair(
        name="trident_block" + "_all_used" * keras_all_used + "_padded_at_end" * keras_padded_at_end,
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer, prepare=channels_first),
        keras=xcheck.KerasSide(build_keras, loss=keras_loss, optimizer=keras_optimizer),
        batches=minibatches(lambda: digits(image_size), batch_size),
        weight_map=weight_map,
        also=("persistence", "export"),
        expect=xcheck.Expectation(xcheck.Verdict.DIFFERENT, "forward", cause) if wrong else None,
    )


PAIR = pair()
ALL_USED = pair(keras_all_used=True)
PADDED_AT_END = pair(keras_padded_at_end=True)
