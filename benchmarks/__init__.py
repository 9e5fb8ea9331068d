"""What slacker costs, beside its peers: ``python -m benchmarks [names...] [--quick] [--check] [--json FILE]``.

    __main__    names --> suites (threads, recording, ...) --> tables --> goals --> report: text and JSON
    measure     what every suite uses: cases take turns
    tables      figures by round, ratios by round

A suite is a module with a function ``tables(effort)`` that returns a list of `tables.Table`. A new one is a file, a
line in `__main__.SUITES`, and its goals in `goals.GOALS`.

What makes the numbers worthless: asyncio's debug mode, a tracer, profiler or coverage, a laptop on battery, cases
measured in different runs. What makes them uncertain: other work on the machine. The ratios suffer least, as the
cases of a round are measured within a second of one another: trust ratios, and distrust all if the spread is wide.
"""
