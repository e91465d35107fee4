"""Promela text: a side's transitions and what they break (`taking.py`, `properties.py`), and its steps
(`work.py`, `steps.py`), written a second time, for one side, `x_me`. The rows of its table are not here.
"""

FIRES = r"""
/* ---- a transition (taking.py, properties.py) ---------------------------------------------------
x_on in x_at; the row gives x_to and x_row. */

/* Where a fault, or a message out of order, must lead. */
#define AFTER_ERROR (x_at == INIT -> STOPPED : \
    ((x_at == ALONE || x_at == FINISHING) && x_on == GUEST_FAILED -> STOPPED : \
    (x_me == SEC && (x_at == RECEIVED || x_at == (PATCH -> SENDING : SIZED)) -> FINISHING : \
    (HANDSHAKE(x_at) -> FAILOVER : x_at))))
/* Where one may leave, and where that leads; DEAD: nowhere. */
#define LEAVING_FROM(s) (s == INIT || s == READY || s == LOADED || s == ALONE -> ENDED : \
    (s == FAILOVER -> STOPPED : DEAD))
/* The states stand in the order of the messages that they are the sync points of. */
#define MIRROR(message) (message + READY)
/* What this side sends itself it can only have received out of order. */
#define IS_OWN(message) (x_me == (message == CHECKPOINT_REQUEST || message == VMSTATE_SEND || \
    message == VMSTATE_SIZE -> PRI : SEC))
/* Whether it is this message's turn: it is the next one of the picture (the patch has no vmstate-size). */
#define IN_TURN(message) (message == CHECKPOINT_READY -> x_at == INIT : \
    (message == CHECKPOINT_REQUEST -> (x_at == READY || x_at == LOADED) : \
    (PATCH && message == VMSTATE_SIZE -> false : \
    (PATCH && message == VMSTATE_RECEIVED -> x_at == SENDING : x_at == MIRROR(message) - 1))))
#define WRONG (x_on < INVALID -> (IS_OWN(x_on) || !IN_TURN(x_on) || x_to != MIRROR(x_on)) : \
    x_on <= FAILOVER_REQUEST)

inline judges() {
    if
    :: WRONG && (x_to != AFTER_ERROR || (x_to == x_at && x_row[0] != NOTHING)) -> BROKEN(P_FAILOVER)
    :: else
    fi;
    if :: x_to == ALONE && x_at != ALONE && x_on != WON -> BROKEN(P_CLAIMED) :: else fi;
    if
    :: x_on == BEGIN_CHECKPOINT && !((x_at == READY || x_at == LOADED) && x_to == REQUESTED) ->
        BROKEN(P_SYNC_POINTS)
    :: else
    fi;
    x_i = 0;
    do
    :: x_i < ROW ->
        if
        :: x_row[x_i] >= SEND && x_to != MIRROR(x_row[x_i] - SEND) -> BROKEN(P_SYNC_POINTS)
        :: else
        fi;
        x_i++
    :: else -> break
    od;
    if
    :: OVER(x_at) && x_to != x_at -> BROKEN(P_ORDERLY)
    :: !OVER(x_at) && x_on == BEGIN_LEAVE && x_to != LEAVING_FROM(x_at) -> BROKEN(P_ORDERLY)
    :: !OVER(x_at) && x_on != BEGIN_LEAVE && x_to == ENDED -> BROKEN(P_ORDERLY)
    :: !OVER(x_at) && x_on != BEGIN_LEAVE && x_to == STOPPED && x_at != INIT && x_on != LOST &&
       !(x_on == GUEST_FAILED && (x_at == ALONE || x_at == FINISHING)) -> BROKEN(P_ORDERLY)
    :: else
    fi
}

inline no_row() {
    x_i = 0;
    do :: x_i < ROW -> x_row[x_i] = NOTHING; x_i++ :: else -> break od
}

/* What the row asks for comes behind what is still to do. */
inline puts_row() {
    x_n = 0;
    do :: ME.s_todo[x_n] != NOTHING -> x_n++ :: else -> break od;
    x_i = 0;
    do
    :: x_i < ROW && x_row[x_i] != NOTHING -> ME.s_todo[x_n] = x_row[x_i]; x_n++; x_i++
    :: else -> break
    od
}

inline does_nothing_more() {
    x_i = 0;
    do :: x_i < TODO -> ME.s_todo[x_i] = NOTHING; x_i++ :: else -> break od
}

/* If the state changes, what was left of the last row is dropped, unless its effect has just completed
(x_follow). If it does not change, the effect under way goes on. */
inline fires() {
    x_at = ME.s_state;
    x_to = x_at;
    no_row();
    looks_up();
    judges();
    if :: x_on == WON || x_on == LOST -> x_follow = (x_to == x_at) :: else fi;
    if :: !x_follow && x_to != x_at -> does_nothing_more() :: else fi;
    x_goes_on = (!IDLE && !x_follow);
    ME.s_state = x_to;
    ME.s_half = (ME.s_half && x_goes_on);
    puts_row();
    x_perform = !x_goes_on;
    x_round = (x_me == PRI && x_on == VMSTATE_LOADED && HANDSHAKE(x_to))
}
"""

STEPS = r"""
/* ---- what a side does (work.py, steps.py) ------------------------------------------------------
A step says what it is; x_on, x_take, x_drop, x_complete and x_fault say what follows from it. */

#define RECEIVING (HEAD == RECEIVE_LIVE || HEAD == RECEIVE_STATE || (HEAD == RECEIVE_INITIAL && !ME.s_half))
#define WAITS_FOR_PEER (RECEIVING || (IDLE && AWAITS))
#define WANTED (HEAD == RECEIVE_LIVE -> LIVE_STATE : (HEAD == RECEIVE_STATE -> STATE : INITIAL))
#define ON_WIRE (RECEIVING && !(PATCH && HEAD == RECEIVE_INITIAL))

/* The next message, or the end of the link, where it is looked at: where one is awaited, and between two
checkpoints; there, one whose turn comes later waits. */
inline reads() {
    if
    :: (AWAITS || MAY_BEGIN) && INC.y_count > 0 && !(!AWAITS && EARLY(FIRST.i_value)) ->
        x_on = (FIRST.i_value < INVALID -> FIRST.i_value : INVALID);
        if
        :: PATCH && x_me == SEC && FIRST.i_value == VMSTATE_SEND ->
            world.w_received = FIRST.i_lag; world.w_intact = FIRST.i_sound
        :: else
        fi;
        x_take = YES
    :: (AWAITS || MAY_BEGIN) && INC.y_count == 0 && INC.y_end == CLOSED -> x_on = EOF
    :: else
    fi
}

inline receives() {
    if
    :: INC.y_count == 0 && INC.y_end == CLOSED -> x_on = EOF; x_fault = YES
    :: INC.y_count > 0 && FIRST.i_value != WANTED -> x_on = INVALID; x_fault = YES; x_take = YES
    :: INC.y_count > 0 && FIRST.i_value == WANTED ->
        world.w_received = FIRST.i_lag;
        world.w_intact = (FIRST.i_sound && (HEAD != RECEIVE_STATE || world.w_intact));
        x_take = YES;
        if :: HEAD == RECEIVE_INITIAL -> ME.s_half = YES :: else -> x_drop = YES; x_perform = YES fi
    :: else
    fi
}

inline saves() {
    world.w_released = OLDER(world.w_released);
    world.w_stored = OLDER(world.w_stored);
    world.w_loaded = OLDER(world.w_loaded);
    world.w_received = OLDER(world.w_received);
    world.w_sealed = OLDER(world.w_sealed);
    x_i = 0;
    do
    :: x_i < OUT.y_count ->
        if
        :: HAS_STATE(OUT.y_item[x_i].i_value) -> OUT.y_item[x_i].i_lag = OLDER(OUT.y_item[x_i].i_lag)
        :: else
        fi;
        x_i++
    :: else -> break
    od;
    if :: RELEASE_EARLY -> releases() :: else fi;
    x_complete = YES
}

inline stores() {
    if
    :: ME.s_half -> x_complete = YES
    :: else ->
        ME.s_half = YES;
        if
        :: world.w_received != NEVER ->
            world.w_stored = world.w_received; world.w_loadable = world.w_intact; forgets()
        :: else
        fi
    fi
}

inline loads() {
    if
    :: ME.s_half && !world.w_loadable -> x_on = GUEST_FAILED; x_fault = YES
    :: ME.s_half && world.w_loadable -> ME.s_torn = NO; world.w_loaded = world.w_stored; x_complete = YES
    :: !ME.s_half && world.w_loaded == world.w_stored && !ME.s_torn -> x_complete = YES
    :: else -> ME.s_half = YES; ME.s_torn = YES; world.w_loaded = NEVER
    fi
}

inline claims() {
    if
    :: !ARBITER || CLAIM_SKIPPED || (!world.w_arbiter_up && CACHED_CLAIM) -> x_on = WON; x_drop = YES
    :: ARBITER && !CLAIM_SKIPPED && world.w_arbiter_up ->
        if :: world.w_winner == 0 -> world.w_winner = x_me + 1 :: else fi;
        x_on = (world.w_winner == x_me + 1 -> WON : LOST);
        x_drop = YES
    :: else
    fi
}

inline goes_on() {
    if
    :: IDLE -> reads()
    :: ON_WIRE -> receives()
    :: HEAD == RECEIVE_INITIAL && PATCH && !ME.s_half -> ME.s_half = YES; world.w_received = 0
    :: HEAD == RECEIVE_INITIAL && ME.s_half ->
        if
        :: world.w_intact ->
            world.w_stored = world.w_received; world.w_loaded = world.w_received;
            world.w_loadable = YES; world.w_received = NEVER;
            x_complete = YES
        :: else -> x_on = GUEST_FAILED; x_fault = YES
        fi
    :: HEAD == STORE -> stores()
    :: HEAD == LOAD -> loads()
    :: HEAD == CLAIM -> claims()
    :: HEAD == SAVE -> saves()
    :: HEAD == SEND_INITIAL -> sends(INITIAL); x_complete = YES
    :: HEAD == SEND_LIVE -> sends(LIVE_STATE); x_complete = YES
    :: HEAD == SUSPEND -> suspends(); x_complete = YES
    :: else
    fi
}

inline dies(seen) {
    empties_way(INC, (seen == CLOSED -> GONE : SILENT));
    if :: OUT.y_end == OPEN -> OUT.y_end = seen :: else fi;
    alone_no_more();
    speaks(NO);
    if :: HYBRID && x_me == SEC -> world.w_svm = LEFT_VCPU :: else fi;
    does_nothing_more();
    ME.s_half = NO; ME.s_connected = NO; ME.s_running = NO; ME.s_output = NO_OUTPUT; ME.s_torn = NO;
    ME.s_state = DEAD
}

#define MAY_HAVE_SENT (HANDSHAKE(ME.s_state) -> !(IDLE && MAY_BEGIN) : ME.s_state == INIT && x_me == PRI)

inline acts() {
    if
    :: x_what == GOES_ON -> goes_on()
    :: x_what == FINDS_DAMAGE && ON_WIRE && INC.y_count > 0 && FIRST.i_value == WANTED && !FIRST.i_sound ->
        x_on = INVALID; x_fault = YES; x_take = YES
    :: x_what == BEGINS && IDLE && MAY_BEGIN -> x_on = BEGIN_CHECKPOINT
    :: x_what == NOTICES && INC.y_end == SILENT && INC.y_count == 0 && WAITS_FOR_PEER ->
        x_on = (TIMED -> TIMEOUT : FAILOVER_REQUEST); x_fault = YES
    :: x_what == CANNOT_SEND && (OUT.y_end == CLOSED || OUT.y_end == GONE) && ME.s_connected &&
       MAY_HAVE_SENT -> x_on = SEND_FAILED; x_fault = YES
    :: x_what == LOSES_ANSWER && HEAD == CLAIM && ARBITER && !CLAIM_SKIPPED && world.w_arbiter_up &&
       world.w_winner == 0 -> world.w_winner = x_me + 1
    :: x_what == FINDS_NO_WAY_BACK && (HEAD == SEND_INITIAL || (IDLE && ME.s_state == INIT)) ->
        x_on = NO_RETURN_PATH; x_fault = YES
    :: x_what == IS_TOLD -> x_on = FAILOVER_REQUEST; x_fault = YES
    :: x_what == GIVES_UP && WAITS_FOR_PEER -> x_on = TIMEOUT; x_fault = YES
    :: x_what == HOOK_FAILS && (IDLE || (HEAD == RECEIVE_INITIAL && ME.s_half) || HEAD == SAVE ||
       HEAD == STORE || HEAD == LOAD) -> x_on = GUEST_FAILED; x_fault = YES
    :: x_what == LEAVES && (IDLE || HEAD == CLAIM || RECEIVING) && LEAVING_FROM(ME.s_state) != DEAD ->
        if :: MAY_LEAVE -> x_on = BEGIN_LEAVE :: else -> BROKEN(P_ORDERLY) fi
    :: x_what == DIES -> dies(CLOSED)
    :: x_what == DIES_UNSEEN -> dies(SILENT)
    :: else
    fi
}
"""
