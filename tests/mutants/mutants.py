"""All mutants: a module for each area of the product."""

from tests.mutants import classifier, console, labels, learning, stored_data, stream

MUTANTS = (
    *stream.MUTANTS,
    *classifier.MUTANTS,
    *stored_data.MUTANTS,
    *labels.MUTANTS,
    *learning.MUTANTS,
    *console.MUTANTS,
)
