"""Promela text: one step of the system from beginning to end, and what must go on for ever (`explore.py`)."""

LIVE = r"""
#ifdef LIVE
/* ---- what must go on for ever: a run of its own --------------------------------------------- */

#define IS_MUST (event >= EVENT(FIRST_MUST, PRI) && event <= EVENT(LAST_MUST, SEC))
#define UNFINISHED (!world.w_side[PRI].s_running || world.w_released != 0 || \
    (HYBRID && (world.w_svm != RUNS_VCPU || !world.w_comparing)))

inline lives() {
    if
    :: event == EVENT(STARTS, PRI) -> quiet = YES
    :: event == REST && quiet && (!x_moves || !HEALTHY(PRI) || !HEALTHY(SEC)) -> BROKEN(P_PROGRESS)
    :: IS_MUST && quiet && x_round ->
        c_code { cx_round(); };
        if :: UNFINISHED -> BROKEN(P_PROGRESS) :: else fi
    :: event > EVENT(LAST_MUST, SEC) && x_changed -> quiet = NO
    :: else
    fi;
    stalls = (IS_MUST && x_changed && !x_round)
}
#endif
"""

STEP = r"""
/* ---- one step ----------------------------------------------------------------------------------
An event that is not possible changes nothing. REST tries every MUST step, and takes each of them back. */

inline is_born() {
    if
    :: x_me == PRI ->
        world.w_loadable = YES; world.w_intact = YES; world.w_arbiter_up = YES;
        world.w_stored = NEVER; world.w_loaded = NEVER; world.w_received = NEVER;
        world.w_sealed = NEVER;
        world.w_budget = BUDGET
    :: else
    fi;
    ME.s_state = INIT;
    ME.s_connected = YES;
    no_row();
    starts_with();
    puts_row();
    x_perform = YES
}

/* The seeded bug load-half: what has arrived becomes the newest checkpoint when the rest does not come. */
inline keeps_half() {
    if
    :: LOAD_HALF && x_me == SEC && HANDSHAKE(ME.s_state) &&
       (world.w_received != NEVER || HEAD == RECEIVE_LIVE || HEAD == RECEIVE_STATE) ->
        ME.s_torn = YES; world.w_stored = 0; world.w_loaded = 0
    :: else
    fi
}

inline takes_first() {
    x_i = 1;
    do
    :: x_i < INC.y_count -> copies(INC.y_item[x_i - 1], INC.y_item[x_i]); x_i++
    :: else -> break
    od;
    INC.y_count--;
    empties(INC.y_item[INC.y_count])
}

/* An effect has completed: if its state awaits that, it is a transition behind the rest of its row. */
inline completes() {
    ME.s_half = NO;
    x_follow = YES;
    if :: COMPLETES(x_head) -> x_on = DONE + x_head :: else -> x_perform = YES fi
}

inline step() {
    c_code { cx_before = now.world; };
    x_on = NEITHER;
    x_take = NO; x_drop = NO; x_complete = NO; x_fault = NO; x_follow = NO; x_perform = NO; x_full = NO;
    x_round = NO; x_wrong = 0;
    if
    :: x_what >= CUTS -> surrounds()
    :: x_what == STARTS -> is_born()
    :: x_what < CUTS && x_what != STARTS && ALIVE(x_me) -> acts()
    :: else
    fi;
    if :: x_fault -> keeps_half() :: else fi;
    if :: x_take -> takes_first() :: else fi;
    x_head = HEAD;
    if :: x_drop || x_complete -> drops_head() :: else fi;
    if :: x_complete -> completes() :: else fi;
    if :: x_on != NEITHER -> fires() :: else fi;
    if :: x_perform -> performs() :: else fi;
    if
    :: x_full ->        /* it waits for room: nothing has happened */
        c_code { now.world = cx_before; };
        x_round = NO; x_wrong = 0
    :: else
    fi;
    c_code { x_changed = memcmp(&now.world, &cx_before, sizeof(cx_before)) != 0; }
}

inline happens() {
    x_moves = NO;
    if
    :: event == REST -> x_try = EVENT(FIRST_MUST, PRI); x_last = EVENT(LAST_MUST, SEC)
    :: event == EVENT(STARTS, PRI) -> x_try = event; x_last = EVENT(STARTS, SEC)
    :: else -> x_try = event; x_last = event
    fi;
    do
    :: x_try <= x_last ->
        x_me = x_try % 2;
        x_what = x_try / 2;
        step();
        if
        :: event == REST ->
            x_moves = (x_moves || x_changed);
            x_wrong = 0;
            c_code { now.world = cx_before; }
        :: else -> c_code { cx_report(x_wrong); }
        fi;
        x_try++
    :: else -> break
    od;
    if :: event == REST && !x_moves -> rests() :: else fi;
#ifdef LIVE
    lives();
#endif
#ifdef DUMP
    if :: event == REST -> c_code { cx_dump(); } :: else fi;
#endif
    c_code { cx_report(x_wrong); };
    event = 0; item = 0; value = 0
}
"""

FOR_EVER = r"""
#ifdef LIVE
/* What must never be: that from some moment on every step is a MUST step, and none completes a round. */
never {
    do
    :: true
    :: stalls -> break
    od;
accept_for_ever:
    do :: stalls od
}
#endif
"""
