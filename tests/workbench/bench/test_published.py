import pytest

from megatron_sft.studies.study import load
from megatron_sft.workbench.bench.published import PublishedConfig, lines, main


def test_tables_say_what_the_numbers_allow(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert "| 4b-math-cot | gpqa_diamond | gain | 0.0 (0.0 to " in text
    assert "| 1.7b-math-cot | mmlu_pro_1k | dip and recovery | 5.7 (" in text
    assert "mmlu_pro_1k +17.6 ± " in text
    assert "aime24 +15.6 ± 30.8" in text


def test_paired_steps_resolve_more() -> None:
    study = load("paper")
    alone = [line for line in lines(study, PublishedConfig()) if "dip and recovery" in line]
    paired = [line for line in lines(study, PublishedConfig(correlation=0.5)) if "dip and recovery" in line]
    assert len(paired) > len(alone) == 3


def test_options_out_of_range_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--correlation", "1"])
    assert "from 0 to below 1" in " ".join(capsys.readouterr().err.split())
