"""River's ADWIN over series on standard input (JSON); prints where it found changes in each."""

import json
import sys

from river.drift import ADWIN


def main() -> None:
    print(json.dumps([changes(series) for series in json.load(sys.stdin)]))


def changes(series):
    """After how many numbers a change was found, each time."""
    detector, found = ADWIN(), []
    for place, value in enumerate(series, start=1):
        detector.update(value)
        if detector.drift_detected:
            found.append(place)
    return found


if __name__ == "__main__":
    main()
