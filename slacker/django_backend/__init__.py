"""What surrounds work that uses Django, wherever it runs: connections, language, transactions, results."""
