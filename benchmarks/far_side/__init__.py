"""The far sides of the suite "remote": one Django project, served by each peer's own server.

    settings       the project: Django's users on SQLite, and nothing in the way
    work           what is called
    pickled        the view of the 2011 way, under gunicorn
    rpyc_server    RPyC's
    pyro_server    Pyro5's
    processes      all of them and `manage.py runslacker` started, and stopped

They listen on loopback, on ports that were free, as long as the suite runs.
"""
