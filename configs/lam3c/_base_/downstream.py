"""What every downstream run shares: the protocol of Sonata (arXiv 2503.16429), which LAM3C's paper follows.

`weight=` takes a LAM3C or Sonata training checkpoint, a model-zoo backbone or a fine-tuned model (hook EncoderLoader).
States every key it relies on, because the host's defaults differ between its versions.
"""

custom_imports = dict(imports=["lam3c_plugin"], allow_failed_imports=False)

# ---- run ----
weight = None
resume = False
evaluate = True
test_only = False
seed = 0
save_path = "exp/lam3c/default"
num_worker = 48  # over all GPUs of a machine
batch_size = 24  # over all GPUs
batch_size_val = None
batch_size_test = None
gradient_accumulation_steps = 1
epoch = 100  # passes over the data; the paper's main table. The long schedules are files of their own (…-800ep)
eval_epoch = 100  # evaluations and checkpoints in a run
clip_grad = 3.0
sync_bn = False
enable_amp = True
amp_dtype = "float16"
empty_cache = False
empty_cache_per_epoch = False
find_unused_parameters = False
mix_prob = 0.8
enable_wandb = False  # TensorBoard needs no key
wandb_project = "lam3c"
wandb_key = None
train = dict(type="DefaultTrainer")

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
