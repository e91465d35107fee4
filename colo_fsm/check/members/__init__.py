"""Members explored: every order of crash, restart, break, claim and rejoin, by the very functions that
members use.

Two members, the record, and what each store and each memory holds, as the set of writes in it. A pair is a
few steps here: its inside is what `check.model` and `check.search` prove. What a step may do is asked of
`colo_fsm.membership.record`, so a slip there is found here.
"""
