"""The environment that jobs run in: wheels for the nodes, locked by digest, checked offline, packed."""
