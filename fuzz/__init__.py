"""Mutations of everything that crosses the wire: none may be believed, none may raise what it must not.

    python -m fuzz --runs 100000 --seed 1
    python -m fuzz --runs 1 --seed 1 --from 4711 body        one run again, of those that a failure names

`targets` has one function for each thing that is mutated; the tests run each of them some thousand times.
"""
