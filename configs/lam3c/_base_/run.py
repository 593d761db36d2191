"""What every run shares: on the host, its folder, its loop.

States every key that the configs rely on, because the host's defaults differ between its versions.
"""

custom_imports = dict(imports=["lam3c_plugin"], allow_failed_imports=False)

weight = None  # a checkpoint to start from
resume = False
test_only = False
seed = 0
save_path = "exp/lam3c/default"
num_worker = 48  # over all GPUs of a machine
batch_size_val = None
batch_size_test = None
gradient_accumulation_steps = 1
clip_grad = 3.0
sync_bn = False
enable_amp = True
empty_cache = False
empty_cache_per_epoch = False
find_unused_parameters = False
enable_wandb = False  # TensorBoard needs no key
wandb_project = "lam3c"
wandb_key = None
train = dict(type="DefaultTrainer")
