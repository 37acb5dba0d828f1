"""Trains a small language model: the output layer shares the weights of the embedding."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

VOCABULARY, WIDTH, LENGTH = 40, 24, 12
PEAK, WARM_UP, STEPS, DECAY, AVERAGE = 3e-3, 20, 300, 0.1, 0.99


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.rnn = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.dropout = nn.Dropout(0.1)
        self.output = nn.Linear(WIDTH, VOCABULARY)
        self.output.weight = self.tokens.weight

    def forward(self, tokens):
        hidden, _ = self.rnn(self.norm(self.tokens(tokens)))
        return self.output(self.dropout(hidden))


def main():
    torch.manual_seed(0)
    model = LanguageModel()
    average = {name: value.detach().clone() for name, value in model.named_parameters()}
    decayed = [p for name, p in model.named_parameters() if p.ndim > 1]
    others = [p for name, p in model.named_parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}], lr=PEAK
    )
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / WARM_UP, total_iters=WARM_UP)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS - WARM_UP)
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm_up, cosine], [WARM_UP])

    text = torch.randint(VOCABULARY, (512, LENGTH + 1))
    loader = DataLoader(TensorDataset(text[:, :-1], text[:, 1:]), batch_size=16, shuffle=True)
    model.train()
    for epoch in range(8):
        for tokens, following in loader:
            loss = F.cross_entropy(model(tokens).flatten(0, 1), following.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            optimizer.step()
            scheduler.step()
            with torch.no_grad():
                for name, value in model.named_parameters():
                    average[name].lerp_(value, 1 - AVERAGE)
        print(epoch, float(loss))
    torch.save(average, "average.pt")


if __name__ == "__main__":
    main()
