"""What of a response a judge sees, and how it is set apart from the judge's own instructions."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from evals.graders.verdict import final_part

MAX_REPLY_CHARS = 65_536
"""Some 16,384 tokens of English, where the paper clips."""
NONCE_CHARS = 16


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The part of a response after its trace."""

    text: str
    truncated: bool
    """The response ended by its budget, within the reply."""
    num_clipped_chars: int = 0
    """Characters at the end that the judge does not see."""

    def figures(self) -> dict[str, float]:
        """Return what is counted beside every verdict."""
        return {"reply_truncated": float(self.truncated), "reply_clipped": float(self.num_clipped_chars > 0)}


def reply_of(
    text: str, *, prompt_opens_think: bool, finish_reason: str, max_chars: int = MAX_REPLY_CHARS
) -> Reply | None:
    """Return what a judge is shown of a response; None where there is no reply.

    A response that never leaves its trace has no reply, nor has one with nothing but white space after it. One that
    was cut off after its trace is judged as it stands. Beyond `max_chars` characters it is clipped.
    """
    final = final_part(text, prompt_opens_think=prompt_opens_think)
    if final is None or not final.strip():
        return None
    final = final.strip()
    return Reply(
        text=final[:max_chars],
        truncated=finish_reason == "length",
        num_clipped_chars=max(0, len(final) - max_chars),
    )


def quoted(parts: Mapping[str, str]) -> dict[str, str]:
    """Return each text between marks that no text can contain: `[reply 3f...]`, the text, `[end of reply 3f...]`.

    The marks have a nonce: a hash of all the texts, another one as long as any of them contains it. So a reply that
    imitates marks or the judge's form stays within its own; and equal texts give equal questions.
    """
    content = "\0".join(part for pair in parts.items() for part in pair)
    number = 0
    while True:
        digest = hashlib.sha256(f"{number}\0{content}".encode("utf-8", "surrogatepass"))
        nonce = digest.hexdigest()[:NONCE_CHARS]
        if nonce not in content:
            break
        number += 1
    return {name: f"[{name} {nonce}]\n{text}\n[end of {name} {nonce}]" for name, text in parts.items()}
