"""Sets Django up on import, for processes that are begun by a peer's own means."""

import django

django.setup(set_prefix=False)
