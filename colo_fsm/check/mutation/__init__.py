"""Would the checks notice a wrong table? Every slip in one row, and whether a property names it."""
