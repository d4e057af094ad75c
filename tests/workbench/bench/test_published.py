import pytest

from megatron_sft.studies.study import load
from megatron_sft.workbench.bench.published import PublishedConfig, curves_of, lines, main


def test_arms_have_the_columns_that_can_be_trusted() -> None:
    study, config = load("paper"), PublishedConfig()
    # GPQA of the 14B base model is in doubt, AlpacaEval is in points.
    assert list(curves_of(study, "14b-math-cot", config)) == [
        *("math500", "aime24", "livecodebench", "mmlu_pro_1k", "ifeval", "halueval", "truthfulqa"),
    ]
    small = curves_of(study, "1.7b-math-cot", config)
    assert small["ifeval"].steps == (0, 10, 20, 40, 80, 480)
    assert small["math500"].steps[-1] == 640
    # Two benchmarks with the same standard error have draws of their own.
    assert not (small["math500"].draws[:, 0] - small["math500"].means[0] == 0).any()
    assert len({float(curve.draws[0, 0] - curve.means[0]) for curve in small.values()}) == len(small)


def test_tables_say_what_the_numbers_allow(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert "| 4b-math-cot | gpqa_diamond | gain | 0.0 (0.0 to " in text
    assert "| 1.7b-math-cot | mmlu_pro_1k | dip and recovery | 5.7 (" in text
    assert "mmlu_pro_1k +17.6 ± " in text
    assert "aime24 +15.6 ± 29" in text


def test_paired_steps_resolve_more() -> None:
    study = load("paper")
    alone = [line for line in lines(study, PublishedConfig()) if "dip and recovery" in line]
    paired = [line for line in lines(study, PublishedConfig(correlation=0.5)) if "dip and recovery" in line]
    assert len(paired) > len(alone) == 3


def test_options_out_of_range_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--correlation", "1"])
    assert "from 0 to below 1" in " ".join(capsys.readouterr().err.split())
