"""Texts that every adapter is asked when it is made, and again before it serves."""

# Written for this purpose: clear, mixed, short and long. That they differ matters more than what they say.
PROBE_TEXTS = (
    "Great.",
    "It broke after two days and nobody answers my mails.",
    "Does what it says, nothing more, nothing less.",
    "Lovely colour, but the seams came apart in the first wash; a pity, I wanted to like it.",
    "Zwei Wochen gewartet, dann kam das falsche Modell.",
    (
        "I bought this for my father, who is hard to please. The box was dented and the manual a joke, yet "
        "the thing itself is solid, quiet and quick to set up, and he has used it every morning since. "
        "If the next one comes with a longer cable I will buy it again without a second thought."
    ),
)

SHORT_PROBE_TEXTS = (PROBE_TEXTS[0], PROBE_TEXTS[1], PROBE_TEXTS[2], PROBE_TEXTS[4])
"""Of different lengths, and short: a model of billions of weights is asked on the CPU."""
