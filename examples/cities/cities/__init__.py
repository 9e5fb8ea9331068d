"""Cities and countries of the world: a Django project of one app, and the Tornado handlers that serve it."""
