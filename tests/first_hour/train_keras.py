"""The Keras port of train_torch.py."""

import keras
import numpy as np

VOCABULARY, WIDTH, LENGTH = 40, 24, 12
PEAK, WARM_UP, STEPS, DECAY, AVERAGE = 3e-3, 20, 300, 0.1, 0.99


class WarmUpCosine(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        step = keras.ops.cast(step, keras.config.floatx())
        warm_up = PEAK * (1 / WARM_UP + (1 - 1 / WARM_UP) * step / WARM_UP)
        cosine = PEAK * 0.5 * (1 + keras.ops.cos(np.pi * (step - WARM_UP) / (STEPS - WARM_UP)))
        return keras.ops.where(step < WARM_UP, warm_up, cosine)


class LanguageModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.tokens = keras.layers.Embedding(VOCABULARY, WIDTH)
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5)
        self.rnn = keras.layers.GRU(WIDTH, return_sequences=True)
        self.dropout = keras.layers.Dropout(0.1)
        self.output_layer = keras.layers.Dense(VOCABULARY)
        self(keras.ops.zeros((1, LENGTH), "int32"))
        self.output_layer.kernel.assign(keras.ops.transpose(self.tokens.embeddings))  # shared

    def call(self, tokens, training=None):
        hidden = self.rnn(self.norm(self.tokens(tokens)))
        return self.output_layer(self.dropout(hidden, training=training))


def main():
    keras.utils.set_random_seed(0)
    model = LanguageModel()
    optimizer = keras.optimizers.AdamW(
        WarmUpCosine(), weight_decay=DECAY, clipnorm=0.25, use_ema=True, ema_momentum=AVERAGE
    )
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    text = np.random.randint(VOCABULARY, size=(512, LENGTH + 1))
    model.fit(text[:, :-1], text[:, 1:], batch_size=16, epochs=8)
    optimizer.finalize_variable_values(model.trainable_variables)
    model.save_weights("average.weights.h5")


if __name__ == "__main__":
    main()
