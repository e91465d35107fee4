"""Promela text: what effects do to the world (`effects.py`), written a second time, for one side, `x_me`."""

EFFECTS = r"""
/* ---- effects (effects.py) ------------------------------------------------------------------- */

#define SLOW(e) (e == SEND_INITIAL || e == SAVE || e == SEND_LIVE || e == RECEIVE_INITIAL || \
    e == RECEIVE_LIVE || e == RECEIVE_STATE || e == STORE || e == LOAD || e == CLAIM || SOMEWHERE(e))

/* What a side sends after it has hung up, or to nobody, is gone; a full wire makes the whole step wait. */
inline sends(what) {
    if
    :: !ME.s_connected || OUT.y_end != OPEN -> skip
    :: else ->
        if
        :: OUT.y_count >= ROOM -> x_full = YES
        :: else ->
            fills(OUT, what)
        fi
    fi
}

inline vcpu(what) {
    if
    :: HYBRID && x_me == SEC ->
        if
        :: world.w_svm == LEFT_VCPU || !ME.s_connected -> world.w_svm = LEFT_VCPU
        :: else -> world.w_svm = what
        fi
    :: else
    fi
}

/* What the Primary's guest says comes to the Secondary's gate. */
inline speaks(what) {
    if :: GATE && x_me == PRI -> world.w_heard = (what && ME.s_state != ALONE) :: else fi
}

inline alone_no_more() {
    if :: world.w_alone[x_me] == NOW_ALONE -> world.w_alone[x_me] = WAS_ALONE :: else fi
}

inline suspends() {
    if :: world.w_comparing && ME.s_running && ME.s_connected -> BROKEN(P_COMPARING) :: else fi;
    ME.s_running = NO;
    speaks(NO);
    alone_no_more();
    vcpu(STOPPED_VCPU)
}

inline resumes() {
    ME.s_running = YES;
    speaks(YES);
    if :: ME.s_output == NO_OUTPUT -> ME.s_output = HELD :: else fi;
    if
    :: x_me == SEC && (ME.s_torn || world.w_loaded != world.w_stored) -> BROKEN(P_WHOLE)
    :: else
    fi;
    if
    :: ME.s_state == ALONE ->
        if
        :: world.w_alone[1 - x_me] == NOW_ALONE -> BROKEN(P_NO_SPLIT)
        :: world.w_alone[1 - x_me] == WAS_ALONE -> BROKEN(P_NO_STALE)
        :: else
        fi;
        if
        :: x_me == SEC && (world.w_loaded == NEVER || world.w_loaded > world.w_released) ->
            BROKEN(P_TAKEOVER)
        :: else
        fi;
        world.w_alone[x_me] = NOW_ALONE
    :: else
    fi;
    vcpu(RUNS_VCPU)
}

/* The Secondary lets out what was there when the state began to come: all that came, if the guest ran. */
#define OUT_NOW (x_me == SEC -> world.w_sealed : 0)
#define UNCOVERED (OUT_NOW == NEVER || world.w_stored == NEVER || world.w_stored > OUT_NOW)

inline releases() {
    if
    :: UNCOVERED -> BROKEN(P_OUTPUT_COMMIT)
    :: !UNCOVERED && !world.w_loadable -> BROKEN(P_LOADABLE)
    :: else
    fi;
    if :: world.w_alone[SEC] != NOT_ALONE && world.w_loaded != 0 -> BROKEN(P_TAKEOVER) :: else fi;
    world.w_released = (OUT_NOW == NEVER -> 0 : OUT_NOW)
}

inline empties_way(way, how) {
    x_i = 0;
    do
    :: x_i < ROOM -> empties(way.y_item[x_i]); x_i++
    :: else -> break
    od;
    way.y_count = 0;
    way.y_end = how
}

inline forgets() { world.w_received = NEVER; world.w_intact = YES }

inline disconnects() {
    ME.s_connected = NO;
    empties_way(INC, GONE);
    if :: OUT.y_end == OPEN -> OUT.y_end = CLOSED :: else fi;
    if :: x_me == SEC && world.w_stored != NEVER -> forgets() :: else fi;
    vcpu(LEFT_VCPU)
}

inline at_once(e) {
    if
    :: e >= SEND -> sends(e - SEND)
    :: e == SUSPEND -> suspends()
    :: e == RESUME -> resumes()
    :: e == SEND_STATE -> sends(STATE)
    :: e == RELEASE -> releases()
    :: e == RELEASE_ALL ->
        if :: !(ME.s_running && ME.s_state == ALONE) -> BROKEN(P_CLAIMED) :: else fi;
        ME.s_output = THROUGH
    :: e == COMPARE ->
        if :: !(ME.s_running && world.w_svm != STOPPED_VCPU) -> BROKEN(P_COMPARING) :: else fi;
        world.w_comparing = YES
    :: e == STOP_COMPARING -> world.w_comparing = NO
    :: e == DISCONNECT -> disconnects()
    :: e == DISCARD ->
        if :: ME.s_running || !OVER(ME.s_state) -> BROKEN(P_ORDERLY) :: else fi;
        if :: ME.s_output == HELD -> ME.s_output = DROPPED :: else fi;
        if :: x_me == SEC -> forgets() :: else fi
    fi
}

inline drops_head() {
    x_i = 0;
    do
    :: x_i < TODO - 1 -> ME.s_todo[x_i] = ME.s_todo[x_i + 1]; x_i++
    :: else -> break
    od;
    ME.s_todo[TODO - 1] = NOTHING
}

/* An effect that takes time begins. */
inline begins() {
    if
    :: GATE && x_head == (PATCH -> STORE : RECEIVE_LIVE) -> world.w_sealed = (world.w_heard -> NEVER : 0)
    :: else
    fi;
    if :: (x_head == SAVE || x_head == LOAD) && ME.s_running -> BROKEN(P_SUSPENDED) :: else fi;
    x_i = 1;
    do
    :: x_i < TODO ->
        if :: ME.s_todo[x_i] >= SEND -> BROKEN(P_SYNC_POINTS) :: else fi;
        x_i++
    :: else -> break
    od;
    if
    :: ME.s_connected && !HANDSHAKE(ME.s_state) && ME.s_state != INIT && ME.s_state != FINISHING ->
        BROKEN(P_HUNG_UP)
    :: else
    fi;
    if
    :: x_head == CLAIM && (ME.s_state != FAILOVER || ME.s_running || ME.s_torn ||
        (x_me == PRI -> ME.s_output == NO_OUTPUT : world.w_stored == NEVER || !world.w_loadable)) ->
        BROKEN(P_FIT_CLAIM)
    :: else
    fi
}

/* What is to do is done, in order, up to an effect that takes time or waits for something. */
inline performs() {
    do
    :: IDLE || x_full -> break
    :: else ->
        x_head = HEAD;
        if :: SLOW(x_head) -> begins(); break :: else fi;
        drops_head();
        at_once(x_head)
    od;
    x_i = 0; x_n = NO;      /* x_n: whether it is still to suspend its guest */
    do
    :: x_i < TODO -> if :: ME.s_todo[x_i] == SUSPEND -> x_n = YES :: else fi; x_i++
    :: else -> break
    od;
    if
    :: ME.s_running && ME.s_state != ALONE && !(ME.s_connected && HANDSHAKE(ME.s_state)) && !x_n ->
        BROKEN(P_CLAIMED)
    :: else
    fi;
    if :: x_me == PRI && world.w_comparing && !HANDSHAKE(ME.s_state) -> BROKEN(P_COMPARING) :: else fi;
    if
    :: OVER(ME.s_state) && IDLE &&
       (ME.s_running || ME.s_connected || ME.s_output == HELD ||
        (x_me == SEC && world.w_received != NEVER)) ->
        BROKEN(P_ORDERLY)
    :: else
    fi
}
"""
