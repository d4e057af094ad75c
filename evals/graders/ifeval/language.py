"""What the checks need to know about natural language: which language, which sentences, which words.

The libraries are those that IFEval's published checks rest on; the model that finds sentences is the same too, but
comes with a package and is never downloaded.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from megatron_sft.backends import require_extra

SEED = 0
"""langdetect draws at random; this seed is set for every text."""

MAX_LANGUAGE_CHARS = 200_000
"""langdetect reads 10,000 characters once addresses are removed; so many are looked at for that."""


def check_installed() -> None:
    """Raise EnvironmentProblem unless the libraries are there."""
    require_extra("eval", "langdetect", "nltk", "punkt")


def detect_language(text: str) -> str | None:
    """Return the ISO 639-1 code of a text's language; None where there is nothing to tell by."""
    from langdetect import LangDetectException

    detector = _detectors().create()
    detector.append(text[:MAX_LANGUAGE_CHARS])
    try:
        return str(detector.detect())
    except LangDetectException:
        return None


def sentences(text: str) -> list[str]:
    """Split English text into sentences."""
    found: list[str] = _sentence_splitter().tokenize(text)
    return found


def words(text: str) -> Iterator[str]:
    """Split English text into words and punctuation, as the Penn Treebank does."""
    tokenizer = _word_tokenizer()
    for sentence in sentences(text):
        yield from tokenizer.tokenize(sentence)


@cache
def _detectors() -> Any:
    from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory

    # Sorted, so that sums of probabilities do not depend on the order of a folder's entries.
    paths = sorted(path for path in Path(PROFILES_DIRECTORY).iterdir() if path.is_file())
    profiles = [path.read_text(encoding="utf-8") for path in paths if not path.name.startswith(".")]
    factory = DetectorFactory()
    factory.load_json_profile(profiles)
    factory.set_seed(SEED)
    return factory


@cache
def _sentence_splitter() -> Any:
    import punkt

    return punkt.PunktSentenceTokenizer(punkt.load_model("english"))


@cache
def _word_tokenizer() -> Any:
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()
