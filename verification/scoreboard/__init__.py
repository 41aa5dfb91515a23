"""The scoreboard: public implementations, each judged by its own code. docs/scoreboard.md.

implementations.toml  the list: where each comes from, and what it is judged for
adapters/             one for each; runs in the environment of its implementation
sources.py            what a folder holds of the sources and environments, and how to get the rest
judging.py            one implementation judged on all cases of its methods
record.py             the results file
badges.py             a badge for each row
layers.py             what deviations cost on layers of a real model
"""
