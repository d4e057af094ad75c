"""Files are there whole or not at all."""

import os

import pytest

from megatron_sft.files import removed_on_failure, write_bytes, write_json, write_text


def test_content_is_replaced_as_a_whole_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"b": 1, "a": "ü"})
    write_json(path, {"a": 2})
    assert path.read_text(encoding="utf-8") == '{\n  "a": 2\n}\n'
    assert os.listdir(tmp_path) == ["value.json"]


def test_a_failed_write_leaves_the_old_content(tmp_path):
    path = tmp_path / "value.json"
    write_text(path, "old")
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, float("nan"))
    with pytest.raises(TypeError):
        write_bytes(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["value.json"]


def test_text_is_written_as_it_stands(tmp_path):
    write_text(tmp_path / "rows", "a\r\nb\n")
    assert (tmp_path / "rows").read_bytes() == b"a\r\nb\n"


def test_a_folder_goes_when_its_writing_fails(tmp_path):
    folder = tmp_path / "partial"
    folder.mkdir()
    (folder / "weights").write_text("half")
    with pytest.raises(KeyboardInterrupt), removed_on_failure(folder):
        raise KeyboardInterrupt
    assert not folder.exists()
