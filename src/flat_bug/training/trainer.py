"""The ultralytics trainer with our tiles, our sampling and checkpoints that survive a kill.

Imported lazily and only by ``train.py``: this module needs the extra ``train``, and ultralytics reads its
environment at import.
"""

import os
import signal
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import torch
from ultralytics.data.augment import Compose, Format, Mosaic, RandomFlip, RandomHSV, RandomPerspective
from ultralytics.data.build import InfiniteDataLoader, seed_worker
from ultralytics.data.dataset import YOLODataset
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.utils.torch_utils import strip_optimizer

from flat_bug.errors import WeightsError
from flat_bug.files import atomic_path, cannot_write, sha256_of
from flat_bug.training.checkpoints import remember_checkpoints
from flat_bug.training.cutting import TileSet
from flat_bug.training.precision import use_hardware
from flat_bug.training.sampling import BalancedSampler, dataset_weights
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


class TileDataset(YOLODataset):
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


class TileTrainer(SegmentationTrainer):
    """A trainer that draws its tiles from a set and whose checkpoints survive a kill.

    Args:
        overrides: Settings of ultralytics.
        tiles: What to train on.
        settings: Our own settings.
        seconds_spent: Time that a resumed run has used already, out of ``settings.time``.
    """

    wdir: Path
    last: Path
    best: Path

    def __init__(
        self, overrides: dict[str, Any], tiles: TileSet, settings: TrainSettings, seconds_spent: float = 0.0
    ) -> None:
        self.settings = settings
        self.dataset_of = {tile.file: tile.dataset for tile in tiles.train}
        self.seconds_spent = seconds_spent
        # Ultralytics tests mixed precision with a model that it downloads; see use_hardware.
        super().__init__(overrides=overrides | {"amp": False})
        self.add_callback("on_train_start", _begin)
        self.add_callback("on_train_epoch_start", _count_time)

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Take the settings of the checkpoint, but for the number of epochs, which ultralytics would take, too."""
        super().check_resume(overrides)
        if self.resume:
            self.args.epochs = overrides["epochs"]

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> YOLODataset:
        """Return the tiles of a split."""
        if mode != "train":
            return super().build_dataset(img_path, mode, batch)
        return TileDataset(
            img_path=img_path,
            imgsz=self.settings.tile_side,
            window=self.settings.imgsz,
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
        """Return what loads the batches of a split."""
        if mode != "train":
            loader = super().get_dataloader(dataset_path, batch_size, rank, mode)
            loader.worker_init_fn = _begin_worker
            return loader
        settings = self.settings
        dataset = self.build_dataset(dataset_path, mode, batch_size)
        datasets = [self.dataset_of[Path(file).name] for file in dataset.im_files]
        count = settings.fb_samples_per_epoch if settings.fb_samples_per_epoch > 0 else len(dataset)
        generator = torch.Generator()
        generator.manual_seed(settings.seed)
        return InfiniteDataLoader(
            dataset=dataset,
            batch_size=min(batch_size, count),
            sampler=BalancedSampler(dataset_weights(datasets, settings.fb_balance), count, settings.seed),
            num_workers=settings.workers,
            prefetch_factor=4 if settings.workers else None,
            pin_memory=self.device.type == "cuda",
            collate_fn=dataset.collate_fn,
            worker_init_fn=_begin_worker,
            generator=generator,
        )

    def save_model(self) -> bool:
        """Save the checkpoints so that a kill at any moment leaves the last whole one."""
        last, best, folder = self.last, self.best, self.wdir
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder) as name:
            self.wdir = Path(name)
            self.last, self.best = self.wdir / last.name, self.wdir / best.name
            try:
                saved = bool(super().save_model())
                new = sorted(self.wdir.glob("*.pt"))
            except OSError as error:
                raise cannot_write(folder, error) from error
            finally:
                self.wdir, self.last, self.best = folder, last, best
            remember_checkpoints(self.save_dir, [sha256_of(path) for path in new])
            for path in new:
                path.replace(folder / path.name)
        return saved

    def final_eval(self) -> None:
        """Strip the checkpoints, whole at any moment, and validate the best."""
        strip_checkpoints(self.save_dir)
        if self.best.exists():
            self.metrics = self.validator(model=self.best)


def _begin_worker(number: int) -> None:
    """Begin a process that loads batches.

    Schedulers and terminals send their signals to every process of a job. The trainer hears them and ends its workers;
    a worker that a signal ends is an error to torch, which it would raise while the trainer is tidying up.
    """
    seed_worker(number)
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):  # not every system has all
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    sys.excepthook = _say_unless_the_trainer_left


def _say_unless_the_trainer_left(
    kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
) -> None:
    """Print an error of a worker, but not that nobody takes its batch any more.

    The thread that hands tensors over may be in the middle of it when a signal stops the trainer.
    """
    if not isinstance(error, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _begin(trainer: TileTrainer) -> None:
    settings = trainer.settings
    trainer.train_loader.sampler.epoch = trainer.start_epoch
    use_hardware(trainer, amp=bool(settings.to_mapping()["amp"]), threads=settings.fb_threads)


def _count_time(trainer: TileTrainer) -> None:
    # Ultralytics estimates the number of epochs that fit into `time` from those since the start; after a resume it
    # would forget the epochs and the time before. Both are put back once.
    if trainer.epoch == trainer.start_epoch > 0:
        trainer.start_epoch = 0
        trainer.train_time_start -= trainer.seconds_spent


def saved_epochs(checkpoint: Path) -> int | None:
    """Return how many epochs had been trained when a checkpoint was saved, or None if it was stripped at the end.

    Args:
        checkpoint: A pickle, which can run any code: the caller trusts it.

    Raises:
        WeightsError: The file is not a checkpoint.
    """
    try:
        epoch = int(torch.load(checkpoint, map_location="cpu", weights_only=False)["epoch"])  # see above
    except Exception as error:  # a pickle can raise anything
        raise WeightsError(f"this is not an ultralytics checkpoint: {error}", where=checkpoint) from error
    return epoch + 1 if epoch >= 0 else None


def strip_checkpoints(run: Path) -> None:
    """Leave of the best and the last checkpoint what prediction needs, a fifth of them; the last one comes last."""
    for name in ("best.pt", "last.pt"):
        path = run / "weights" / name
        if path.exists() and saved_epochs(path) is not None:
            with atomic_path(path) as temporary:
                strip_optimizer(path, str(temporary))
                remember_checkpoints(run, [sha256_of(temporary)])
