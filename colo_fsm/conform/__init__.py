"""FSM conformance: is this implementation the machine that a table declares?"""
