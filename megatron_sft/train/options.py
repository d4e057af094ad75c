"""The trainer's options, with Megatron's names where Megatron has them."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from megatron_sft.errors import ConfigError
from megatron_sft.model.layout import ParallelLayout
from megatron_sft.train.weighting import LossWeighting

_AT_LEAST_1 = (
    "global_batch_size",
    "seq_length",
    "train_iters",
    "save_interval",
    "keep_checkpoints",
    "recompute_num_layers",
    "loss_piece_tokens",
    "num_virtual_stages_per_pipeline_rank",
    "tensor_model_parallel_size",
    "pipeline_model_parallel_size",
    "context_parallel_size",
    "profile_step_start",
)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Fine-tune (or pre-train) a model on shards. Start with torchrun; one process alone works too."""

    data: Path
    """Shard folder made by tools/build_shards."""
    save: Path
    """Folder for checkpoints and metrics.jsonl. When it holds a complete checkpoint of this run, training goes on
    from the newest one."""
    init_from: Path | None = None
    """Hugging Face folder: geometry and weights to start from."""
    model: Path | None = None
    """Hugging Face config.json: geometry only, random weights."""
    tokenizer: Path | None = None
    """Folder with the tokenizer that the shards were made with; it goes into every checkpoint. Default: the folder
    of --init-from or --model."""
    tensorboard_dir: Path | None = None
    """TensorBoard event files. Default: SAVE/tensorboard."""

    tensor_model_parallel_size: int = 1
    """Ranks that share each layer's matrices."""
    pipeline_model_parallel_size: int = 1
    """Groups of consecutive layers, one per rank."""
    num_virtual_stages_per_pipeline_rank: int = 1
    """Parts of the model on each pipeline rank, taken in turn (interleaved schedule): less waiting, more messages."""
    context_parallel_size: int = 1
    """Ranks that share each row's tokens."""
    sequence_parallel: bool = False
    """With tensor parallelism: split the tokens between attention and feed-forward as well, which saves memory."""

    global_batch_size: int
    """Samples (not rows) per iteration."""
    seq_length: int
    """Capacity of a packed row, tokens. Changes speed and memory, not the loss."""
    constant_row_length: bool = False
    """Pad all rows to --seq-length. By default each is as long as its samples need, so hardly anything is computed in
    vain."""
    train_iters: int
    """Iterations (optimizer steps) in all."""
    loss_weighting: Literal["token-mean", "sample-mean", "reference"] = "token-mean"
    """What a trained token counts: all the same, each sample the same, or as in the paper's trainer (means of small
    groups of samples, gradients summed over a rank's groups)."""
    reference_ranks: int = 8
    """With --loss-weighting reference: GPUs of the trainer that is imitated, whatever this run has."""
    reference_group_size: int = 4
    """With --loss-weighting reference: samples in each of its micro-batches."""
    shuffle: bool = False
    """Draw a new order of the samples for each epoch; without it every epoch follows the file order."""
    seed: int = 1234
    """Seed of random weights and of the shuffle."""

    lr: float
    """Peak learning rate."""
    min_lr: float = 0.0
    """Learning rate at the end of the decay."""
    lr_warmup_iters: int = 0
    """Iterations of linear warm-up from 0."""
    lr_decay_style: Literal["cosine", "linear", "constant"] = "cosine"
    """Shape of the decay from the end of the warm-up to --train-iters."""
    weight_decay: float = 0.01
    """Decoupled weight decay of AdamW; norms and biases are exempt."""
    decay_norms_and_biases: bool = False
    """Weight decay for all parameters, as in the paper's trainer."""
    adam_beta1: float = 0.9
    """First moment's decay."""
    adam_beta2: float = 0.999
    """Second moment's decay."""
    adam_eps: float = 1e-8
    """AdamW's epsilon."""
    clip_grad: float = 1.0
    """Global gradient norm limit; 0 turns clipping off."""

    recompute_granularity: Literal["none", "selective", "full"] = "none"
    """What the backward pass computes again instead of keeping it: nothing, a part of each layer, or whole layers.
    Saves memory; changes nothing in the result."""
    recompute_modules: Literal["core_attn", "mlp"] = "core_attn"
    """With selective recomputation: the part. TransformerEngine's attention keeps little, so mlp saves more there."""
    recompute_num_layers: int = 1
    """With full recomputation: layers between two kept activations."""

    loss_piece_tokens: int = 1024
    """Logits of at most so many tokens exist at a time; the backward pass computes them again for longer rows. Smaller
    pieces save memory."""

    bf16: bool = False
    """bf16 weights and activations with fp32 main weights and gradients. Default: fp32."""
    pure_bf16: bool = False
    """With --bf16: no main weights; gradients and AdamW's moments in bf16 too, as in the paper's trainer. Small updates
    are rounded away, so this is another recipe, not only less memory."""
    fp8_format: Literal["none", "hybrid", "e4m3"] = "none"
    """With --bf16: matrix products of the layers in FP8 (TransformerEngine, Hopper or newer). hybrid takes e4m3 forward
    and e5m2 for gradients."""
    fp8_recipe: Literal["tensorwise", "delayed", "blockwise"] = "tensorwise"
    """How FP8 numbers are scaled: by the tensor at hand, by its largest values in past iterations, or by blocks."""
    fp8_param_gather: bool = False
    """Keep the layers' matrices in FP8 and gather them so: less memory, half the messages."""
    first_last_layers_bf16: bool = False
    """First and last layer in bf16 (not with the delayed recipe)."""
    use_precision_aware_optimizer: bool = False
    """With --bf16: TransformerEngine's AdamW keeps of the fp32 main weights only the 16 bits that the weights lack,
    and its other tensors in the types of the options below."""
    main_grads_dtype: Literal["fp32", "bf16"] = "fp32"
    """With the precision-aware optimizer: type in which gradients are added up and reduced."""
    main_params_dtype: Literal["fp32", "fp16"] = "fp32"
    """With the precision-aware optimizer: type of the main weights."""
    exp_avg_dtype: Literal["fp32", "bf16", "fp16", "fp8"] = "fp32"
    """With the precision-aware optimizer: type of AdamW's first moment."""
    exp_avg_sq_dtype: Literal["fp32", "bf16", "fp16", "fp8"] = "fp32"
    """With the precision-aware optimizer: type of AdamW's second moment."""

    overlap_grad_reduce: bool | None = None
    """Reduce gradients during the backward pass. Default: on GPUs."""
    overlap_param_gather: bool | None = None
    """Gather updated weights during the forward pass. Default: on GPUs."""
    optimizer_cpu_offload: bool = False
    """Keep AdamW's state in the host's memory and update there."""
    optimizer_offload_fraction: float = 1.0
    """With --optimizer-cpu-offload: the share that is kept there."""
    attention_backend: Literal["auto", "flash", "fused", "unfused"] = "auto"
    """Which of TransformerEngine's attentions; auto lets it choose."""
    distributed_timeout_minutes: float = 10.0
    """A rank that waits longer for another one gives up, and with it the run; a little earlier it says where all ranks
    are. With several processes no phase of an iteration (a row, a save) may take longer."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU when torch sees one."""

    save_iters: str = ""
    """Iterations to save at, as a list: 10,20,40. The last iteration is always saved."""
    save_interval: int | None = None
    """Save every so many iterations as well."""
    async_save: bool | None = None
    """Copy a checkpoint to the host's memory and write it while training goes on. Default: on GPUs."""
    keep_checkpoints: int | None = None
    """Keep only so many of the newest checkpoints, and those of --save-iters; by default all."""

    log_params_norm_interval: int = 10
    """Report the norm of all weights every so many iterations; 0 for never. It takes a pass over the weights."""
    peak_tflops: float | None = None
    """Dense peak of one GPU in TFLOP/s, for MFU. Known GPUs need none."""
    spike_window: int = 64
    """Warn when the loss or the gradient norm stands out from so many iterations before; 0 for no warnings."""
    spike_factor: float = 6.0
    """Robust standard deviations above the median of the window (1.4826 x the median absolute deviation each)."""
    profile: bool = False
    """Write a trace of some iterations into the TensorBoard folder."""
    profile_step_start: int = 10
    """With --profile: first iteration of the trace, counted from 1."""
    profile_step_end: int = 12
    """With --profile: the iteration in front of which the trace ends."""
    profile_ranks: str = "0"
    """With --profile: ranks to trace, as a list: 0,8."""
    wandb_project: str | None = None
    """Send the figures to this project of Weights & Biases as well; WANDB_MODE=offline keeps them on disk, in
    SAVE/wandb. Needs the extra `wandb`."""
    wandb_name: str | None = None
    """With --wandb-project: name of the run. Default: the name of the --save folder."""

    def __post_init__(self) -> None:
        """Check each value and the combinations that need no data."""
        if (self.init_from is None) == (self.model is None):
            raise ConfigError("give exactly one of --init-from (folder with weights) and --model (config.json)")
        for name in _AT_LEAST_1:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: must be at least 1")
        if not self.distributed_timeout_minutes > 0:
            raise ConfigError(f"--distributed-timeout-minutes {self.distributed_timeout_minutes}: must be above 0")
        for name in ("lr", "min_lr", "weight_decay", "clip_grad", "lr_warmup_iters", "seed"):
            value = getattr(self, name)
            if not value >= 0:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: must not be negative")
        if self.min_lr > self.lr:
            raise ConfigError(f"--min-lr {self.min_lr} is above --lr {self.lr}")
        if self.lr_warmup_iters >= self.train_iters:
            raise ConfigError(
                f"--lr-warmup-iters {self.lr_warmup_iters}: must be below --train-iters {self.train_iters}"
            )
        if self.recompute_num_layers != 1 and self.recompute_granularity != "full":
            raise ConfigError("--recompute-num-layers has no effect without --recompute-granularity full")
        if self.recompute_modules != "core_attn" and self.recompute_granularity != "selective":
            raise ConfigError("--recompute-modules has no effect without --recompute-granularity selective")
        self._check_precision()
        self._check_layout()
        self._check_watching()
        self.weighting.check(self.global_batch_size)
        if self.loss_weighting != "reference" and (self.reference_ranks, self.reference_group_size) != (8, 4):
            raise ConfigError("--reference-ranks and --reference-group-size have no effect without reference weighting")
        beyond = [iteration for iteration in self.listed_save_iters() if not 1 <= iteration <= self.train_iters]
        if beyond:
            raise ConfigError(f"--save-iters: {beyond} lie outside 1..{self.train_iters} (--train-iters)")

    def _check_precision(self) -> None:
        """Combinations of number formats; what the machine can do is checked when it is known."""
        needs_bf16 = {
            "--pure-bf16": self.pure_bf16,
            "--fp8-format": self.fp8_format != "none",
            "--use-precision-aware-optimizer": self.use_precision_aware_optimizer,
        }
        for option, is_given in needs_bf16.items():
            if is_given and not self.bf16:
                raise ConfigError(f"{option} has no effect without --bf16")
        if self.pure_bf16 and (self.use_precision_aware_optimizer or self.fp8_param_gather):
            raise ConfigError(
                "--pure-bf16 has no main weights: leave out the precision-aware optimizer and FP8 weights"
            )
        if self.fp8_format == "none" and (self.fp8_recipe, self.fp8_param_gather, self.first_last_layers_bf16) != (
            "tensorwise",
            False,
            False,
        ):
            raise ConfigError(
                "--fp8-recipe, --fp8-param-gather and --first-last-layers-bf16 have no effect without --fp8-format"
            )
        if self.first_last_layers_bf16 and self.fp8_recipe == "delayed":
            raise ConfigError("--first-last-layers-bf16: the delayed recipe cannot do it; take another --fp8-recipe")
        dtypes = (self.main_grads_dtype, self.main_params_dtype, self.exp_avg_dtype, self.exp_avg_sq_dtype)
        if set(dtypes) != {"fp32"} and not self.use_precision_aware_optimizer:
            raise ConfigError(
                "--main-grads-dtype, --main-params-dtype, --exp-avg-dtype and --exp-avg-sq-dtype have no effect "
                "without --use-precision-aware-optimizer"
            )
        if not 0 < self.optimizer_offload_fraction <= 1:
            raise ConfigError(f"--optimizer-offload-fraction {self.optimizer_offload_fraction}: above 0, at most 1")
        if self.optimizer_offload_fraction != 1 and not self.optimizer_cpu_offload:
            raise ConfigError("--optimizer-offload-fraction has no effect without --optimizer-cpu-offload")
        if self.optimizer_cpu_offload and (self.use_precision_aware_optimizer or self.pure_bf16):
            raise ConfigError("--optimizer-cpu-offload goes with plain --bf16 or fp32 only")

    def _check_layout(self) -> None:
        """Combinations of parallel sizes; what the model can be split into is checked with its geometry."""
        if self.sequence_parallel and self.tensor_model_parallel_size == 1:
            raise ConfigError("--sequence-parallel has no effect without --tensor-model-parallel-size of at least 2")
        if self.num_virtual_stages_per_pipeline_rank > 1 and self.pipeline_model_parallel_size == 1:
            raise ConfigError(
                "--num-virtual-stages-per-pipeline-rank has no effect without --pipeline-model-parallel-size of at "
                "least 2"
            )
        multiple = self.layout.row_multiple
        if self.seq_length % multiple:
            raise ConfigError(
                f"--seq-length {self.seq_length}: this layout cuts rows into equal parts, so it must be a multiple of "
                f"{multiple}; {-(-self.seq_length // multiple) * multiple} is the next one"
            )

    def _check_watching(self) -> None:
        """What is logged, warned of and traced."""
        for name in ("log_params_norm_interval", "spike_window"):
            if getattr(self, name) < 0:
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name)}: must not be negative")
        for name in ("peak_tflops", "spike_factor"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: must be above 0")
        if self.spike_window == 0 and self.spike_factor != 6.0:
            raise ConfigError("--spike-factor has no effect with --spike-window 0")
        if self.wandb_name and not self.wandb_project:
            raise ConfigError("--wandb-name has no effect without --wandb-project")
        if not self.profile and (self.profile_step_start, self.profile_step_end, self.profile_ranks) != (10, 12, "0"):
            raise ConfigError("--profile-step-start, --profile-step-end and --profile-ranks need --profile")
        if self.profile and not self.profile_step_start < self.profile_step_end:
            raise ConfigError(
                f"--profile-step-end {self.profile_step_end}: must be above --profile-step-start "
                f"{self.profile_step_start}"
            )
        if self.profile and self.profile_step_start > self.train_iters:
            raise ConfigError(
                f"--profile-step-start {self.profile_step_start}: lies beyond --train-iters {self.train_iters}"
            )
        self.listed_profile_ranks()

    def listed_save_iters(self) -> list[int]:
        """The numbers of `--save-iters`.

        Raises:
            ConfigError: for anything but numbers separated by commas.
        """
        return _numbers("--save-iters", self.save_iters)

    def listed_profile_ranks(self) -> list[int]:
        """The numbers of `--profile-ranks`.

        Raises:
            ConfigError: for anything but numbers separated by commas.
        """
        return _numbers("--profile-ranks", self.profile_ranks)

    def saves_at(self, iteration: int) -> bool:
        """Whether a checkpoint is due after this iteration (counted from 1)."""
        on_interval = self.save_interval is not None and iteration % self.save_interval == 0
        return on_interval or iteration == self.train_iters or iteration in self.listed_save_iters()

    @property
    def recompute_options(self) -> dict[str, Any]:
        """Megatron-Core's fields."""
        if self.recompute_granularity == "none":
            return {}
        if self.recompute_granularity == "selective":
            return {"recompute_granularity": "selective", "recompute_modules": [self.recompute_modules]}
        return {
            "recompute_granularity": "full",
            "recompute_method": "uniform",
            "recompute_num_layers": self.recompute_num_layers,
        }

    @property
    def layout(self) -> ParallelLayout:
        """The parallel sizes."""
        return ParallelLayout(
            tensor_model_parallel_size=self.tensor_model_parallel_size,
            pipeline_model_parallel_size=self.pipeline_model_parallel_size,
            context_parallel_size=self.context_parallel_size,
            virtual_stages=self.num_virtual_stages_per_pipeline_rank,
            sequence_parallel=self.sequence_parallel,
        )

    @property
    def weighting(self) -> LossWeighting:
        """What a trained token counts."""
        return LossWeighting(
            kind=self.loss_weighting,
            reference_ranks=self.reference_ranks,
            reference_group_size=self.reference_group_size,
        )

    @property
    def geometry_source(self) -> Path:
        """Where the model's config.json is."""
        source = self.init_from or self.model
        assert source is not None, "__post_init__ ensures a model"
        return source

    @property
    def tensorboard_folder(self) -> Path:
        """Where TensorBoard's files go."""
        return self.tensorboard_dir or self.save / "tensorboard"

    @property
    def assets_folder(self) -> Path:
        """Folder with the tokenizer files."""
        return self.tokenizer or self.init_from or self.geometry_source.parent

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values by option name."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text.strip() else []
    except ValueError as error:
        raise ConfigError(f"{option} {text!r}: expected numbers separated by commas") from error
