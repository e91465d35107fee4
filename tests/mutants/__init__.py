"""Would the proof notice a wrong table? Every single slip in the two tables, as somebody wrote them."""
