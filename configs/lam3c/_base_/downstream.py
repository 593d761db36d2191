"""What every downstream run shares: the protocol of Sonata (arXiv 2503.16429), which LAM3C's paper follows.

`weight=` takes a LAM3C or Sonata training checkpoint, a model-zoo backbone or a fine-tuned model (hook EncoderLoader).
"""

_base_ = ["./run.py"]

evaluate = True
batch_size = 24  # over all GPUs
epoch = 100  # passes over the data; the paper's main table. The long schedules are files of their own (…-800ep)
eval_epoch = 100  # evaluations and checkpoints in a run
amp_dtype = "float16"
mix_prob = 0.8

# ---- optimiser: the blocks learn ten times slower than head, decoder joints and embeddings ----
optimizer = dict(type="AdamW", lr=0.002, weight_decay=0.02)
scheduler = dict(
    type="OneCycleLR",
    max_lr=[0.002, 0.0002],
    pct_start=0.05,
    anneal_strategy="cos",
    div_factor=10.0,
    final_div_factor=1000.0,
)
param_dicts = [dict(keyword="block", lr=0.0002)]
