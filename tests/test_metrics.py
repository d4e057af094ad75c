"""Records survive a killed writer line by line."""

import pytest

from megatron_sft.errors import DataError
from megatron_sft.metrics import JsonlWriter, read_jsonl


def test_a_partial_line_is_cut_before_appending(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"a": 1}\n{"a": 2, "b')
    writer = JsonlWriter(path)
    writer.write({"a": 3})
    writer.close()
    assert list(read_jsonl(path)) == [{"a": 1}, {"a": 3}]


@pytest.mark.parametrize(("line", "message"), [("{no json", "not JSON"), ("[1]", "expected an object, found list")])
def test_a_bad_line_is_named_by_file_and_number(tmp_path, line, message):
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"a": 1}}\n\n{line}\n')
    with pytest.raises(DataError, match=rf"log\.jsonl:3: {message}"):
        list(read_jsonl(path))
