"""Python files that a Hugging Face folder brings along for architectures which transformers does not have."""

import json
from pathlib import Path


def own_code(folder: Path) -> list[str]:
    """Names of the folder's Python files if its configuration sends transformers to any (`auto_map`), else none.

    The files import each other, so all of them belong together. Nothing in them is run here.
    """
    if not any(_names_code(folder / name) for name in ("config.json", "tokenizer_config.json")):
        return []
    return sorted(path.name for path in folder.glob("*.py") if path.is_file())


def _names_code(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Whoever needs the file says what is wrong with it.
        return False
    return isinstance(content, dict) and bool(content.get("auto_map"))
