"""Promela text: the world of `world.py`, what the surroundings do to it, and how it must look at rest.

All of it is the same for every scenario; what differs is a constant that stands above it in the export.
"""

DECLARATIONS = r"""
/* ---- one moment of the whole system (world.py) -------------------------------------------------

A lag numbers a checkpoint from the Primary's newest save: 0 is that one, NEVER none. What is not used
(slots of an array behind its end, all of a side that is dead) is 0, so that equal moments are equal bytes. */

#define NEVER 9

#define PRI 0
#define SEC 1
#define FORWARD 0
#define BACK 1

#define NO 0
#define YES 1

/* output */
#define NO_OUTPUT 0
#define HELD 1
#define THROUGH 2
#define DROPPED 3
/* how a direction ends */
#define OPEN 0
#define CLOSED 1
#define SILENT 2
#define GONE 3
/* whether a side runs without the other */
#define NOT_ALONE 0
#define NOW_ALONE 1
#define WAS_ALONE 2
/* the Secondary's guest, as comparing sees it */
#define STOPPED_VCPU 0
#define RUNS_VCPU 1
#define LEFT_VCPU 2

typedef Side_t { byte s_state; byte s_todo[TODO]; byte s_half; byte s_connected; byte s_running;
                 byte s_output; byte s_torn };
typedef Item_t { byte i_value; byte i_lag; byte i_sound };
typedef Way_t { byte y_count; byte y_end; Item_t y_item[ROOM] };
typedef World_t {
    Side_t w_side[2];
    Way_t w_way[2];         /* the one that a side writes to */
    byte w_released; byte w_stored; byte w_loadable; byte w_loaded; byte w_received; byte w_intact;
    byte w_winner;          /* 0: nobody; else the side + 1 */
    byte w_arbiter_up;
    byte w_alone[2];
    byte w_comparing; byte w_svm; byte w_heard; byte w_sealed; byte w_budget
};

World_t world;
byte event, item, value;    /* what happens next, and to what; 0 in every moment that is stored */
#ifdef LIVE
byte quiet;                 /* whether only MUST steps have led here */
byte stalls;                /* whether the step was a MUST step that completes no round */
#endif

/* Only used while a step is worked out, so no part of a moment. */
hidden byte x_me, x_what, x_try, x_last, x_i, x_n, x_at;
hidden byte x_on, x_head, x_to, x_row[ROW];
hidden byte x_take, x_drop, x_complete, x_fault, x_follow, x_goes_on, x_perform, x_full;
hidden byte x_round, x_moves, x_changed;
hidden int x_wrong;

#define ME world.w_side[x_me]
#define OUT world.w_way[x_me]
#define INC world.w_way[1 - x_me]
#define FIRST INC.y_item[0]
#define HEAD ME.s_todo[0]
#define IDLE (HEAD == NOTHING)
#define HANDSHAKE(s) (s >= READY && s <= LOADED)
#define OVER(s) (s == STOPPED || s == ENDED)
#define HAS_STATE(v) (PATCH -> v == VMSTATE_SEND : v > INVALID)
#define OLDER(lag) (lag == NEVER -> NEVER : (lag >= FAR -> FAR : lag + 1))
#define BROKEN(p) x_wrong = x_wrong | (1 << p)

c_code {
    static struct World_t cx_before;
    static int cx_said, cx_rounds;

    static void cx_report(int wrong)
    {
        int i;
        wrong &= ~cx_said;
        cx_said |= wrong;
        for (i = 0; cx_names[i]; i++)
            if (wrong & (1 << i))
                printf("BROKEN %s\n", cx_names[i]);
    }

    static void cx_dump(void)
    {
        const unsigned char *at = (const unsigned char *) &now.world;
        size_t i;
        printf("STATE ");
        for (i = 0; i < sizeof(now.world); i++)
            printf("%02x", at[i]);
        printf("\n");
    }

    static void cx_round(void)
    {
        if (!cx_rounds++)
            printf("ROUND completed\n");
    }
};
"""

SURROUNDINGS = r"""
/* ---- what the link and the arbiter do (surroundings.py) ----------------------------------------
x_me is the direction here. A disturbance is counted; bytes lost behind a break are not. */

#define WAY world.w_way[x_me]
#define ITEM WAY.y_item[item]
#define NEXT WAY.y_item[item + 1]

inline closes(way) {
    if :: world.w_way[way].y_end == OPEN -> world.w_way[way].y_end = CLOSED :: else fi
}

inline hushes(way) {
    if :: world.w_way[way].y_end <= CLOSED -> world.w_way[way].y_end = SILENT :: else fi
}

inline fills(way, what) {   /* one more on the wire */
    way.y_item[way.y_count].i_value = what;
    way.y_item[way.y_count].i_lag = 0;
    way.y_item[way.y_count].i_sound = YES;
    way.y_count++
}

inline copies(there, here) {
    there.i_value = here.i_value; there.i_lag = here.i_lag; there.i_sound = here.i_sound
}

inline empties(there) {
    there.i_value = 0; there.i_lag = 0; there.i_sound = 0
}

inline disturbs() {
    if
    :: x_what == CORRUPTS && item < WAY.y_count && ITEM.i_value <= INVALID && ITEM.i_value != value ->
        ITEM.i_value = value;
        world.w_budget--
    :: x_what == DAMAGES && item < WAY.y_count && HAS_STATE(ITEM.i_value) && ITEM.i_sound ->
        ITEM.i_sound = NO;
        world.w_budget--
    :: x_what == REORDERS && item + 1 < WAY.y_count && (ITEM.i_value != NEXT.i_value ||
       ITEM.i_lag != NEXT.i_lag || ITEM.i_sound != NEXT.i_sound) ->
        x_n = ITEM.i_value; ITEM.i_value = NEXT.i_value; NEXT.i_value = x_n;
        x_n = ITEM.i_lag; ITEM.i_lag = NEXT.i_lag; NEXT.i_lag = x_n;
        x_n = ITEM.i_sound; ITEM.i_sound = NEXT.i_sound; NEXT.i_sound = x_n;
        world.w_budget--
    :: x_what == DOUBLES && item < WAY.y_count && WAY.y_count < ROOM ->
        x_i = WAY.y_count;
        do
        :: x_i > item -> copies(WAY.y_item[x_i], WAY.y_item[x_i - 1]); x_i--
        :: else -> break
        od;
        WAY.y_count++;
        world.w_budget--
    :: x_what == FORGES && WAY.y_count < ROOM && WAY.y_end == OPEN ->
        fills(WAY, value);
        world.w_budget--
    :: else
    fi
}

inline surrounds() {
    if
    :: x_what == CUTS -> closes(FORWARD); closes(BACK)
    :: x_what == HUSHES && (world.w_way[FORWARD].y_end == OPEN || world.w_way[BACK].y_end == OPEN ||
                            world.w_way[FORWARD].y_end == CLOSED || world.w_way[BACK].y_end == CLOSED) ->
        hushes(FORWARD); hushes(BACK)
    :: x_what == SHUTS_ARBITER -> world.w_arbiter_up = NO
    :: x_what == LOSES_TAIL && WAY.y_count > 0 && (WAY.y_end == CLOSED || WAY.y_end == SILENT) ->
        WAY.y_count--;
        empties(WAY.y_item[WAY.y_count])
    :: x_what >= CORRUPTS && world.w_budget > 0 -> disturbs()
    :: else
    fi
}
"""

REST = r"""
/* ---- where nothing more happens by itself (rest.py) ----------------------------------------- */

#define ALIVE(side) (world.w_side[side].s_state != DEAD)
#define DENIED (ARBITER && !world.w_arbiter_up)
#define SETTLED(side) (world.w_side[side].s_state == ALONE || OVER(world.w_side[side].s_state) || \
    (world.w_side[side].s_state == FAILOVER && world.w_side[side].s_todo[0] == CLAIM && DENIED))
#define WAITS(side) (ALIVE(side) && !SETTLED(side))
#define SERVES(side) (world.w_side[side].s_running && world.w_side[side].s_output == THROUGH)
#define IS_WHOLE (ALIVE(PRI) && ALIVE(SEC) && world.w_way[FORWARD].y_end == OPEN && \
    world.w_way[BACK].y_end == OPEN)
#define HEALTHY(side) (HANDSHAKE(world.w_side[side].s_state) || world.w_side[side].s_state == INIT)

inline rests() {
    if
    :: (WAITS(PRI) || WAITS(SEC)) && IS_WHOLE -> BROKEN(P_NO_DEADLOCK)
    :: (WAITS(PRI) || WAITS(SEC)) && !IS_WHOLE -> BROKEN(P_SETTLES)
    :: else
    fi;
    if
    :: (world.w_side[PRI].s_state == ALONE && !SERVES(PRI)) ||
       (world.w_side[SEC].s_state == ALONE && !SERVES(SEC)) -> BROKEN(P_SETTLES)
    :: else
    fi
}
"""
