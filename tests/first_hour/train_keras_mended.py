"""The Keras port of train_torch.py without its three mistakes: the tie, the clipping, the decayed vectors."""

import keras

from .train_keras import AVERAGE, DECAY, VOCABULARY, WIDTH, WarmUpCosine


class LanguageModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.tokens = keras.layers.Embedding(VOCABULARY, WIDTH)
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5)
        self.rnn = keras.layers.GRU(WIDTH, return_sequences=True)
        self.dropout = keras.layers.Dropout(0.1)
        self.bias = self.add_weight(shape=(VOCABULARY,), initializer="zeros", name="bias")

    def call(self, tokens, training=None):
        hidden = self.rnn(self.norm(self.tokens(tokens)))
        hidden = self.dropout(hidden, training=training)
        return keras.ops.matmul(hidden, keras.ops.transpose(self.tokens.embeddings)) + self.bias


def make_optimizer():
    optimizer = keras.optimizers.AdamW(
        WarmUpCosine(), weight_decay=DECAY, global_clipnorm=0.25, use_ema=True, ema_momentum=AVERAGE
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return optimizer
