/* The seat rules R2 to R10 for two nodes and one scope, to be searched exhaustively by spin.
 *
 * Nodes and clients do whatever the rules allow, in any order; the wire loses, repeats, delays and
 * reorders. Two things are asserted in every state:
 *   I1  an observer who knows only what clients were told counts no more seats in rightful use than
 *       there are (CLAIMED);
 *   I4  from here, the schedule of heal() makes every seat grantable.
 * README.md says what is left out, and why. tests/model/run sets the macros below. */

#ifndef LEASES
#define LEASES   3  /* references ever drawn; at most 4 */
#endif
#ifndef SEATS
#define SEATS    1
#endif
#ifndef HORIZON
#define HORIZON  5  /* the clocks stop here */
#endif
#ifndef LONGEST
#define LONGEST  2  /* the length of every lease */
#endif
#ifndef SKEW
#define SKEW     99 /* the clocks differ by at most so much; only R10 relies on a bound */
#endif
#ifndef MOVES
#define MOVES    0  /* seats that each node moves to the other */
#endif
#ifndef STALE
#define STALE    0  /* bit i: a page of node i may be on its way while later ones arrive */
#endif
#ifndef HOMES
#define HOMES    4  /* bit l: the home of lease l is B */
#endif
#ifndef LATE
#define LATE     SKEW /* a node retired while it lives decides until its clock is so far beyond */
#endif

#define A       0
#define B       1
#define NOBODY  2
#define UNKNOWN 0
#define ACTIVE  1
#define ENDED   2

#define HOME(l)   (((HOMES) >> (l)) & 1)
#define AT(me, l) ((me) * LEASES + (l))

/* What node `me` knows, all of it durable. */
byte clock[2];
byte st[2 * LEASES];      /* UNKNOWN, ACTIVE, ENDED */
byte ex[2 * LEASES];      /* expires */
byte en[2 * LEASES];      /* the `expires` known when it ended */
byte nr[2 * LEASES];      /* the number of the record's last change here; 0: none was made here */
bit  back[2 * LEASES];    /* its seat is free again (R6); true only where it was paid for */
bit  shared[LEASES];      /* at its home; the other node never knows a private one */
bit  late[LEASES];        /* granted by the heir after the retirement */
byte given[2];            /* seats moved to the peer, ever */
byte taken[2];            /* seats moved here, as far as known */
byte given_nr[2];         /* the number of the last change of the credits */
byte cursor[2];           /* over the peer's changes */
byte mark[2];             /* W: how far on the peer's clock all is known */
byte seen[2];             /* how many of our changes the peer had merged, by its own word */
bit  minted[2];           /* R2: the entitlement is installed here */
bit  heard[2];            /*     and so it is at the peer */
byte mint_nr[2];
bit  closed[2];           /* drained: it decides nothing any more */
bit  peer_closed[2];
byte heir = NOBODY;       /* the node that retired the other one */
byte retired_at;
bit  drained;

/* The observer: what clients were told, and the tokens that they keep. */
byte told[LEASES];        /* the latest `expires` in any token */
byte first[LEASES];       /* the one in the first token, which a client keeps too */
bit  alone[LEASES];       /* the latest token says adopt:false */
byte by[LEASES];          /* 0: it ends when every clock has passed `told`; else this node's + 1 */
bit  first_alone[LEASES];
bit  in_use[LEASES];      /* told of a lease and not of its end */
bit  drawn[LEASES];       /* a client draws a reference once */
bit  over;                /* healed, and judged */

typedef page {
    byte phase;           /* 0 none, 1 W and seen are fixed, 2 the rows are read */
    byte since, upto;
    bit  whole;           /* it completes the sender's changes */
    byte w, seen;
    byte st[LEASES], ex[LEASES], en[LEASES];
    bit  credits, minted, closed;
    byte given;
};
page wire[2];             /* by sender: a page on its way; it may arrive often, late, or never */
hidden page fresh;        /* one that arrives as soon as it was read */
hidden byte k, x, y, n, stage;
hidden int used;

/* Sums over the leases. */
#if LEASES == 2
#define SUM(f) (f(0) + f(1))
#define EACH(step) :: step(0) :: step(1)
#elif LEASES == 3
#define SUM(f) (f(0) + f(1) + f(2))
#define EACH(step) :: step(0) :: step(1) :: step(2)
#else
#define SUM(f) (f(0) + f(1) + f(2) + f(3))
#define EACH(step) :: step(0) :: step(1) :: step(2) :: step(3)
#endif

/* ---- I1, the observer ---- */

#define USABLE(l) (in_use[l] && ((by[l] != B + 1 && clock[A] < told[l]) || \
                                 (by[l] != A + 1 && clock[B] < told[l])))
#ifdef DOUBLE /* leases 0 and 1 are one reference that was asked for at both nodes: one use */
#define CLAIM(l) ((l) == 0 -> (USABLE(0) || USABLE(1)) : ((l) == 1 -> 0 : USABLE(l)))
#else
#define CLAIM(l) USABLE(l)
#endif
#define CLAIMED SUM(CLAIM)

/* ---- R10 ---- */

#ifdef BREAK_RETIRE_NO_WAIT
#define WAITED(me) (1)
#elif defined(BREAK_RETIRE_NO_SKEW)
#define WAITED(me) (drained || clock[me] >= retired_at + LONGEST)
#else
#define WAITED(me) (drained || clock[me] >= retired_at + LONGEST + 2 * SKEW)
#endif
/* The retired node may live, and decide, until its clock is LATE beyond the retirement; told
 * (it is refused), it stops at any moment before: that is one of its schedules. */
#define STOPPED(me) (heir == 1 - (me) && clock[me] > retired_at + (LATE))
#ifdef BREAK_CLOSED_RENEWS
#define LIVES(me)   (!over && !STOPPED(me))
#else
#define LIVES(me)   (!over && !STOPPED(me) && !closed[me])
#endif
#define GRANTS(me)  (LIVES(me) && !closed[me])

/* ---- R2 ---- */

#ifdef MINT
#ifdef BREAK_MINT_BOTH
#define STANDS(me) (minted[me])
#else
#define STANDS(me) (minted[me] && !(heard[me] && (me) == B))
#endif
#ifdef BREAK_MINT_UNSEEN
#define MINTED(me) (STANDS(me) -> SEATS : 0)
#else
#define MINTED(me) (STANDS(me) && seen[me] >= mint_nr[me] -> SEATS : 0)
#endif
#else
#ifdef SPLIT /* rebalanced before the story begins */
#define MINTED(me) (1)
#else
#define MINTED(me) ((me) == A -> SEATS : 0)
#endif
#endif
#define CREDITS(me) (MINTED(me) + taken[me] - given[me])

#define PAYS(me, l) (HOME(l) == (me) || heir == (me))
#define HOLDS(me, l) (PAYS(me, l) && (st[AT(me, l)] == ACTIVE || \
                                      (st[AT(me, l)] == ENDED && !back[AT(me, l)])))
#define A_HOLDS(l) HOLDS(A, l)
#define B_HOLDS(l) HOLDS(B, l)
#define OWN_A(l)   (HOME(l) == A && HOLDS(A, l))
#define OWN_B(l)   (HOME(l) == B && HOLDS(B, l))
#define ALL_HELD(me) ((me) == A -> SUM(A_HOLDS) : SUM(B_HOLDS))
#define OWN_HELD(me) ((me) == A -> SUM(OWN_A) : SUM(OWN_B))
/* An heir has all credits after the wait, and until then those that it had. */
#ifdef BREAK_INHERITS_NOTHING
#define FREE(me) (CREDITS(me) - OWN_HELD(me))
#else
#define FREE(me) (heir == (me) && WAITED(me) -> SEATS - ALL_HELD(me) : CREDITS(me) - OWN_HELD(me))
#endif

/* ---- R7 and R6 ---- */

/* A drained node's leases were told in its own time: its clock may be behind. */
#ifdef AS_WRITTEN_DRAIN
#define GONE_PASSED(me, l) WAITED(me)
#else
#define GONE_PASSED(me, l) (drained -> clock[me] >= ex[AT(me, l)] + SKEW : WAITED(me))
#endif
#ifdef BREAK_EXPIRY_NO_MARK
#define PEER_PASSED(me, l) (1)
#else
#define PEER_PASSED(me, l) \
    (heir == (me) -> (late[l] || GONE_PASSED(me, l)) : mark[me] >= ex[AT(me, l)])
#endif
#define PRIVATE(me, l) (HOME(l) == (me) && !shared[l])
#define EXPIRED(me, l) (clock[me] >= ex[AT(me, l)] && (PRIVATE(me, l) || PEER_PASSED(me, l)))

#ifdef BREAK_BACK_UNACKNOWLEDGED
#define ACKNOWLEDGED(me, l) (1)
#else
#define ACKNOWLEDGED(me, l) (seen[me] >= nr[AT(me, l)] || \
                             (heir == (me) && (late[l] || WAITED(me))))
#endif
#ifdef BREAK_BACK_ALTHOUGH_GROWN
#define GREW(me, l) (0)
#else
#define GREW(me, l) (ex[AT(me, l)] > en[AT(me, l)])
#endif
#ifdef AT_EXPIRY
#define SEAT_BACK(me, l) EXPIRED(me, l)
#else
#define SEAT_BACK(me, l) (PRIVATE(me, l) || EXPIRED(me, l) || \
                          (ACKNOWLEDGED(me, l) && !GREW(me, l)))
#endif

/* ---- R4 ---- */

#ifdef BREAK_GRACE
#define IN_TIME(me, l) (clock[me] < ex[AT(me, l)] + 2)
#else
#define IN_TIME(me, l) (clock[me] < ex[AT(me, l)])
#endif
#ifdef BREAK_ADOPT_PRIVATE
#define ADOPTS(me, l, exp, private) (HOME(l) != (me) && clock[me] < (exp))
#else
#define ADOPTS(me, l, exp, private) (HOME(l) != (me) && clock[me] < (exp) && !(private))
#endif

/* ---- R5 ---- */

#ifdef BREAK_PURGE_NO_MARK
#define MAY_PURGE(me, l) (clock[me] >= ex[AT(me, l)] && seen[me] >= nr[AT(me, l)])
#elif defined(BREAK_PURGE_AT_ONCE)
#define MAY_PURGE(me, l) (seen[me] >= nr[AT(me, l)])
#else
#define MAY_PURGE(me, l) (clock[me] >= ex[AT(me, l)] && mark[me] >= ex[AT(me, l)] && \
                          seen[me] >= nr[AT(me, l)])
#endif

inline at_least(variable, value) {
    if :: variable < (value) -> variable = value :: else fi
}

/* The next change number of `me`: above all that are remembered anywhere. */
inline next_nr(me, result) {
    n = given_nr[me];
    at_least(n, cursor[1 - me]);
    at_least(n, seen[me]);
    at_least(n, wire[me].upto);
    k = 0;
    do
    :: k < LEASES -> at_least(n, nr[AT(me, k)]); k++
    :: else -> break
    od;
    result = n + 1
}

inline changed(me, l) {
#ifdef BREAK_ROW_STAYS /* a row that changes again keeps its place in the order */
    if :: nr[AT(me, l)] == 0 -> next_nr(me, nr[AT(me, l)]) :: else fi
#else
    next_nr(me, nr[AT(me, l)])
#endif
}

/* Change numbers matter by their order alone: close the gaps, so that equal states look equal. */
#define BIT(v) (1 << (v))
inline lower(variable) {
    if :: variable > x -> variable-- :: else fi
}

inline renumber(me) {
    used = 1 | BIT(given_nr[me]) | BIT(mint_nr[me]) | BIT(cursor[1 - me]) | BIT(seen[me]) |
           BIT(wire[me].since) | BIT(wire[me].upto) | BIT(wire[1 - me].seen);
    k = 0;
    do
    :: k < LEASES -> used = used | BIT(nr[AT(me, k)]); k++
    :: else -> break
    od;
    do
    :: used & (used + 1) ->
        x = 1; /* the lowest number that nothing has */
        do
        :: used & BIT(x) -> x++
        :: else -> break
        od;
        used = ((used >> (x + 1)) << x) | (BIT(x) - 1);
        lower(given_nr[me]); lower(mint_nr[me]); lower(cursor[1 - me]); lower(seen[me]);
        lower(wire[me].since); lower(wire[me].upto); lower(wire[1 - me].seen);
        k = 0;
        do
        :: k < LEASES -> lower(nr[AT(me, k)]); k++
        :: else -> break
        od
    :: else -> break
    od
}

/* R6, R9: what a node does at once whenever it can. */
inline settle(me) {
    k = 0;
    do
    :: k < LEASES ->
        if
        :: st[AT(me, k)] == ENDED && !back[AT(me, k)] && PAYS(me, k) && SEAT_BACK(me, k) ->
            back[AT(me, k)] = 1
        :: else
        fi;
        k++
    :: else -> break
    od
}

/* Traces: printf does nothing while spin searches. */
#define NAME(me) ('A' + me)
inline show_node(me) {
    printf("    %c: clock %d W %d seen %d cursor %d free %d;", NAME(me), clock[me], mark[me],
           seen[me], cursor[me], FREE(me));
    k = 0;
    do
    :: k < LEASES && st[AT(me, k)] == UNKNOWN -> printf(" -"); k++
    :: k < LEASES && st[AT(me, k)] != UNKNOWN ->
        printf(" %c%d/%d", (st[AT(me, k)] == ACTIVE -> 'a' : (back[AT(me, k)] -> 'b' : 'e')),
               ex[AT(me, k)], en[AT(me, k)]);
        k++
    :: else -> break
    od;
    printf("\n")
}
inline show_all() {
#ifdef TRACE
    printf("\n");
    show_node(A); show_node(B);
    printf("    clients hold %d:", CLAIMED);
    k = 0;
    do
    :: k < LEASES && !in_use[k] -> printf(" -"); k++
    :: k < LEASES && in_use[k] -> printf(" %d", told[k]); k++
    :: else -> break
    od;
    printf("\n");
#endif
    x = 0; y = 0; n = 0; k = 0
}

/* The end of every step: what follows from it at once, and I1. */
inline then_check() {
    settle(A); settle(B);
    renumber(A); renumber(B);
    k = 0;
    do
    :: k < LEASES -> /* tokens that nobody can use any more are forgotten */
        if
        :: !USABLE(k) -> in_use[k] = 0
        :: else
        fi;
        if
        :: clock[A] > told[k] && clock[B] > told[k] ->
            told[k] = 0; by[k] = 0; first[k] = 0; alone[k] = 0; first_alone[k] = 0
        :: else
        fi;
        k++
    :: else -> break
    od;
    show_all();
    assert(CLAIMED <= SEATS) /* I1 */
}

/* ---- clients and operators ---- */

/* A renewal that leaves `expires` as it was promises nothing that the client had not been told
 * before: it does not bring a released or revoked lease back into use. README.md: the finding. */
inline tell(me, l) {
#ifdef AS_WRITTEN_EMPTY_RENEWAL
    in_use[l] = 1;
#else
    in_use[l] = in_use[l] || ex[AT(me, l)] > told[l];
#endif
    if
    :: ex[AT(me, l)] > told[l] ->
        told[l] = ex[AT(me, l)];
        alone[l] = PRIVATE(me, l);
        by[l] = (PRIVATE(me, l) || heir == me -> me + 1 : 0) /* a gone partner has no clock */
    :: ex[AT(me, l)] == told[l] && !PRIVATE(me, l) ->
        alone[l] = 0;
        if :: heir == NOBODY -> by[l] = 0 :: else fi
    :: else
    fi;
#ifdef OLD_TOKENS
    if
    :: first[l] == 0 -> first[l] = told[l]; first_alone[l] = alone[l]
    :: else
    fi
#endif
}

#define TOLD      0
#define UNTOLD    1 /* committed, and the answer was lost */
#define FORGOTTEN 2 /* answered, and the commit was lost */

/* References of one home are alike: drawing them in order loses nothing. */
#define IN_ORDER(l) ((l) == 0 || HOME(l) != HOME((l) - 1) || drawn[((l) + LEASES - 1) % LEASES])
/* Nobody fetches an heir's changes any more: R3 makes its leases private. */
#ifdef AS_WRITTEN_HEIR_SHARES
#define HEIR_GRANTS_ALONE(me) (0)
#else
#define HEIR_GRANTS_ALONE(me) (heir == (me))
#endif
inline grant_as(me, l, private, outcome) { /* R3; outcome R13 */
    d_step {
        GRANTS(me) && HOME(l) == me && !drawn[l] && IN_ORDER(l) && FREE(me) > 0 ->
        printf("%c grants lease %d (private %d, outcome %d)", NAME(me), l, private, outcome);
        drawn[l] = 1;
        st[AT(me, l)] = ACTIVE;
        ex[AT(me, l)] = clock[me] + LONGEST;
        shared[l] = !(private || HEIR_GRANTS_ALONE(me));
        late[l] = heir == me;
        changed(me, l);
        if
        :: outcome != UNTOLD -> tell(me, l)
        :: else
        fi;
        if
        :: outcome == FORGOTTEN ->
            st[AT(me, l)] = UNKNOWN; ex[AT(me, l)] = 0; nr[AT(me, l)] = 0; shared[l] = 0;
            late[l] = 0
        :: else
        fi
    }
}
/* A token is merged first: it is knowledge (R4). */
inline merge_token(me, l, exp, private) {
    if
    :: st[AT(me, l)] == UNKNOWN && ADOPTS(me, l, exp, private) ->
        st[AT(me, l)] = ACTIVE; ex[AT(me, l)] = exp; en[AT(me, l)] = 0; back[AT(me, l)] = 0;
        changed(me, l)
#ifdef BREAK_TOKEN_REVIVES
    :: st[AT(me, l)] == ENDED && clock[me] < exp ->
        st[AT(me, l)] = ACTIVE; changed(me, l)
#endif
    :: st[AT(me, l)] == ACTIVE && ex[AT(me, l)] < exp ->
        ex[AT(me, l)] = exp; changed(me, l)
    :: else
    fi
}

inline renew_with(me, l, exp, private) { /* R4 */
    d_step {
        LIVES(me) && exp > 0 ->
        printf("%c is asked to renew lease %d, token until %d", NAME(me), l, exp);
        merge_token(me, l, exp, private);
        if
        :: st[AT(me, l)] == ACTIVE && IN_TIME(me, l) ->
            if
            :: ex[AT(me, l)] < clock[me] + LONGEST ->
                ex[AT(me, l)] = clock[me] + LONGEST; changed(me, l)
            :: else
            fi;
            tell(me, l)
        :: else
        fi
    }
}

#ifdef DOUBLE
#define LET_GO(l) if :: (l) < 2 -> in_use[0] = 0; in_use[1] = 0 :: else -> in_use[l] = 0 fi
#else
#define LET_GO(l) in_use[l] = 0
#endif

inline end_lease(me, l) {
    st[AT(me, l)] = ENDED;
    en[AT(me, l)] = ex[AT(me, l)];
    changed(me, l)
}

inline release_with(me, l, exp, private) { /* R5; the client stops using it, whatever is answered */
    d_step {
        LIVES(me) && exp > 0 ->
        printf("%c is asked to release lease %d, token until %d", NAME(me), l, exp);
        merge_token(me, l, exp, private);
        if
        :: st[AT(me, l)] == ACTIVE -> end_lease(me, l); LET_GO(l)
        :: else
        fi
    }
}

inline revoke_at(me, l) { /* R5 */
    d_step {
        LIVES(me) && st[AT(me, l)] == ACTIVE ->
        printf("%c revokes lease %d", NAME(me), l);
        end_lease(me, l);
#ifndef AT_EXPIRY /* the entitlement lets clients go on until then */
        LET_GO(l);
#endif
    }
}

inline expire_at(me, l) { /* R7 */
    d_step {
        LIVES(me) && st[AT(me, l)] == ACTIVE && PAYS(me, l) && EXPIRED(me, l) ->
        printf("%c finds lease %d expired", NAME(me), l);
        end_lease(me, l);
        back[AT(me, l)] = 1
    }
}

inline purge_at(me, l) { /* R5 */
    d_step {
        LIVES(me) && heir == NOBODY && st[AT(me, l)] == ENDED && MAY_PURGE(me, l) &&
        (back[AT(me, l)] || HOME(l) != me) ->
        printf("%c purges lease %d", NAME(me), l);
        st[AT(me, l)] = UNKNOWN; ex[AT(me, l)] = 0; en[AT(me, l)] = 0; nr[AT(me, l)] = 0;
        back[AT(me, l)] = 0
    }
}

inline move(me) { /* R2 */
    d_step {
#ifdef BREAK_MOVE_UNPAID
        GRANTS(me) && heir == NOBODY && given[me] < MOVES && CREDITS(me) > 0 ->
#else
        GRANTS(me) && heir == NOBODY && given[me] < MOVES && FREE(me) > 0 ->
#endif
        printf("%c moves a seat", NAME(me));
        given[me]++;
        next_nr(me, given_nr[me])
    }
}

inline mint(me) { /* R2: the entitlement is installed where it is not known yet */
    d_step {
        LIVES(me) && !minted[me] && !heard[me] ->
        printf("%c mints", NAME(me));
        minted[me] = 1;
        next_nr(me, mint_nr[me]);
        given_nr[me] = mint_nr[me]
    }
}

inline retire(me) { /* R10 */
    d_step {
        LIVES(me) && heir == NOBODY ->
        printf("%c retires the other node", NAME(me));
        heir = me;
        retired_at = clock[me];
        drained = peer_closed[me]
    }
}

inline drain(me) { /* R10: its free credits are moved first */
    d_step {
        LIVES(me) && heir == NOBODY && FREE(me) == 0 && !closed[1 - me] ->
        printf("%c is drained", NAME(me));
        closed[me] = 1
    }
}

inline tick(me) { /* R1 */
    d_step {
        !over && clock[me] < HORIZON && clock[me] < clock[1 - me] + SKEW ->
        printf("%c's clock ticks", NAME(me));
        clock[me]++
    }
}

/* ---- the wire, R8 and R9 ---- */

inline fix(p, me) {
    p.phase = 1;
    p.since = cursor[1 - me]; /* as the request says */
    p.w = (clock[me] > 0 -> clock[me] - 1 : 0); /* decisions to come may be stamped with now */
#ifdef BREAK_MARK_AHEAD
    p.w = clock[me] + 1;
#endif
    p.seen = cursor[me];
    p.closed = closed[me];
#ifdef BREAK_SEEN_FROM_REQUEST
    at_least(seen[me], p.since);
#endif
}

/* The rows newer than the cursor, oldest change first, at most `limit`. */
inline read(p, me, limit) {
    y = p.since; n = 0;
    do
    :: 1 ->
        x = 255; k = 0; /* the next number after y */
        do
        :: k < LEASES ->
            if :: nr[AT(me, k)] > y && nr[AT(me, k)] < x -> x = nr[AT(me, k)] :: else fi;
            k++
        :: else -> break
        od;
        if :: given_nr[me] > y && given_nr[me] < x -> x = given_nr[me] :: else fi;
        if
        :: x == 255 -> p.whole = 1; break
        :: x != 255 && n == limit -> p.whole = 0; break
        :: else -> y = x; n++
        fi
    od;
    p.phase = 2;
    p.upto = y;
    k = 0;
    do
    :: k < LEASES ->
        if
        :: nr[AT(me, k)] > p.since && nr[AT(me, k)] <= p.upto ->
            p.st[k] = st[AT(me, k)]; p.ex[k] = ex[AT(me, k)]; p.en[k] = en[AT(me, k)];
#ifndef BREAK_STAYS_PRIVATE
            if :: HOME(k) == me -> shared[k] = 1 :: else fi /* R3 */
#endif
        :: else -> p.st[k] = UNKNOWN; p.ex[k] = 0; p.en[k] = 0
        fi;
        k++
    :: else -> break
    od;
    p.credits = given_nr[me] > p.since && given_nr[me] <= p.upto;
    p.given = (p.credits -> given[me] : 0);
    p.minted = p.credits && minted[me];
#ifdef BREAK_LATE_MARK
    p.w = (clock[me] > 0 -> clock[me] - 1 : 0);
#endif
#ifdef BREAK_LATE_SEEN
    p.seen = cursor[me];
#endif
#ifndef BREAK_PARTIAL_STATES
    if :: !p.whole -> p.w = 0; p.seen = 0; p.closed = 0 :: else fi
#endif
}

inline merge_row(p, me) { /* R9; lease k */
    if
    :: p.st[k] == UNKNOWN
    :: p.st[k] != UNKNOWN && st[AT(me, k)] == UNKNOWN ->
        st[AT(me, k)] = p.st[k]; ex[AT(me, k)] = p.ex[k]; en[AT(me, k)] = p.en[k]
    :: else ->
        at_least(ex[AT(me, k)], p.ex[k]);
        if
        :: p.st[k] == ENDED && st[AT(me, k)] == ACTIVE ->
            st[AT(me, k)] = ENDED; en[AT(me, k)] = p.en[k]
        :: p.st[k] == ENDED && st[AT(me, k)] == ENDED -> at_least(en[AT(me, k)], p.en[k])
        :: else
        fi
    fi
}

#ifdef DOUBLE /* R9: lease 0 of home A and lease 1 of home B have one reference */
#define SHORTER (ex[AT(B, 0)] < ex[AT(B, 1)])
#ifdef AS_WRITTEN_SUPERSEDE
#define MAY_SUPERSEDE (1)
#else /* a lease that outlasts the other, and cannot be told so, is not ended */
#define MAY_SUPERSEDE (!SHORTER || IN_TIME(B, 0))
#endif
inline supersede(me) {
    if
    :: me == B && st[AT(B, 0)] == ACTIVE && st[AT(B, 1)] == ACTIVE && MAY_SUPERSEDE ->
#ifndef BREAK_SUPERSEDE_NO_EXTENSION
        if
        :: SHORTER && IN_TIME(B, 0) -> ex[AT(B, 0)] = ex[AT(B, 1)]; changed(B, 0)
        :: else
        fi;
#endif
        end_lease(B, 1)
    :: else
    fi
}
#else
inline supersede(me) { skip }
#endif

/* Rows, cursor, W and seen in one transaction; `me` receives. */
inline apply(p, me) {
    k = 0;
    do
    :: k < LEASES -> merge_row(p, me); k++
    :: else -> break
    od;
#ifdef BREAK_MOVED_TWICE /* as a difference, added whenever it arrives */
    if :: taken[me] < 2 * MOVES -> taken[me] = taken[me] + p.given :: else fi;
#else
    at_least(taken[me], p.given);
#endif
    heard[me] = heard[me] || p.minted;
    state(p, me);
    supersede(me)
}

inline state(p, me) {
    at_least(cursor[me], p.upto);
    at_least(mark[me], p.w);
    at_least(seen[me], p.seen);
    peer_closed[me] = peer_closed[me] || p.closed
}

#define HEARS(me) (!over && heir == NOBODY)

/* A page that is fixed, read and applied before anything else happens. */
inline exchange(me, limit) { /* from the other node to me */
    d_step {
        HEARS(me) ->
        printf("%c gets a page of at most %d rows", NAME(me), limit);
        fix(fresh, (1 - me)); read(fresh, (1 - me), limit); apply(fresh, me)
    }
}

/* One that takes its time, and may still be on its way when later ones have arrived. */
inline page_fixed(me) {
    d_step {
        HEARS(me) && (STALE & (1 << me)) && wire[me].phase != 1 ->
        printf("%c fixes W and seen of a page", NAME(me));
        fix(wire[me], me);
        wire[me].upto = 0; wire[me].whole = 0; wire[me].credits = 0; wire[me].given = 0;
        wire[me].minted = 0;
        k = 0;
        do
        :: k < LEASES ->
            wire[me].st[k] = UNKNOWN; wire[me].ex[k] = 0; wire[me].en[k] = 0; k++
        :: else -> break
        od;
        k = 0;
#if defined(BREAK_LATE_MARK) || defined(BREAK_LATE_SEEN)
        read(wire[me], me, LEASES + 1);
        wire[me].phase = 1;
#endif
    }
}
inline page_read(me, limit) {
    d_step {
        HEARS(me) && wire[me].phase == 1 ->
        printf("%c reads at most %d rows into the page", NAME(me), limit);
#ifdef BREAK_LATE_MARK
        wire[me].w = (clock[me] > 0 -> clock[me] - 1 : 0);
        wire[me].phase = 2;
#elif defined(BREAK_LATE_SEEN)
        wire[me].seen = cursor[me];
        wire[me].phase = 2;
#else
        read(wire[me], me, limit);
#endif
    }
}
inline page_arrives(me) { /* from the other node, and stays: it may arrive again */
    d_step {
        !over && heir != me && !STOPPED(me) && wire[1 - me].phase == 2 ->
        printf("%c gets the page on its way", NAME(me));
        apply(wire[1 - me], me)
    }
}
inline page_forgets(me) { /* cursor, W and seen are committed, the rows are lost */
    d_step {
        HEARS(me) ->
        printf("%c gets a page and loses its rows", NAME(me));
        fix(fresh, (1 - me)); read(fresh, (1 - me), LEASES + 1); state(fresh, me)
    }
}

/* ---- I4 ---- */

inline expire_all(me) {
    k = 0; x = 0;
    do
    :: x < LEASES ->
        if
        :: st[AT(me, x)] == ACTIVE && PAYS(me, x) && EXPIRED(me, x) ->
            end_lease(me, x); back[AT(me, x)] = 1
        :: else
        fi;
        x++
    :: else -> break
    od;
    settle(me)
}

inline round() {
    if
    :: heir == NOBODY ->
        fix(fresh, A); read(fresh, A, LEASES + 1); apply(fresh, B);
        fix(fresh, B); read(fresh, B, LEASES + 1); apply(fresh, A);
    :: else
    fi;
    expire_all(A); expire_all(B)
}

inline late_pages() {
    if :: heir != B && wire[A].phase == 2 -> apply(wire[A], B) :: else fi;
    if :: heir != A && wire[B].phase == 2 -> apply(wire[B], A) :: else fi
}

inline all_time_passes() {
    clock[A] = HORIZON + LONGEST + 1 + (heir != NOBODY -> SKEW : 0);
    clock[B] = clock[A];
    if
    :: heir != NOBODY -> at_least(clock[heir], retired_at + LONGEST + 2 * SKEW + 1)
    :: else
    fi
}

/* From any state: no faults and no clients any more. The nodes exchange pages, time passes, what
 * was still on its way arrives last of all; then every seat is free at a node that may grant it. */
inline heal() {
    d_step {
        !over ->
        printf("All is healed");
#ifdef MINT /* a customer who wants seats has installed the entitlement somewhere */
        if :: !minted[A] && !minted[B] -> minted[A] = 1; next_nr(A, mint_nr[A]);
              given_nr[A] = mint_nr[A] :: else fi;
#endif
        stage = 0;
        do
        :: stage < 5 ->
            if
            :: stage == 1 -> all_time_passes()
            :: stage == 3 -> late_pages()
            :: else
            fi;
            round();
            stage++
        :: else -> break
        od;
        stage = 0;
        if
        :: heir == NOBODY -> assert(FREE(A) + FREE(B) == SEATS) /* I4 */
        :: else -> assert(FREE(heir) == SEATS)
        fi;
        over = 1;
        forget()
    }
}

inline forget_page(p) {
    p.phase = 0; p.since = 0; p.upto = 0; p.whole = 0; p.w = 0; p.seen = 0; p.credits = 0;
    p.minted = 0; p.closed = 0; p.given = 0;
    x = 0;
    do
    :: x < LEASES -> p.st[x] = 0; p.ex[x] = 0; p.en[x] = 0; x++
    :: else -> break
    od
}

inline forget() { /* all healed states are one */
    forget_page(wire[A]); forget_page(wire[B]);
    k = 0;
    do
    :: k < 2 * LEASES -> st[k] = 0; ex[k] = 0; en[k] = 0; nr[k] = 0; back[k] = 0; k++
    :: else -> break
    od;
    k = 0;
    do
    :: k < LEASES ->
        shared[k] = 0; late[k] = 0; told[k] = 0; by[k] = 0; first[k] = 0; alone[k] = 0;
        first_alone[k] = 0; in_use[k] = 0; drawn[k] = 0; k++
    :: else -> break
    od;
    k = 0;
    do
    :: k < 2 ->
        clock[k] = 0; given[k] = 0; taken[k] = 0; given_nr[k] = 0; cursor[k] = 0; mark[k] = 0;
        seen[k] = 0; minted[k] = 0; heard[k] = 0; mint_nr[k] = 0; closed[k] = 0;
        peer_closed[k] = 0; k++
    :: else -> break
    od;
    heir = NOBODY; retired_at = 0; drained = 0; x = 0; y = 0; n = 0; k = 0
}

/* ---- who does what ---- */

#define GRANT(l)       grant_as(_pid, l, 0, TOLD)
#define GRANT_ALONE(l) grant_as(_pid, l, 1, TOLD)
#define GRANT_UNTOLD(l) grant_as(_pid, l, 0, UNTOLD)
#define GRANT_LOST(l)  grant_as(_pid, l, 0, FORGOTTEN)
#define RENEW(l)       renew_with(_pid, l, told[l], alone[l])
#define RENEW_OLD(l)   renew_with(_pid, l, first[l], first_alone[l])
#define RELEASE(l)     release_with(_pid, l, told[l], alone[l])
#define RELEASE_OLD(l) release_with(_pid, l, first[l], first_alone[l])
#define REVOKE(l)      revoke_at(_pid, l)
#define EXPIRE(l)      expire_at(_pid, l)
#define PURGE(l)       purge_at(_pid, l)

active [2] proctype node() {
end:
    do
    :: atomic {
    if
    :: tick(_pid)
    EACH(GRANT)
    EACH(RENEW)
#ifndef NO_RELEASE
    EACH(RELEASE)
#endif
    EACH(EXPIRE)
    :: exchange(_pid, LEASES + 1)
#ifdef PARTIAL
    :: exchange(_pid, 0)
    :: exchange(_pid, 1)
#endif
#if STALE
    :: page_fixed(_pid)
    :: page_read(_pid, LEASES + 1)
    :: page_arrives(_pid)
#endif
#ifdef WITH_REVOKE
    EACH(REVOKE)
#endif
#ifdef WITH_PRIVATE
    EACH(GRANT_ALONE)
#endif
#ifdef WITH_CRASH
    EACH(GRANT_UNTOLD)
#endif
#ifdef OLD_TOKENS
    EACH(RENEW_OLD)
    EACH(RELEASE_OLD)
#endif
#ifdef WITH_PURGE
    EACH(PURGE)
#endif
#if MOVES
    :: move(_pid)
#endif
#ifdef MINT
    :: mint(_pid)
#endif
#ifdef WITH_RETIRE
    :: retire(_pid)
#endif
#ifdef WITH_DRAIN
    :: drain(_pid)
#endif
#ifdef BREAK_SPEAK_FIRST
    EACH(GRANT_LOST)
#endif
#ifdef BREAK_APPLY_SPLIT
    :: page_forgets(_pid)
#endif
    fi;
    d_step { then_check() }
    }
    od
}

active proctype world() {
    heal()
}
