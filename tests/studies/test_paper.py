"""Every run and number of `paper.yaml` against the notes on the paper, where these lie beside the checkout."""

import re
from pathlib import Path

import pytest

from megatron_sft.recipes import paper
from megatron_sft.studies.reference import Cell, ReferenceTable
from megatron_sft.studies.study import Study, load

NOTES = Path(__file__).resolve().parents[3] / "shared" / "paper.md"
needs_notes = pytest.mark.skipif(not NOTES.is_file(), reason="the notes on the paper are not beside this checkout")
EN_DASH = "\N{EN DASH}"
MARKS = {"?": "unreadable", "not captured": "unreadable", EN_DASH: "not given"}


@pytest.fixture(scope="module")
def study() -> Study:
    return load("paper")


def section(number: str) -> str:
    text = NOTES.read_text(encoding="utf-8")
    found = re.search(rf"^### {re.escape(number)} .*?(?=^##)", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


def rows_of(text: str) -> list[list[str]]:
    """The cells of a Markdown table's rows, its head and rule left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def assert_same(cell: Cell, text: str, *, stars: bool = False) -> None:
    """Compare one cell; `stars`: a number is in doubt if and only if it has a star."""
    if text in MARKS:
        assert (cell.value, cell.mark) == (None, MARKS[text])
        return
    assert cell.value == float(text.rstrip("*").replace("\N{MINUS SIGN}", "-"))
    assert cell.mark in ("", "doubtful")
    if stars:
        assert (cell.mark == "doubtful") == text.endswith("*")


def assert_rows(table: ReferenceTable, found: list[list[str]], *, stars: bool = False) -> None:
    assert len(found) == len(table.rows) > 0
    for row, texts in zip(table.rows, found, strict=True):
        cells = table.row_cells(row)
        for cell, text in zip(cells.values(), texts, strict=True):
            assert_same(cell, text, stars=stars)


def test_every_run_is_an_arm_and_agrees_with_its_recipe(study: Study) -> None:
    # `load` compares conditions with recipes; here: each run once, and evaluated wherever it saves.
    assert [spec.recipe for spec in study.arms.values()] == [f"paper:{number}" for number in range(1, 34)]
    for name, spec in study.arms.items():
        run = paper.find(spec.recipe)
        saved = [int(item.value) for item in run.entries["save_iters"].node.value]
        assert sorted([*study.evaluated_steps(name)[1:], *spec.skip_steps]) == saved
        assert bool(spec.skip_steps) == ("NoCoT" in run.name)


@needs_notes
def test_runs_are_those_of_the_matrix(study: Study) -> None:
    text = NOTES.read_text(encoding="utf-8")
    matrix = re.search(r"^### 2\.3 .*?(?=^What differs)", text, re.MULTILINE | re.DOTALL)
    assert matrix is not None
    arms = list(study.arms)
    numbers = []
    for cells in rows_of(matrix[0]):
        first, _, last = cells[0].partition(EN_DASH)
        covered = range(int(first), int(last or first) + 1)
        numbers += list(covered)
        for number in covered:
            conditions = study.conditions(arms[number - 1])
            default = cells[4].startswith("default")
            rate, epochs, batch, schedule = ("5e-5", "8", "256", "cos") if default else cells[4:8]
            assert conditions.learning_rate == float(rate)
            assert (conditions.epochs, conditions.batch) == (int(epochs), int(batch))
            assert conditions.schedule.startswith(schedule)
            assert conditions.last_step == int(cells[8])
            run = paper.find(study.arms[arms[number - 1]].recipe)
            assert any(part in run.name for part in re.split(r"[{},_…]+", cells[1]) if len(part) > 2)
        names = re.search(r"\{(.*)\}", cells[1])
        if names is not None:
            # One run for each name in braces, in their order.
            parts = [part.strip() for part in names[1].split(",")]
            runs = [paper.find(study.arms[arms[number - 1]].recipe).name for number in covered]
            assert len(parts) == len(runs)
            assert all(part.split("-")[-1] in run or part in run for part, run in zip(parts, runs, strict=True))
    assert numbers == list(range(1, 34))


@needs_notes
def test_teachers_are_those_of_the_data_sets(study: Study) -> None:
    responses = {cells[0]: cells[3] for cells in rows_of(section("1.1"))}
    words = {"Qwen3-32B": ("Qwen3-32B", "the same responses"), "DeepSeek-R1": ("verified R1",), "people": ("human",)}
    teachers = {(study.conditions(arm).data_set, study.conditions(arm).teacher) for arm in study.arms}
    assert len(teachers) == 6, "each data set has one teacher"
    for data_set, teacher in teachers - {("Math-CoT-2.5k", "Qwen3-32B")}:
        assert any(word in responses[data_set] for word in words[teacher]), data_set


@needs_notes
def test_table_1(study: Study) -> None:
    assert_rows(study.reference["table1"], [row[1:] for row in rows_of(section("4.1"))])
    assert [row.arm for row in study.reference["table1"].rows] == ["14b-math-cot", "14b-repeated", "14b-fresh"]


@needs_notes
def test_table_2(study: Study) -> None:
    found, table = rows_of(section("4.2")), study.reference["table2"]
    assert_rows(table, [row[1:] for row in found])
    model = ""
    for row, texts in zip(table.rows, found, strict=True):
        if "**" in texts[0]:
            model = texts[0].split("**")[1]
            assert row.model is not None and row.model.startswith(model)
        else:
            assert row.arm is not None
            conditions = study.conditions(row.arm)
            assert conditions.model.startswith(model)
            assert conditions.data_set == f"{texts[0]}-20k"


@needs_notes
def test_table_5(study: Study) -> None:
    found, table = rows_of(section("4.3")), study.reference["table5"]
    assert len(found) == len(table.rows) == 9
    for row, texts in zip(table.rows, found, strict=True):
        assert row.model is not None and row.model.removesuffix("-Base") == texts[0]
        cells = list(table.row_cells(row).values())
        if texts[1] == "not captured":
            assert [cell.mark for cell in cells] == ["unreadable"] * 12
            continue
        alpaca = [texts[9]] * 3 if texts[9] in MARKS else texts[9].split("/")
        for cell, text in zip(cells, [*texts[1:8], *texts[8].split("/"), *alpaca], strict=True):
            assert_same(cell, text)


@needs_notes
@pytest.mark.parametrize(("number", "key"), [("4.4", "1.7b-math-cot"), ("4.5", "4b-math-cot")])
def test_trajectories(study: Study, number: str, key: str) -> None:
    found, table = rows_of(section(number)), study.reference[key]
    texts = [[*row[1:8], *row[8].split("/")] if len(row) > 8 else row[1:] for row in found]
    assert_rows(table, texts, stars=True)
    assert [row.step for row in table.rows] == [int(row[0]) for row in found]
    # What Table 5 says of the base model is the first point.
    base = study.reference["table5"]
    model = study.conditions(key).model
    first = next(base.row_cells(row) for row in base.rows if row.model == model)
    for column, cell in table.row_cells(table.rows[0]).items():
        assert cell.value == first[column].value


@needs_notes
@pytest.mark.parametrize(("number", "key"), [("4.4", "1.7b-math-nocot"), ("4.5", "4b-math-nocot-by-step")])
def test_rows_without_traces_by_step(study: Study, number: str, key: str) -> None:
    line = next(line for line in section(number).splitlines() if line.startswith("NoCoT"))
    found = re.findall(r"(\d+): ([\d.]+)/(\d+\.\d+)", line)
    assert len(found) == 7
    assert_rows(study.reference[key], [[math, aime] for _, math, aime in found])
    assert [row.step for row in study.reference[key].rows] == [int(step) for step, _, _ in found]


@needs_notes
@pytest.mark.parametrize(
    ("number", "start", "key"),
    [
        ("4.4", "Countdown", "1.7b-countdown"),
        ("4.5", "Countdown", "4b-countdown"),
        ("4.5", "NoCoT", "4b-math-nocot"),
    ],
)
def test_last_rows(study: Study, number: str, start: str, key: str) -> None:
    line = next(line for line in section(number).splitlines() if line.startswith(start))
    numbers = re.search(r"640[^:]*: ((?:[\d./]+ \| )+[\d./]+[\d])", line)
    assert numbers is not None
    assert_rows(study.reference[key], [re.split(r" \| |/", numbers[1])])


@needs_notes
def test_runs_outside_the_study(study: Study) -> None:
    text = section("4.6")
    pairs = re.findall(r"([\d.]+)→(\d+\.\d+)", text)
    assert len(pairs) == 6
    assert_rows(study.reference["gemma3-27b"], [list(column) for column in zip(*pairs, strict=True)])
    steps = r"base (\d+\.\d), step 20 (\d+\.\d), step 160 (\d+\.\d), step 320 (\d+\.\d) \(peak\), final (\d+\.\d)"
    lora = re.search(steps, text)
    assert lora is not None
    assert_rows(study.reference["4b-lora"], [[number] for number in lora.groups()])


def test_sources_of_single_cells(study: Study) -> None:
    table1, table2 = study.reference["table1"], study.reference["table2"]
    assert table1.row_cells(table1.rows[0])["aime24"] == Cell(value=66.0, mark="", tags=("XTAB", "KOR"))
    # One source has a slip there.
    assert table1.row_cells(table1.rows[2])["mmlu_pro_1k"] == Cell(value=70.5, mark="doubtful", tags=("KOR",))
    assert table2.row_cells(table2.rows[1])["ifeval"].tags == ("XTAB", "KOR")
    assert table2.row_cells(table2.rows[6])["ifeval"].tags == ("XTAB",)
    small = study.reference["1.7b-math-cot"]
    assert small.trajectory("1.7b-math-cot", "math500")[40] == Cell(value=42.9, mark="", tags=("XTAB", "FORK"))
    assert small.trajectory("1.7b-math-cot", "ifeval")[640] == Cell(value=33.7, mark="doubtful", tags=("XTAB",))


@needs_notes
def test_tags_are_those_of_the_notes(study: Study) -> None:
    text = NOTES.read_text(encoding="utf-8")
    assert {tag for tag in study.tags if f"| [{tag}] |" in text} == set(study.tags)
    claims = text[text.index("\n## 5.") : text.index("\n## 6.")]
    assert re.findall(r"^(\d+)\. ", claims, re.MULTILINE) == list(study.claims)
