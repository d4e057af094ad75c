"""Options are checked before anything is loaded."""

from pathlib import Path

import pytest

pytest.importorskip("megatron.core")

from megatron_sft import cli
from megatron_sft.errors import ConfigError
from megatron_sft.train.options import TrainOptions

pytestmark = pytest.mark.trainer

REQUIRED = {
    "data": Path("data"),
    "save": Path("save"),
    "model": Path("config.json"),
    "global_batch_size": 4,
    "seq_length": 64,
    "train_iters": 40,
    "lr": 1e-3,
}


def test_saves_at_the_listed_iterations_the_interval_and_the_end():
    options = TrainOptions(**REQUIRED, save_iters="10,20", save_interval=15)
    assert [iteration for iteration in range(1, 41) if options.saves_at(iteration)] == [10, 15, 20, 30, 40]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_from": Path("hf")}, "exactly one of --init-from"),
        ({"model": None}, "exactly one of --init-from"),
        ({"global_batch_size": 0}, "--global-batch-size 0"),
        ({"lr": float("nan")}, "--lr nan"),
        ({"min_lr": 1.0}, "--min-lr 1.0 is above"),
        ({"lr_warmup_iters": 40}, "--lr-warmup-iters 40"),
        ({"context_parallel_size": 0}, "--context-parallel-size 0"),
        ({"tensor_model_parallel_size": 0}, "--tensor-model-parallel-size 0"),
        ({"sequence_parallel": True}, "--sequence-parallel has no effect"),
        ({"num_virtual_stages_per_pipeline_rank": 2}, "no effect without --pipeline-model-parallel-size"),
        ({"seq_length": 66, "context_parallel_size": 2}, "multiple of 4; 68 is the next one"),
        ({"seq_length": 66, "tensor_model_parallel_size": 4, "sequence_parallel": True}, "multiple of 4; 68 is"),
        ({"loss_weighting": "reference"}, "--global-batch-size 4 is not a multiple of"),
        ({"distributed_timeout_minutes": 0.0}, "--distributed-timeout-minutes 0.0"),
        ({"recompute_num_layers": 2}, "no effect without --recompute-granularity full"),
        ({"recompute_modules": "mlp"}, "no effect without --recompute-granularity selective"),
        ({"pure_bf16": True}, "--pure-bf16 has no effect without --bf16"),
        ({"fp8_format": "hybrid"}, "--fp8-format has no effect without --bf16"),
        ({"bf16": True, "fp8_recipe": "delayed"}, "no effect without --fp8-format"),
        (
            {"bf16": True, "fp8_format": "hybrid", "fp8_recipe": "delayed", "first_last_layers_bf16": True},
            "the delayed recipe cannot do it",
        ),
        ({"bf16": True, "pure_bf16": True, "use_precision_aware_optimizer": True}, "--pure-bf16 has no main weights"),
        ({"bf16": True, "exp_avg_dtype": "bf16"}, "no effect without --use-precision-aware-optimizer"),
        ({"optimizer_offload_fraction": 0.5}, "no effect without --optimizer-cpu-offload"),
        ({"optimizer_offload_fraction": 0.0}, "--optimizer-offload-fraction 0.0"),
        ({"reference_ranks": 2}, "no effect without reference weighting"),
        ({"peak_tflops": 0.0}, "--peak-tflops 0.0: must be above 0"),
        ({"spike_window": -1}, "--spike-window -1"),
        ({"spike_factor": float("nan")}, "--spike-factor nan"),
        ({"spike_window": 0, "spike_factor": 4.0}, "--spike-factor has no effect"),
        ({"log_params_norm_interval": -1}, "--log-params-norm-interval -1"),
        ({"wandb_name": "run"}, "--wandb-name has no effect"),
        ({"profile_step_end": 20}, "need --profile"),
        ({"profile": True, "profile_step_start": 12}, "--profile-step-end 12: must be above --profile-step-start 12"),
        ({"profile": True, "profile_step_start": 41, "profile_step_end": 43}, "lies beyond --train-iters 40"),
        ({"profile": True, "profile_ranks": "0,x"}, "--profile-ranks '0,x'"),
        ({"save_iters": "10,x"}, "--save-iters '10,x'"),
        ({"save_iters": "50"}, r"\[50\] lie outside 1..40"),
    ],
)
def test_each_impossible_value_is_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        TrainOptions(**{**REQUIRED, **changes})


def test_an_unknown_option_ends_the_program(capsys):
    arguments = "--data d --save s --model m --global-batch-size 1 --seq-length 8 --train-iters 2 --lr 1"
    assert cli.parse(TrainOptions, prog="x", argv=arguments.split()).lr == 1.0
    with pytest.raises(SystemExit) as exit_info:
        cli.parse(TrainOptions, prog="x", argv=[*arguments.split(), "--no-such-option", "1"])
    assert exit_info.value.code == 2
    assert "no-such-option" in capsys.readouterr().err
