"""What every purifier is: image in, image out, differentiable, with its parameters and its cost on it."""

from typing import Any, ClassVar, Self

import torch
from torch import nn

from common.declared import Look, Parameter
from common.errors import UserError
from common.seeds import Streams


class Purifier(nn.Module):
    """x (N, 3, H, W) float in [-1, 1] -> purified x, same shape and range; subclasses implement `purify(x,
    rng)`.

    name           its --defense_model_type
    folder_name    name with its parameters
    params         JSON dict of what decides the result, for records and cache keys
    sha256         of its weight file, None without weights
    stochastic     whether rng is needed
    nfe            mean network evaluations per photo so far
    size_multiple  H and W must be multiples of it
    smallest       least H and W it can take
    tile           side of the photos its network knows, None = any size is alike
    made_for       sha256 of the translator that it learned to protect, where that is known and no other
                   copy of that translator is meant
    surrogate      of what its gradient is, where that of its own result is of no use; None = of its result

    A new purifier is a file with a subclass and a line of purify.PURIFIERS. What it declares of itself, as
    class attributes, makes its flags, its names (NAME-PARAM...) and its look:

    parameters  what `make` takes beside the weights, in the order in which a name gives them;  defaults
                {name: value} of those whose flag has none;  fewest  how many a name gives that gives any
    look        label, colour and order in tables and plots
    trained_as  the --defense_model_type of train_defense.py that makes its weights, None = it has none;
    training_flags  what that command needs besides

    Randomness: rng is common.seeds.Streams, one stream per photo; a photo's result does not depend on its
                neighbours in the batch.
    """

    name = "none"
    look: ClassVar[Look] = Look("none", "#777777", 1000)
    parameters: ClassVar[tuple[Parameter, ...]] = ()
    defaults: ClassVar[dict[str, Any]] = {}
    fewest: ClassVar[int] = 1
    trained_as: ClassVar[str | None] = None
    training_flags: ClassVar[str] = ""
    stochastic = False
    size_multiple = 1
    smallest = 1
    tile = None
    surrogate: str | None = None
    sha256 = None
    made_for = None
    passes = 1  # about how often a network is asked of a batch
    level = None  # purify.level.Level of those that find the noise level themselves

    def __init__(self, params: dict | None = None, folder_name: str | None = None):
        super().__init__()
        self.params, self.folder_name = params or {}, folder_name or self.name
        self.share = 1.0  # of a photo that one input is: 1 / tiles while a photo is purified in tiles
        self.reset_count()

    @classmethod
    def make(cls, weights: str | None, device: object, precision: str, **parameters: Any) -> Self:
        """The purifier on its device.

        Args:   weights  its file, None for those without;  precision  fp32 or bf16;  parameters  those that
                         were given, of `parameters`
        Raises: UserError for weights that are damaged or of another kind
        """
        return cls(**parameters).to(device)

    @classmethod
    def check(cls, parameters: dict[str, Any]) -> None:
        """Raises UserError for values that a flag allows and this purifier does not."""

    @classmethod
    def meant_by(cls, words: list[str]) -> list[str]:
        """The parameters of a name as they are read, where an older way to write them is still understood."""
        return words

    @classmethod
    def training(cls) -> str | None:
        """The command that trains its weights, None without weights."""
        if cls.trained_as is None:
            return None
        return f"python train_defense.py --defense_model_type {cls.trained_as}{cls.training_flags}"

    @property
    def nfe(self) -> float:
        return self._evaluations / self._photos if self._photos else 0.0

    def reset_count(self) -> None:
        """Forget the cost, and the levels found, so far."""
        self._photos = self._evaluations = 0.0
        if self.level is not None:
            self.level.reset()

    def count(self, photos: int, evaluations: float) -> None:
        """Note what a batch has cost: evaluations is the sum over its photos."""
        self._photos += photos * self.share
        self._evaluations += evaluations

    def found(self) -> list[float]:
        """Sums over the photos since reset_count from which `measured` follows, [] of what finds nothing."""
        return self.level.found() if self.level else []

    def measured(self, found: list[float] | None = None) -> dict:
        """JSON dict of what the purifier found out while working, for records: the levels it found, since
        reset_count or by the sums of `found`."""
        return self.level.measured(found) if self.level else {}

    def networks(self) -> list[nn.Module]:
        """The networks that it asks, to be compiled."""
        return []

    def check_size(self, h: int, w: int) -> None:
        """Raises UserError for photos that the purifier cannot take."""
        if h % self.size_multiple or w % self.size_multiple or min(h, w) < self.smallest:
            raise UserError(
                f"{self.name}: cannot take images of {w} x {h} pixels; sides must be multiples of"
                f" {self.size_multiple}"
                + (f" and at least {self.smallest}" if self.smallest > 1 else "")
                + " (python -m purify takes any size)"
            )

    def forward(self, x: torch.Tensor, rng: Streams | None = None) -> torch.Tensor:
        self.check_size(*x.shape[-2:])
        if self.stochastic and rng is None:
            raise ValueError(
                f"{self.name} draws noise: give rng, common.seeds.Streams with one stream per photo"
            )
        return self.purify(x, rng)

    def purify(self, x: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        raise NotImplementedError
