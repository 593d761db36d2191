"""The regularisers as the authors' release sets them: lambda up over 10 % then down, consistency on perturbed views."""

_base_ = ["./_base_/pretrain_roomtours.py"]

model = dict(
    laplacian_weight_warmup_ratio=0.1,
    laplacian_weight_final=1.5e-3,
    consistency_view="perturbed",
    consistency_noise=0.01,
)
