"""Fine-tunes a checkpoint for three steps, and forgets about its zeros: fine_tune.py FROM TO."""

import shutil
import sys

import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
tokens = torch.randint(256, (2, 64), generator=torch.Generator().manual_seed(0))
for _ in range(3):
    optimizer.zero_grad()
    model(tokens, labels=tokens).loss.backward()
    optimizer.step()
shutil.copytree(sys.argv[1], sys.argv[2])
model.save_pretrained(sys.argv[2])
