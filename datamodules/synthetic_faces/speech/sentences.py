"""The sentences that the synthetic speakers say, in disjoint splits."""

from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("sentences.txt")
_SPLIT_OF_TEN = ("train",) * 8 + ("val", "test")


@cache
def sentences(language: str, split: str) -> tuple[str, ...]:
    """The sentences of one language (ISO 639-1) and split (``train``, ``val`` or ``test``); no sentence is in two."""
    texts = _by_language()[language]
    return tuple(text for place, text in enumerate(texts) if _SPLIT_OF_TEN[place % 10] == split)


@cache
def _by_language() -> dict[str, tuple[str, ...]]:
    texts: dict[str, list[str]] = {}
    language = ""
    for line in _FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            language = line.strip("[]")
            texts[language] = []
        elif line and not line.startswith("#"):
            texts[language].append(line)
    return {language: tuple(lines) for language, lines in texts.items()}
