"""`Scenario`: one job, in one or more sizes, and the ways of generating that do it side by side."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from workloads.errors import WorkloadError

Kind = Literal["generate", "budget", "rollouts", "infill", "edit"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Way = Literal["hole", "regenerate", "fim"]
WAYS: tuple[Way, ...] = get_args(Way)
Task = Literal["random", "sudoku"]
TASKS: tuple[Task, ...] = get_args(Task)
FIM_MARKS = 3  # prefix, suffix and middle marks of a fill-in-the-middle prompt (Bavarian et al., arXiv:2207.14255)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedQuality:
    """What somebody measured at this operating point.

    Attributes:
        value: share of the task solved, 0-1.
        task: benchmark and how it was asked.
        source: paper and table.
        gen_length: tokens that were generated, None where the source does not say; of other lengths it says nothing.
    """

    value: float
    task: str
    source: str
    gen_length: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 1:
            raise WorkloadError(f"quality: value must lie in 0..1, got {self.value}")
        for name in ("task", "source"):
            if not getattr(self, name):
                raise WorkloadError(f"quality: {name} must say something, got nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way of generating.

    Attributes:
        label: what a reader calls it.
        model: preset, preset file, or a trained model that ships with Roofscape.
        sampler: name or Python file.
        options: (name, value) of the sampler's own options.
        tokens_per_step: gives `steps` the length divided by this, whatever the length; None to leave it alone.
        way: how it fills a hole in a text; None for `regenerate` where the network was trained from left to right
            (by token or by block), else `hole`.
        quality: published quality of this operating point, None where nobody published it.
    """

    label: str
    model: str
    sampler: str
    options: tuple[tuple[str, object], ...] = ()
    tokens_per_step: int | None = None
    way: Way | None = None
    quality: PublishedQuality | None = None

    def __post_init__(self) -> None:
        if self.tokens_per_step is not None and self.tokens_per_step <= 0:
            raise WorkloadError(f"contender {self.label!r}: tokens_per_step must be > 0, got {self.tokens_per_step}")
        if self.way is not None and self.way not in WAYS:
            raise WorkloadError(f"contender {self.label!r}: way must be one of {', '.join(WAYS)}, got {self.way!r}")


class _Sized:
    """Checks that every size of a job is positive; those named in `may_be_zero` may be 0."""

    may_be_zero: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:  # type: ignore[attr-defined]  # every subclass is a dataclass
            value = getattr(self, name)
            least = 0 if name in self.may_be_zero else 1
            if type(value) is int and value < least:
                raise WorkloadError(f"job: {name} must be >= {least}, got {value}")


@dataclass(frozen=True, kw_only=True)
class GenerateJob(_Sized):
    """Continue `batch` prompts."""

    batch: int = 1
    prompt_length: int = 128
    gen_length: int = 128


@dataclass(frozen=True, kw_only=True)
class BudgetJob(GenerateJob):
    """Continue `batch` prompts within a time.

    Attributes:
        gen_length: of the operating point whose quality is known.
        budgets_s: times to keep.
        resolution: tokens to which the largest number that keeps a time is found, at least a sampler's own block.
    """

    budgets_s: tuple[float, ...] = (0.2, 1.0)
    resolution: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.budgets_s or min(self.budgets_s) <= 0:
            raise WorkloadError(f"job: budgets_s must be times above 0, got {list(self.budgets_s)}")


@dataclass(frozen=True, kw_only=True)
class RolloutsJob(_Sized):
    """Continue each of `prompts` prompts `samples` times; `log_prob` names how the answers are scored, if they are."""

    prompts: int = 1
    samples: int = 8
    prompt_length: int = 128
    gen_length: int = 128
    log_prob: str = "none"
    log_prob_passes: int = 1
    micro_batch: int = 8
    p_mask_prompt: float = 0.15


@dataclass(frozen=True, kw_only=True)
class InfillJob(_Sized):
    """Fill a hole between a prefix and a suffix; nothing was computed before."""

    may_be_zero: ClassVar[frozenset[str]] = frozenset({"suffix_length"})

    batch: int = 1
    prefix_length: int = 128
    hole_length: int = 32
    suffix_length: int = 128

    @property
    def text_length(self) -> int:
        """Tokens of the whole text."""
        return self.prefix_length + self.hole_length + self.suffix_length

    @property
    def holes(self) -> tuple[tuple[int, int], ...]:
        """(start, end) of each hole."""
        return ((self.prefix_length, self.prefix_length + self.hole_length),)


@dataclass(frozen=True, kw_only=True)
class EditJob(_Sized):
    """Write some spans of a text again; a network that keeps a KV cache still has that of the text.

    Attributes:
        edits: (start, length) of each span, in order.
    """

    batch: int = 1
    text_length: int = 256
    edits: tuple[tuple[int, int], ...] = ((64, 8),)

    def __post_init__(self) -> None:
        super().__post_init__()
        ends = [0, *(start + length for start, length in self.edits)]
        if not self.edits or any(
            start < end or length <= 0 for (start, length), end in zip(self.edits, ends, strict=False)
        ):
            raise WorkloadError(f"job: edits must be [start, length] in order and apart, got {self._shown()}")
        if ends[-1] > self.text_length or self.edits[0][0] == 0:
            raise WorkloadError(
                f"job: edits must lie behind the first of the {self.text_length} tokens, got {self._shown()}"
            )

    def _shown(self) -> list[list[int]]:
        return [list(edit) for edit in self.edits]

    @property
    def holes(self) -> tuple[tuple[int, int], ...]:
        """(start, end) of each span."""
        return tuple((start, start + length) for start, length in self.edits)


def describe(job: "Job", jobs: "tuple[Job, ...]") -> str:
    """What tells this size of a job from the others; nothing where there is but one."""
    names = [name for name in job.__dataclass_fields__ if len({str(getattr(other, name)) for other in jobs}) > 1]
    return ", ".join(f"{name.replace('_', ' ')} {getattr(job, name)}" for name in names)


FillJob = InfillJob | EditJob
Job = GenerateJob | BudgetJob | RolloutsJob | InfillJob | EditJob
JOBS: dict[Kind, type[Job]] = {
    "generate": GenerateJob,
    "budget": BudgetJob,
    "rollouts": RolloutsJob,
    "infill": InfillJob,
    "edit": EditJob,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One job for several contenders.

    Attributes:
        name: the file's stem.
        title: what it asks, one line.
        kind: which job.
        jobs: the job in each of its sizes.
        contenders: who does it.
        device: `meta` for full size, `cpu` for real runs.
        dtype: of weights and activations; None for float32 on the CPU and bfloat16 elsewhere.
        chips: names or files of chips to simulate on.
        task: `random` tokens, or `sudoku` for the trained models, whose answers are checked.
        problems: held-out problems whose answers are checked.
        seed: of weights, prompts and sampling.
    """

    name: str
    title: str
    kind: Kind
    jobs: tuple[Job, ...]
    contenders: tuple[Contender, ...]
    device: str = "meta"
    dtype: str | None = None
    chips: tuple[str, ...] = ("h100-sxm",)
    task: Task = "random"
    problems: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        where = f"scenario {self.name!r}"
        if self.kind not in KINDS:
            raise WorkloadError(f"{where}: kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.task not in TASKS:
            raise WorkloadError(f"{where}: task must be one of {', '.join(TASKS)}, got {self.task!r}")
        if self.task == "sudoku" and self.device != "cpu":
            raise WorkloadError(f"{where}: task sudoku runs trained models for real; device must be cpu")
        if not self.contenders or not self.jobs or not self.chips:
            raise WorkloadError(f"{where}: needs at least one contender, one size of its job, and one chip")
        labels = [contender.label for contender in self.contenders]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise WorkloadError(f"{where}: labels of contenders must differ, got {twice[0]!r} twice")
        fixed = [each.label for each in self.contenders if "steps" in dict(each.options)]
        if self.kind == "budget" and self.task == "random" and fixed:
            raise WorkloadError(
                f"{where}: contender {fixed[0]!r}: a budget changes the length; give tokens_per_step instead of steps"
            )
        if self.problems <= 0:
            raise WorkloadError(f"{where}: problems must be > 0, got {self.problems}")
