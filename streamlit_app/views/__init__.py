"""The pages that are no section: home, search, progress."""
