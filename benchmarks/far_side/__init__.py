"""The other sides of `benchmarks.peers`: one Django project, served by each peer's own server.

    settings       the project: Django's users on SQLite, and nothing in the way
    work           what is called
    pickled        the view of the 2011 way, under gunicorn
    rpyc_server    RPyC's
    pyro_server    Pyro5's
    dask_cluster   Dask's scheduler and workers
    set_up         Django set up in Dask's workers
    processes      all of them and `manage.py runslacker` started, and stopped
    probe          no far side: the visitors of the suite "handler"

They listen on loopback, on ports that were free, as long as the suite runs.
"""
