"""The ultralytics trainer with our tiles, our sampling and checkpoints that survive a kill.

Imported lazily and only by ``train.py``: this module needs the extra ``train``, and ultralytics reads its
environment at import.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler
from ultralytics.data.augment import Compose, Format, Mosaic, RandomFlip, RandomHSV, RandomPerspective
from ultralytics.data.build import InfiniteDataLoader, seed_worker
from ultralytics.data.dataset import YOLODataset
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.utils.torch_utils import unwrap_model

from flat_bug.files import atomic_path, sha256_of
from flat_bug.training.checkpoints import remember_checkpoints
from flat_bug.training.cutting import TileSet
from flat_bug.training.settings import TrainSettings
from flat_bug.training.tiles import LARGE_FRAGMENT, LEAST_VISIBLE, SMALLEST_SIZE


class WindowPerspective(RandomPerspective):
    """Rotate, scale and move; then look through a window, and forget animals of which too little is left."""

    @staticmethod
    def box_candidates(box1: Any, box2: Any, **_: Any) -> Any:
        """Return which boxes to keep, with the rules by which the tiles were labelled.

        Args:
            box1: ``(4, n)`` boxes before, scaled.
            box2: ``(4, n)`` boxes after, clipped to the window.
        """
        area_before = (box1[2] - box1[0]) * (box1[3] - box1[1])
        area = (box2[2] - box2[0]) * (box2[3] - box2[1])
        # A box grows and shrinks as it turns, so its area says less about what is visible than a polygon's.
        enough = (area >= 0.5 * LEAST_VISIBLE * area_before) | (area >= LARGE_FRAGMENT**2)
        return enough & (area >= (0.8 * SMALLEST_SIZE) ** 2)


class TileDataset(YOLODataset):  # type: ignore[misc]  # ultralytics ships no types
    """Training tiles, cut larger than the window that the network sees."""

    def __init__(self, *args: Any, window: int, **kwargs: Any) -> None:
        self.window = window
        super().__init__(*args, **kwargs)

    def build_transforms(self, hyp: Any) -> Compose:
        """Return the augmentation: every corner of a turned window still shows the picture."""
        return Compose(
            [
                Mosaic(self, imgsz=self.window, p=hyp.mosaic),
                WindowPerspective(
                    degrees=hyp.degrees,
                    translate=hyp.translate,
                    scale=hyp.scale,
                    shear=hyp.shear,
                    perspective=hyp.perspective,
                    size=(self.window, self.window),
                ),
                RandomHSV(hgain=hyp.hsv_h, sgain=hyp.hsv_s, vgain=hyp.hsv_v),
                RandomFlip(direction="vertical", p=hyp.flipud),
                RandomFlip(direction="horizontal", p=hyp.fliplr),
                Format(
                    bbox_format="xywh",
                    normalize=True,
                    return_mask=True,
                    batch_idx=True,
                    mask_ratio=hyp.mask_ratio,
                    mask_overlap=hyp.overlap_mask,
                ),
            ]
        )


class BalancedSampler(Sampler[int]):
    """Draw the tiles of an epoch so that no dataset drowns another; the same for the same seed and epoch.

    Args:
        weights: ``(n,)`` how often each tile is drawn, in relation to the others.
        count: Draws per epoch.
        seed: Changes the draws.
    """

    def __init__(self, weights: np.ndarray, count: int, seed: int) -> None:
        self.weights = weights / weights.sum()
        self.count = count
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        self.epoch += 1
        # Systematic draws: a tile expected 1.3 times comes once or twice, never five times or not at all.
        edges = np.cumsum(self.weights * self.count)
        counts = np.diff(np.floor(edges + random.random()).astype(int), prepend=0)
        counts[0] = max(0, counts[0])
        drawn = np.repeat(np.arange(len(counts)), np.maximum(counts, 0))
        drawn = random.permutation(drawn)
        yield from np.resize(drawn, self.count).tolist()


def dataset_weights(datasets: list[str], balance: float) -> np.ndarray:
    """Return a weight for each tile, from the dataset of each.

    A dataset with n tiles gets a share in proportion to ``n ** (1 - balance)``.
    """
    sizes = Counter(datasets)
    return np.array([sizes[name] ** -balance for name in datasets])


def make_trainer(
    overrides: dict[str, Any], tiles: TileSet, settings: TrainSettings, seconds_spent: float
) -> SegmentationTrainer:
    """Return an ultralytics trainer that draws its training tiles from ``tiles``.

    Args:
        overrides: Settings of ultralytics.
        tiles: What to train on.
        settings: Our own settings.
        seconds_spent: Time that a resumed run has used already, out of ``settings.time``.
    """
    dataset_of = {tile.file: tile.dataset for tile in tiles.train}

    class TileTrainer(SegmentationTrainer):  # type: ignore[misc]  # ultralytics ships no types
        def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> YOLODataset:
            if mode != "train":
                return super().build_dataset(img_path, mode, batch)
            return TileDataset(
                img_path=img_path,
                imgsz=settings.tile_side,
                window=settings.imgsz,
                batch_size=batch,
                augment=True,
                hyp=self.args,
                cache=self.args.cache or None,
                single_cls=self.args.single_cls,
                prefix="train: ",
                task="segment",
                data=self.data,
            )

        def get_dataloader(
            self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
        ) -> InfiniteDataLoader:
            if mode != "train" or rank != -1:
                return super().get_dataloader(dataset_path, batch_size, rank, mode)
            dataset = self.build_dataset(dataset_path, mode, batch_size)
            weights = dataset_weights([dataset_of[Path(file).name] for file in dataset.im_files], settings.fb_balance)
            count = settings.fb_samples_per_epoch if settings.fb_samples_per_epoch > 0 else len(dataset)
            generator = torch.Generator()
            generator.manual_seed(settings.seed)
            return InfiniteDataLoader(
                dataset=dataset,
                batch_size=min(batch_size, count),
                sampler=BalancedSampler(weights, count, settings.seed),
                num_workers=settings.workers,
                prefetch_factor=4 if settings.workers else None,
                pin_memory=self.device.type == "cuda",
                collate_fn=dataset.collate_fn,
                worker_init_fn=seed_worker,
                generator=generator,
            )

        def save_model(self) -> bool:
            """Save the checkpoints so that a kill at any moment leaves the last whole one."""
            last, best, folder = self.last, self.best, self.wdir
            with atomic_path(folder / "saving") as temporary:
                temporary.mkdir()
                self.wdir, self.last, self.best = temporary, temporary / last.name, temporary / best.name
                try:
                    saved = bool(super().save_model())
                finally:
                    self.wdir, self.last, self.best = folder, last, best
                new = sorted(temporary.glob("*.pt"))
                remember_checkpoints(self.save_dir, [sha256_of(path) for path in new])
                for path in new:
                    path.replace(folder / path.name)
            (folder / "saving").rmdir()
            return saved

    wanted = overrides["amp"]
    trainer = TileTrainer(overrides=overrides | {"amp": False})
    trainer.add_callback("on_train_start", lambda running: _use_hardware(running, wanted, settings.fb_threads))
    if seconds_spent:
        trainer.add_callback("on_train_epoch_start", lambda running: _count_time(running, seconds_spent))
    return trainer


def _use_hardware(trainer: SegmentationTrainer, amp: bool | str, threads: int) -> None:
    if trainer.device.type == "cpu":
        # Ultralytics leaves one core idle, which on a small machine is half of it.
        torch.set_num_threads(threads or os.cpu_count() or 1)
    # Ultralytics refuses bfloat16 on a CPU, and tests float16 with a model that it downloads. bfloat16 needs no
    # scaling of gradients, so turning it on here, after the set-up, is all there is to do.
    if amp and _has_fast_bfloat16(trainer.device):
        trainer.amp = True
        model = unwrap_model(trainer.model)
        model.criterion = Float32Loss(getattr(model, "criterion", None) or model.init_criterion(), trainer.device.type)
        if trainer.device.type == "cuda":
            torch.set_autocast_dtype("cuda", torch.bfloat16)


def _count_time(trainer: SegmentationTrainer, seconds_spent: float) -> None:
    # Ultralytics estimates the number of epochs that fit into `time` from those since the start; after a resume it
    # would forget the epochs and the time before. Both are put back once.
    if trainer.epoch == trainer.start_epoch > 0:
        trainer.start_epoch = 0
        trainer.train_time_start -= seconds_spent


class Float32Loss:
    """A loss computed in float32 from the outputs of a network that runs in bfloat16.

    A bfloat16 coordinate is good to two pixels only where a tile is 320 pixels wide.
    """

    def __init__(self, loss: Any, device: str) -> None:
        self.loss = loss
        self.device = device

    def __call__(self, outputs: Any, batch: dict[str, Any]) -> Any:
        """Return what the loss returns."""
        with torch.autocast(self.device, enabled=False):
            return self.loss(_as_float32(outputs), batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loss, name)


def _as_float32(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _as_float32(part) for key, part in value.items()}
    return type(value)(_as_float32(part) for part in value) if isinstance(value, (list, tuple)) else value


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported()  # there is no public name for this
