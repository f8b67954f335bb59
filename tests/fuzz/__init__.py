"""Feed broken files to every reader: nothing but our own errors may come out, and no crash of a library."""
