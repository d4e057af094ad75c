"""`ChatTokenizer` and the verifiers as Python sees them, and the template against Hugging Face's rendering."""

import gzip
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from megatron_sft.data.chat import ChatTokenizer, answer_text, last_boxed, verify_countdown, verify_math
from megatron_sft.errors import DataError
from tests.conftest import CHATML_TEMPLATE, write_tokenizer

USER = [{"role": "user", "content": "3 + 5?"}]


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def test_properties(tiny_tokenizer: Path) -> None:
    chat = ChatTokenizer(tiny_tokenizer)
    plain = Tokenizer.from_file(str(tiny_tokenizer / "tokenizer.json"))
    assert chat.eos_token == "<|im_end|>"
    assert chat.eos_id == plain.token_to_id("<|im_end|>")
    assert chat.stop_ids == [chat.eos_id]
    assert chat.vocab_size == plain.get_vocab_size(with_added_tokens=True)
    assert len(chat.fingerprint) == 64
    assert chat.template_source == "tokenizer_config.json"


def test_prompt_is_the_rendered_text_encoded(tiny_tokenizer: Path) -> None:
    chat = ChatTokenizer(tiny_tokenizer)
    rendered = chat.render(USER)
    assert rendered == "<|im_start|>user\n3 + 5?<|im_end|>\n<|im_start|>assistant\n"
    assert chat.render(USER, add_generation_prompt=False) == "<|im_start|>user\n3 + 5?<|im_end|>\n"
    assert chat.encode_prompt(USER) == chat.encode(rendered)
    assert chat.decode(chat.encode(rendered)) == rendered


def test_special_token_text_becomes_its_id(tiny_tokenizer: Path) -> None:
    chat = ChatTokenizer(tiny_tokenizer)
    assert chat.encode("<|im_end|>") == [chat.eos_id]
    assert chat.encode("a<|im_end|>b").count(chat.eos_id) == 1


def test_stored_truncation_and_padding_are_ignored(tiny_tokenizer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(tiny_tokenizer, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=4)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert "truncation" in json.loads((folder / "tokenizer.json").read_text())
    text = "a long text that has many tokens"
    assert ChatTokenizer(folder).encode(text) == ChatTokenizer(tiny_tokenizer).encode(text)
    assert ChatTokenizer(folder).encode("a") == ChatTokenizer(tiny_tokenizer).encode("a")


def test_split_special_tokens_is_honoured(tiny_tokenizer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(tiny_tokenizer, folder)
    edit_config(folder, split_special_tokens=True)
    chat = ChatTokenizer(folder)
    assert chat.eos_id not in chat.encode("<|im_end|>")
    assert chat.fingerprint != ChatTokenizer(tiny_tokenizer).fingerprint


def test_threads_share_one_tokenizer(tiny_tokenizer: Path) -> None:
    chat = ChatTokenizer(tiny_tokenizer)
    texts = [f"the number {i} and {i * i}" for i in range(200)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(chat.encode, texts)) == [chat.encode(text) for text in texts]


def test_folder_variants(tiny_tokenizer: Path, tmp_path: Path) -> None:
    """Compressed tokenizer, named templates, eos as an object and the template in a file all mean the same."""
    expected = ChatTokenizer(tiny_tokenizer).encode_prompt(USER)
    folder = tmp_path / "tokenizer"
    shutil.copytree(tiny_tokenizer, folder)
    with gzip.open(folder / "tokenizer.json.gz", "wb") as file:
        file.write((folder / "tokenizer.json").read_bytes())
    (folder / "tokenizer.json").unlink()
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": CHATML_TEMPLATE}]
    edit_config(folder, eos_token={"content": "<|im_end|>", "lstrip": False}, chat_template=named)
    assert ChatTokenizer(folder).encode_prompt(USER) == expected
    assert ChatTokenizer(folder).fingerprint == ChatTokenizer(tiny_tokenizer).fingerprint

    edit_config(folder, chat_template="the file wins")
    (folder / "chat_template.jinja").write_text(CHATML_TEMPLATE)
    chat = ChatTokenizer(folder)
    assert chat.encode_prompt(USER) == expected
    assert chat.template_source == "chat_template.jinja"


def test_stop_ids_of_the_generation_config(tiny_tokenizer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(tiny_tokenizer, folder)
    eos = ChatTokenizer(folder).eos_id
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, eos]}))
    assert ChatTokenizer(folder).stop_ids == [eos, 7]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": "7"}))
    with pytest.raises(DataError, match=r"generation_config\.json.*eos_token_id"):
        ChatTokenizer(folder)


def test_fingerprint_covers_the_template(tiny_tokenizer: Path, tmp_path: Path) -> None:
    other = write_tokenizer(tmp_path / "other", template=CHATML_TEMPLATE + "x")
    same = write_tokenizer(tmp_path / "same")
    assert ChatTokenizer(same).fingerprint == ChatTokenizer(tiny_tokenizer).fingerprint
    assert ChatTokenizer(other).fingerprint != ChatTokenizer(tiny_tokenizer).fingerprint


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "neither tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "not a tokenizer"),
        (lambda folder: (folder / "tokenizer_config.json").unlink(), "no tokenizer_config.json"),
        (lambda folder: (folder / "tokenizer_config.json").write_text("[]"), "must hold a JSON object"),
        (lambda folder: edit_config(folder, chat_template=None), r"no chat template; add chat_template\.jinja"),
        (lambda folder: edit_config(folder, chat_template="{% if %}"), "template"),
        (lambda folder: edit_config(folder, eos_token=None), "names no eos_token"),
        (lambda folder: edit_config(folder, eos_token="<none>"), "not a token of tokenizer.json"),
        (
            lambda folder: edit_config(folder, added_tokens_decoder={"5": {"content": "<|im_end|>"}}),
            "lists added token",
        ),
        (lambda folder: shutil.rmtree(folder), "no such folder"),
    ],
)
def test_a_deficient_folder_is_named_with_its_remedy(damage, message, tiny_tokenizer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(tiny_tokenizer, folder)
    ChatTokenizer(folder)
    damage(folder)
    with pytest.raises(DataError, match=message) as error:
        ChatTokenizer(folder)
    assert str(folder) in str(error.value)


def test_template_errors(tiny_tokenizer: Path, tmp_path: Path) -> None:
    strict = write_tokenizer(
        tmp_path / "strict",
        template="{% if messages[0].role != 'user' %}{{ raise_exception('user comes first') }}{% endif %}x",
    )
    with pytest.raises(DataError, match="user comes first"):
        ChatTokenizer(strict).render([{"role": "system", "content": ""}])
    with pytest.raises(DataError, match="empty"):
        ChatTokenizer(tiny_tokenizer).render([])
    with pytest.raises(TypeError):
        ChatTokenizer(tiny_tokenizer).render([{"role": "user", "content": 3}])  # type: ignore[dict-item]


def test_answers() -> None:
    assert last_boxed(r"\boxed{1} then \boxed{\frac{1}{2}}") == r"\frac{1}{2}"
    assert last_boxed("none") is None
    assert answer_text("<think>a</think> b") == " b"
    assert answer_text("b") == "b"
    assert verify_countdown(r"</think>\boxed{(7-3)*7}", [3, 7, 7], 28) == (True, "")
    assert verify_countdown("</think>28", [3, 7, 7], 28) == (False, "no_boxed_answer")
    correct, reason = verify_countdown(r"</think>\boxed{4*7}", [3, 7, 7], 28)
    assert not correct
    assert reason.startswith("wrong_answer: uses 4 7")
    assert verify_math(r"\boxed{\dfrac{1}{2}}", "0.5") == (True, "")
    assert verify_math(r"\boxed{0.49}", "0.5")[0] is False


# ---- the template against Hugging Face ----

HOSTILE = "<|im_end|>\n{{ 7 * 7 }}{% raw %} </think>\x1f\u00a0 <tool_response>é\u0301\r\n'\"\\ <b>&amp;\ud7ff"
CONVERSATIONS = [
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
    [{"role": "user", "content": HOSTILE}],
    [{"role": "system", "content": HOSTILE}, {"role": "user", "content": ""}],
    [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"},
        {"role": "user", "content": "c"},
    ],
    [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "\n\n<think>\n\n</think>\n b \n"},
        {"role": "system", "content": "late system turn"},
        {"role": "user", "content": "<tool_response>x</tool_response>"},
    ],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "no trace"}],
    [{"role": "user", "content": "a"}, {"role": "tool", "content": "42"}, {"role": "tool", "content": "43"}],
]
EXTRA_TEMPLATES = {
    "llama3": (
        "{% set loop_messages = messages %}{% for message in loop_messages %}"
        "{% set content = '<|start|>' + message['role'] + '\n\n' + message['content'] | trim + '<|eot|>' %}"
        "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start|>assistant\n\n' }}{% endif %}"
    ),
    "generation": (
        "{% for m in messages %}\n  {% if m.role == 'assistant' %}\n{% generation %}\n{{ m.content }}\n"
        "{% endgeneration %}\n  {% else %}\n[{{ m.role | upper }}]{{ m.content.strip() }}\n  {% endif %}\n"
        "{% endfor %}\n\n"
    ),
    "python": (
        "{{ none }}{{ true }}{{ messages | length }}{{ messages[0] | tojson }}"
        "{{ messages[-1].content.split() | length }}"
        "{{ messages[0].content[:3] ~ 1.5 }}{{ '%s-%d' % ('a', 3) if false else '' }}{{ messages[0].get('name', 'x') }}"
        "{% for m in messages if m.role == 'user' %}{{ loop.index }}"
        "{% if loop.index > 1 %}{% break %}{% endif %}{% endfor %}"
        "{% macro turn(m) %}<{{ m.role }}>{{ m['content'] | replace('a', 'b') }}{% endmacro %}{{ turn(messages[0]) }}"
        "{{ tools is none }}{{ undefined_name is defined }}{{ undefined_name }}{{ eos_token }}"
    ),
}


def rendered_by_transformers(
    template: str, messages: list[dict[str, str]], generation_prompt: bool, **tokens: str
) -> str:
    utilities = pytest.importorskip("transformers.utils.chat_template_utils", reason="transformers is not installed")
    rendered, _ = utilities.render_jinja_template(
        conversations=[messages], chat_template=template, add_generation_prompt=generation_prompt, **tokens
    )
    return str(rendered[0])


def assert_renders_alike(folder: Path, template: str, tokens: dict[str, str]) -> None:
    chat = ChatTokenizer(folder)
    for messages in CONVERSATIONS:
        for generation_prompt in (True, False):
            expected = rendered_by_transformers(template, messages, generation_prompt, **tokens)
            assert chat.render(messages, generation_prompt) == expected, messages


@pytest.mark.parametrize("name", EXTRA_TEMPLATES)
def test_template_features_equal_transformers(name: str, tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "tokenizer", template=EXTRA_TEMPLATES[name])
    edit_config(folder, bos_token="<|im_start|>")
    tokens = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    assert_renders_alike(folder, EXTRA_TEMPLATES[name], tokens)


@pytest.mark.parametrize(
    "source",
    [
        "qwen3/tokenizer_config.json",
        "qwen3_thinking_2507/tokenizer_config.json",
        "deepseek_r1_distill_qwen/tokenizer_config.json",
        "qwen2/tokenizer_config.upstream_test_variant.json",
    ],
)
def test_published_templates_equal_transformers(source: str, shared_data: Path, tmp_path: Path) -> None:
    config = json.loads((shared_data / "tokenizers" / source).read_text(encoding="utf-8"))
    folder = write_tokenizer(tmp_path / "tokenizer", template=config["chat_template"])
    bos = config["bos_token"]["content"] if isinstance(config["bos_token"], dict) else config["bos_token"]
    edit_config(folder, bos_token=bos)
    tokens = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"} | ({"bos_token": bos} if bos else {})
    assert_renders_alike(folder, config["chat_template"], tokens)
