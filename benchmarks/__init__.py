"""What slacker costs, beside its peers: ``python -m benchmarks [names...] [--quick] [--check] [--json FILE]``.

    __main__    names --> suites --> tables --> goals --> report: text, JSON and plots
    threads     suite: a trivial function in a thread
    recording   suite: recording a chain, and encoding it
    rows        suite: model instances as bytes, and back
    trips       suite: a batch beside single calls, and a stream too long for a list
    remote      suite: a short call in another process
    processes   suite: a short call in a process of one's own
    fetching    suite: long lists, what they cost the loop and how long they stall it
    traffic     suite: bytes on the network
    load        suite: many clients at once
    handler     suite: an unrelated handler while reports run
    peers       the ways that the last six compare; with clients, calls, and the servers in far_side/
    measure     what every suite uses: cases take turns
    meters      stalls and lost work
    tables      figures by round, ratios by round
    goals       what slacker shall reach
    report      text and JSON
    plots       the README's plots, from the JSON: ``python -m benchmarks.plots``

A suite is a module with a function ``tables(effort)`` that returns a list of `tables.Table`. A new one is a file, a
line in `__main__.SUITES`, and its goals in `goals.GOALS`.

What makes the numbers worthless: asyncio's debug mode, a tracer, profiler or coverage, a laptop on battery, cases
measured in different runs. What makes them uncertain: other work on the machine. The ratios suffer least, as the
cases of a round are measured within a second of one another: trust ratios, and distrust all if the spread is wide.
"""
