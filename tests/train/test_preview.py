"""The first sample is shown as it is trained, and cannot do anything to the terminal."""

import pytest
from tokenizers import Tokenizer

pytest.importorskip("megatron.core")

from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.data.shards import ShardReader
from megatron_sft.train.preview import describe_first_sample, first_document
from tests.data.shard_folder import seal, write_folder

pytestmark = pytest.mark.trainer


@pytest.fixture
def shards_of(world, tmp_path):
    """Shards of one response, which the builder might refuse, and the world's tokenizer."""

    def write(response):
        ids = Tokenizer.from_file(str(world.tokenizer / "tokenizer.json")).encode
        tokenizer = ChatTokenizer(str(world.tokenizer))
        prompt = ids("<|im_start|>user\nSay it.<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False).ids
        trained = [*ids(response, add_special_tokens=False).ids, tokenizer.eos_id]
        folder = write_folder(tmp_path / "shards", [[prompt, trained]])
        seal(folder, stop_id=tokenizer.eos_id)
        return ShardReader(folder), tokenizer

    return write


def test_boundary_end_mask_and_stop_token_are_shown(shards_of):
    reader, tokenizer = shards_of("one")
    summary, boundary, end, stop = describe_first_sample(reader, [0], tokenizer, coloured=False)
    length, trained = int(reader.lengths[0]), int(reader.trained_tokens[0])
    assert summary == (f"sample 0, first of 1 in the first row: {length} tokens, {trained} trained (between « and »)")
    assert boundary.endswith("<|im_start|>assistant\\n«one<|im_end|>»")
    assert end == boundary
    assert stop == f"stop token: id {reader.stop_token_id} '<|im_end|>' ends the sample and is trained"


def test_a_long_sample_shows_its_boundary_and_its_end(shards_of):
    reader, tokenizer = shards_of("first " + "x " * 100 + "last")
    _, boundary, end, _ = describe_first_sample(reader, [0], tokenizer, coloured=False)
    assert "assistant\\n«first" in boundary and boundary.endswith("» ...")
    assert end.startswith("... «") and end.endswith("last<|im_end|>»")


def test_hostile_text_and_marks_of_its_own_are_escaped(shards_of):
    reader, tokenizer = shards_of("\x1b]0;x\x07 \u202e » a «")
    lines = list(describe_first_sample(reader, [0], tokenizer, coloured=False))
    assert all(line.isprintable() for line in lines)
    assert "\\x1b]0;x\\x07 \\u202e" in lines[1]
    assert lines[1].count("«") == lines[1].count("»") == 1
    assert "\\xbb a \\xab" in lines[1]


def test_colours_stand_for_the_marks_on_a_terminal(shards_of):
    reader, tokenizer = shards_of("one \x1b[31m")
    _, boundary, _, _ = describe_first_sample(reader, [0], tokenizer, coloured=True)
    assert boundary.endswith("\x1b[33mone \\x1b[31m<|im_end|>\x1b[0m")
    assert boundary.count("\x1b") == 4


def test_the_mask_is_that_of_the_row_and_not_of_the_shard(shards_of):
    reader, _ = shards_of("one two")
    document, sample = first_document(reader.fill_row([0], None, 0.5)), reader.sample(0)
    assert document.tokens.tolist() == sample.tokens.tolist()
    assert document.trained.tolist() == sample.trained.tolist()
    assert 0 < document.trained.sum() < len(document.trained)
