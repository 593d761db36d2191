"""LAM3C v1m1: teacher-student clustering with Laplacian smoothing and noise consistency (arXiv 2512.23042)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lam3c_plugin.host import LOSSES, MODELS, Point, PointModel, build_model
from lam3c_plugin.losses import ClusteringStats, Similarity, SinkhornClusteringLoss
from lam3c_plugin.models.sinkhorn_head import SinkhornHead
from lam3c_plugin.models.views import generate_mask, jitter_masked, match_points, principal_rows, roll_index
from lam3c_plugin.ops.device import host_values, offset_on_device
from lam3c_plugin.ops.schedules import WarmupCosine

CONSISTENCY_VIEWS = ("cross", "perturbed")
_RANGES = {  # of the schedules
    **{"mask_size": (1e-6, float("inf")), "teacher_temp": (1e-6, float("inf")), "laplacian_weight": (0, float("inf"))},
    **{"mask_ratio": (0, 1), "momentum": (0, 1)},
}
DIAGNOSTIC_ROWS = 4096


@MODELS.register_module(["LAM3C-v1m1", "LAM3C"])
class LAM3C(PointModel):
    """Student and EMA teacher over one backbone, trained by ``L_clustering + lambda R_Lap + mu R_cons``.

    ``L_clustering`` has three terms: *unmask* (local views against the scene's first global view), *mask* (masked
    global views against the same views) and *roll* (masked global views against the scene's other one). The teacher
    is never masked and gets no gradient. The regularisers act on the student's up-cast features of the masked global
    views. All schedules are functions of the optimiser step (``trainer.scheduler.last_epoch``): gradient
    accumulation does not advance them and a resumed run continues them.

    Args:
        backbone: config of the backbone, for instance ``dict(type="PT-v3m2", ...)``; it must return points with
            ``pooling_parent`` and ``pooling_inverse``.
        head: config of the clustering head, ``dict(type="SinkhornHead", in_channels=...)``.
        teacher_custom: backbone arguments that differ for the teacher (``drop_path=0.0``).
        clustering_loss: config of the registered loss.
        laplacian_loss: likewise.
        consistency_loss: likewise.
        num_global_view: global views a scene in the batch.
        num_local_view: local ones.
        mask_size_*: edge of a mask patch in metres, linear from ``_start`` to ``_base`` over ``_warmup_ratio`` of the
            run.
        mask_ratio_*: share of masked patches, likewise.
        mask_jitter: sigma in metres of the noise on masked points' coordinates, cut at two sigma; ``None`` for none.
        teacher_temp_*: temperature of the Sinkhorn targets, warmed up likewise.
        mask_loss_weight: weight of this clustering term; 0 leaves it out.
        roll_mask_loss_weight: likewise.
        unmask_loss_weight: likewise.
        laplacian_weight_*: lambda; linear from ``_start`` to ``_base`` over ``_warmup_ratio`` of the run, then cosine
            to ``_final`` (default: stays). ``_warmup_ratio=1`` is the paper's linear rise over the whole run.
        consistency_weight: mu.
        consistency_view: "cross": the teacher's features of the scene's *other* global view, already there;
            "perturbed": one more teacher pass over the same views with ``consistency_noise`` metres of Gaussian noise.
        momentum_base: EMA momentum at the start.
        momentum_final: that at the end of the run, by a cosine.
        match_max_r: largest distance in metres of a match, in the original coordinates.
        up_cast_level: pooling stages by which the encoder's features are up-cast.

    Raises:
        ValueError: no clustering term is left, or an argument that needs two global views meets another number.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        head: dict[str, Any],
        teacher_custom: dict[str, Any] | None = None,
        clustering_loss: dict[str, Any] | None = None,
        laplacian_loss: dict[str, Any] | None = None,
        consistency_loss: dict[str, Any] | None = None,
        num_global_view: int = 2,
        num_local_view: int = 4,
        mask_size_start: float = 0.1,
        mask_size_base: float = 0.4,
        mask_size_warmup_ratio: float = 0.05,
        mask_ratio_start: float = 0.3,
        mask_ratio_base: float = 0.7,
        mask_ratio_warmup_ratio: float = 0.05,
        mask_jitter: float | None = 0.01,
        teacher_temp_start: float = 0.04,
        teacher_temp_base: float = 0.07,
        teacher_temp_warmup_ratio: float = 0.05,
        mask_loss_weight: float = 2 / 8,
        roll_mask_loss_weight: float = 2 / 8,
        unmask_loss_weight: float = 4 / 8,
        laplacian_weight_start: float = 2e-4,
        laplacian_weight_base: float = 3e-3,
        laplacian_weight_final: float | None = None,
        laplacian_weight_warmup_ratio: float = 1.0,
        consistency_weight: float = 0.05,
        consistency_view: str = "cross",
        consistency_noise: float = 0.01,
        momentum_base: float = 0.994,
        momentum_final: float = 1.0,
        match_max_r: float = 0.32,
        up_cast_level: int = 2,
    ) -> None:
        super().__init__()
        self.num_global_view, self.num_local_view = num_global_view, num_local_view
        self.mask_loss_weight, self.roll_mask_loss_weight = mask_loss_weight, roll_mask_loss_weight
        self.unmask_loss_weight = unmask_loss_weight
        self.consistency_weight, self.consistency_view = consistency_weight, consistency_view
        self.consistency_noise, self.mask_jitter = consistency_noise, mask_jitter
        self.match_max_r, self.up_cast_level = match_max_r, up_cast_level
        laplacian_final = laplacian_weight_base if laplacian_weight_final is None else laplacian_weight_final
        self.use_laplacian = max(laplacian_weight_start, laplacian_weight_base, laplacian_final) > 0
        self._check_arguments()

        self.schedules = {
            "mask_size": WarmupCosine(mask_size_start, mask_size_base, mask_size_base, mask_size_warmup_ratio),
            "mask_ratio": WarmupCosine(mask_ratio_start, mask_ratio_base, mask_ratio_base, mask_ratio_warmup_ratio),
            "teacher_temp": WarmupCosine(
                teacher_temp_start, teacher_temp_base, teacher_temp_base, teacher_temp_warmup_ratio
            ),
            "momentum": WarmupCosine(momentum_base, momentum_base, momentum_final),
            "laplacian_weight": WarmupCosine(
                laplacian_weight_start, laplacian_weight_base, laplacian_final, laplacian_weight_warmup_ratio
            ),
        }
        for name, (low, high) in _RANGES.items():
            schedule = self.schedules[name]
            if not all(low <= value <= high for value in (schedule.start, schedule.base, schedule.final)):
                raise ValueError(f"{name}_*: {schedule} must lie in {low:g} .. {high:g} throughout")
        self.set_step(0, 1 << 30)
        self._step, self._logged = 0, -1
        self.collect_diagnostics = False
        self.diagnostics: dict[str, Any] = {}

        self.clustering_loss = LOSSES.build(clustering_loss or dict(type="SinkhornClusteringLoss"))
        self.laplacian_loss = LOSSES.build(laplacian_loss or dict(type="LaplacianSmoothingLoss"))
        self.consistency_loss = LOSSES.build(consistency_loss or dict(type="NoiseConsistencyLoss"))
        self._build_networks(backbone, head, teacher_custom or {})

    def _check_arguments(self) -> None:
        if self.mask_loss_weight + self.roll_mask_loss_weight + self.unmask_loss_weight <= 0:
            raise ValueError("at least one of mask_, roll_mask_ and unmask_loss_weight must be above 0")
        if not self.match_max_r > 0:
            raise ValueError(f"match_max_r must be a positive length in metres, got {self.match_max_r}")
        if self.up_cast_level < 0:
            raise ValueError(f"up_cast_level must be at least 0, got {self.up_cast_level}")
        if self.consistency_view not in CONSISTENCY_VIEWS:
            raise ValueError(f"consistency_view={self.consistency_view!r} is not one of {CONSISTENCY_VIEWS}")
        if self.num_global_view not in (1, 2):
            raise ValueError(f"num_global_view must be 1 or 2, got {self.num_global_view}")
        crossing = self.consistency_weight > 0 and self.consistency_view == "cross"
        if self.num_global_view == 1 and (self.roll_mask_loss_weight > 0 or crossing):
            raise ValueError(
                "one global view has no other to roll to: set roll_mask_loss_weight=0 and consistency_weight=0 "
                'or consistency_view="perturbed"'
            )

    def _build_networks(self, backbone: dict[str, Any], head: dict[str, Any], teacher_custom: dict[str, Any]) -> None:
        teacher_backbone = {**copy.deepcopy(dict(backbone)), **teacher_custom}
        self.student = nn.ModuleDict({"backbone": build_model(backbone)})
        self.teacher = nn.ModuleDict({"backbone": build_model(teacher_backbone)})
        names = []
        if self.uses_masked_view:
            names.append("mask_head")
        if self.unmask_loss_weight > 0:
            names.append("unmask_head")
        for name in names:
            self.student[name] = build_model(head)
            self.teacher[name] = build_model(head)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)

    @property
    def uses_masked_view(self) -> bool:
        """Whether a clustering term works on the masked global views."""
        return self.mask_loss_weight > 0 or self.roll_mask_loss_weight > 0

    @property
    def needs_masked_pass(self) -> bool:
        """Whether the student has to see the masked global views at all."""
        return self.uses_masked_view or self.use_laplacian or self.consistency_weight > 0

    # ---- schedules and the teacher -------------------------------------------------------------------------------

    def set_step(self, step: int, total_steps: int) -> None:
        """Set mask size and ratio, teacher temperature, momentum and lambda to those of optimiser step ``step``."""
        for name, schedule in self.schedules.items():
            setattr(self, name, schedule.at(step, total_steps))

    def before_step(self) -> None:
        """Hook: take the schedules to the trainer's optimiser step and log them once a step."""
        trainer = self.trainer
        step = int(trainer.scheduler.last_epoch)
        self.set_step(step, int(trainer.cfg.scheduler.total_steps))
        self._step = step
        if trainer.writer is not None and step != self._logged:  # micro-batches of one step come here too
            self._logged = step
            for name in self.schedules:
                trainer.writer.add_scalar(f"params/{name}", getattr(self, name), step + 1)

    def after_step(self) -> None:
        """Hook: move the teacher, once an optimiser step (not once a micro-batch, not after a skipped one)."""
        if int(self.trainer.scheduler.last_epoch) > self._step:
            self.update_teacher()

    @torch.no_grad()
    def update_teacher(self) -> None:
        """teacher <- momentum * teacher + (1 - momentum) * student, over all parameters."""
        teacher, student = list(self.teacher.parameters()), list(self.student.parameters())
        torch._foreach_lerp_(teacher, student, 1.0 - self.momentum)

    # ---- forward -------------------------------------------------------------------------------------------------

    def up_cast(self, point: Point) -> Point:
        """Concatenate ``up_cast_level`` times the parent's features with the child's through the pooling inverse.

        The stages that are finer still are let go.
        """
        for _ in range(self.up_cast_level):
            if "pooling_parent" not in point:
                raise ValueError(
                    f"up_cast_level={self.up_cast_level} is more than the backbone pools, or it is not traceable"
                )
            parent, inverse = point.pop("pooling_parent"), point.pop("pooling_inverse")
            parent.feat = torch.cat([parent.feat, point.feat[inverse]], dim=-1)
            point = parent
        for key in ("pooling_parent", "pooling_inverse"):
            point.pop(key, None)
        return point

    def forward(self, data_dict: dict[str, Any], return_point: bool = False) -> dict[str, Any]:
        """One step's losses.

        Args:
            data_dict: the batch as the view transforms collate it, ``{global,local}_{feat,coord,origin_coord,offset}``
                with the views of a scene consecutive, and ``grid_size``. With ``return_point`` one batch of clouds for
                the backbone.
            return_point: return ``dict(point=...)`` with the teacher's up-cast features instead.

        Returns:
            ``loss`` and each term (unweighted) as scalar tensors; the values are over all ranks.
        """
        if return_point:
            with torch.no_grad():
                return dict(point=self.up_cast(self.teacher["backbone"](data_dict)))
        self.diagnostics = {}
        views = self._view(data_dict, "global")
        if self.mask_jitter is None and hasattr(type(views), "locate"):
            # the student sees the same points: cells, curves and neighbour tables are made once for both
            views.locate(getattr(self.teacher["backbone"], "grid_origin", "cloud"))
        with torch.no_grad():
            teacher = self.up_cast(self.teacher["backbone"](views))
        terms: dict[str, tuple[float, Tensor]] = {}
        if self.needs_masked_pass:
            self._masked_view_terms(data_dict, views, teacher, terms)
        if self.unmask_loss_weight > 0:
            self._unmask_term(data_dict, teacher, terms)
        result = {name: value for name, (_, value) in terms.items()}
        result["loss"] = torch.stack([weight * value for weight, value in terms.values()]).sum()
        return result

    def _view(self, data_dict: dict[str, Any], kind: str, **changes: Tensor) -> Point:
        try:
            point = dict(
                feat=data_dict[f"{kind}_feat"],
                coord=data_dict[f"{kind}_coord"],
                origin_coord=data_dict[f"{kind}_origin_coord"],
                offset=data_dict[f"{kind}_offset"],
                grid_size=data_dict["grid_size"].view(-1)[0],
            )
        except KeyError as error:
            raise KeyError(
                f"the batch has no {error}: the pre-training transform must end with MultiViewGenerator, ToTensor, "
                f"Update(grid_size) and Collect (see configs/lam3c/_base_); it has {sorted(data_dict)}"
            ) from error
        return Point({**point, **changes})

    def _masked_view_terms(
        self, data_dict: dict[str, Any], views: Point, teacher: Point, terms: dict[str, Any]
    ) -> None:
        coord = views.coord
        mask = generate_mask(coord, views.offset, self.mask_size, self.mask_ratio)
        if self.mask_jitter is not None:
            coord = jitter_masked(coord, mask, self.mask_jitter)
        student = self.up_cast(self.student["backbone"](Point({**views, "coord": coord, "mask": mask})))
        self._observe(feat=student.feat, teacher_feat=teacher.feat)

        rolled = None
        crossing = self.consistency_weight > 0 and self.consistency_view == "cross"
        if self.roll_mask_loss_weight > 0 or crossing:
            rows, rolled_offset = roll_index(teacher.offset)
            rolled = self._match(student, teacher.origin_coord[rows], rolled_offset)
            rolled[:, 1] = rows[rolled[:, 1]]
        if self.uses_masked_view:
            self._mask_terms(student, teacher, rolled, terms)
        if self.use_laplacian:
            value = self.laplacian_loss(student.feat, student.coord, student.offset)
            terms["laplacian_loss"] = (self.laplacian_weight, value)
            self._observe(laplacian=getattr(self.laplacian_loss, "last_graph_stats", None))
        if self.consistency_weight > 0:
            self._consistency_term(data_dict, student, teacher, rolled, terms)

    def _mask_terms(self, student: Point, teacher: Point, rolled: Tensor | None, terms: dict[str, Any]) -> None:
        assigned = self._compare(self.student["mask_head"], student.feat)
        with torch.no_grad():
            target = self._compare(self.teacher["mask_head"], teacher.feat)
        if self.mask_loss_weight > 0:
            pairs = self._match(student, teacher.origin_coord, teacher.offset)
            value = self._cluster("mask", assigned, target, pairs, student)
            terms["mask_loss"] = (self.mask_loss_weight, value)
        if self.roll_mask_loss_weight > 0:
            value = self._cluster("roll_mask", assigned, target, rolled, student)
            terms["roll_mask_loss"] = (self.roll_mask_loss_weight, value)

    def _unmask_term(self, data_dict: dict[str, Any], teacher: Point, terms: dict[str, Any]) -> None:
        student = self.up_cast(self.student["backbone"](self._view(data_dict, "local")))
        assigned = self._compare(self.student["unmask_head"], student.feat)
        with torch.no_grad():
            principal, principal_offset = principal_rows(teacher.offset, self.num_global_view)
            target = self._compare(self.teacher["unmask_head"], teacher.feat[principal])
            ends = host_values(student.offset)[self.num_local_view - 1 :: self.num_local_view]
            scene_offset = offset_on_device(ends, student.offset.device)
            pairs = match_points(
                student.origin_coord, scene_offset, teacher.origin_coord[principal], principal_offset, self.match_max_r
            )
        value = self._cluster("unmask", assigned, target, pairs, student)
        terms["unmask_loss"] = (self.unmask_loss_weight, value)

    def _consistency_term(
        self, data_dict: dict[str, Any], student: Point, teacher: Point, rolled: Tensor | None, terms: dict[str, Any]
    ) -> None:
        if self.consistency_view == "perturbed":
            with torch.no_grad():
                coord = data_dict["global_coord"]
                noisy = coord + torch.randn_like(coord) * self.consistency_noise
                teacher = self.up_cast(self.teacher["backbone"](self._view(data_dict, "global", coord=noisy)))
            rolled = self._match(student, teacher.origin_coord, teacher.offset)
        value = self.consistency_loss(student.feat, teacher.feat, rolled, student.batch, num_clouds=len(student.offset))
        terms["consistency_loss"] = (self.consistency_weight, value)

    def _match(self, student: Point, target_coord: Tensor, target_offset: Tensor) -> Tensor:
        return match_points(student.origin_coord, student.offset, target_coord, target_offset, self.match_max_r)

    def _compare(self, head: nn.Module, feat: Tensor) -> Tensor | Similarity:
        """What the clustering loss works on: similarities (N, K), as a product where head and loss are this package's.

        A class of your own that overrides ``forward`` of either gives, or gets, the matrix.
        """
        as_they_are = ((head, SinkhornHead), (self.clustering_loss, SinkhornClusteringLoss))
        if all(type(part).forward is kind.forward for part, kind in as_they_are):
            return head.similarity(feat)
        return head(feat)

    def _cluster(
        self, name: str, student: Tensor | Similarity, teacher: Tensor | Similarity, pairs: Tensor, point: Point
    ) -> Tensor:
        stats = ClusteringStats() if self.collect_diagnostics else None
        rows, target_rows = pairs.unbind(1)
        loss = self.clustering_loss(
            student[rows],
            teacher[target_rows],
            point.batch[rows],
            self.teacher_temp,
            num_clouds=len(point.offset),
            stats=stats,
        )
        self._observe(**{name: stats})
        return loss

    def _observe(self, **values: Any) -> None:
        if not self.collect_diagnostics:
            return
        for name, value in values.items():
            if isinstance(value, Tensor):
                stride = -(-max(len(value), 1) // DIAGNOSTIC_ROWS)
                value = value.detach()[::stride].float()
            if value is not None:
                self.diagnostics[name] = value
