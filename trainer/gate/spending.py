"""How sure each night must be, so that many nights on the same test rows stay honest together."""


def alpha_of_attempt(attempts_before: int, alpha: float, exponent: float) -> float:
    """The level of a night's test: shares of ``alpha`` that sum to it over endlessly many nights.

    Night n gets n^-exponent / zeta(exponent) of it. The chance that any of the nights is wrong is at most
    the sum of their levels (Bonferroni), however alike the nights are. Lan, DeMets: Discrete sequential
    boundaries for clinical trials (Biometrika 1983) call it spending; ADR 0076 says why it is enough here.

    Args:
        attempts_before: Comparisons made before this one, since the last promotion on these rows.
        alpha: The chance of a mistake over all nights.
        exponent: Over 1; the greater, the more is spent at the beginning.
    """
    return alpha * float((attempts_before + 1) ** -exponent) / _zeta(exponent)


def _zeta(exponent: float, terms: int = 20) -> float:
    """Riemann's zeta function by Euler and Maclaurin's formula; exact to ten digits from 1.1 on."""
    head = sum(number**-exponent for number in range(1, terms))
    tail = terms ** (1 - exponent) / (exponent - 1) + terms**-exponent / 2
    return float(head + tail + exponent * terms ** (-exponent - 1) / 12)
