/*
 * Exactly once, as a model for Spin 6 (spinroot.com): one job, two dispatchers, their keepers and wardens, the control
 * directories of the job's attempts, and one database. Spin visits every state that the model can come to and checks
 * the promises of docs/architecture.md in each of them. test_exactly_once.py runs it; by hand it goes like this:
 *
 *   spin -a -DINCIDENTS=4 exactly_once.pml && gcc -O1 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan
 *   spin -t -p -g -DINCIDENTS=4 exactly_once.pml    (after an error: the story that leads to it)
 *
 * THE PROMISES (-DONLY=name checks one alone)
 *   started_at_most_once    Per attempt the command is started at most once.
 *   one_process_at_a_time   A job never has two running processes.
 *   outcome_is_true         What is written about an attempt is what it did: its real exit code; `released` only if it
 *                           never ran and never will; `lost` only if its keeper and its warden died, nothing runs and
 *                           there is no exit record. Nothing starts for an attempt whose end is written.
 *   next_only_after_end     A new attempt is claimed only when every earlier one has ended or never will run.
 *   owner_alone_writes      Only the dispatcher that an attempt's row names writes about it.
 *   what_never_ran_costs_nothing  No job fails by an attempt whose command was never started.
 *   every_run_ends          Where nothing can happen any more, the job has ended.
 * Spin looks for deadlocks too, and (-DNP) for cycles. There is none: no step can be repeated for ever. So every run
 * comes to its end without any assumption about fairness, and by every_run_ends the job has ended there.
 *
 * WHAT MAY HAPPEN
 * Every statement and every `atomic` is one step; between two steps anybody else may take theirs. A step is as much as
 * one transaction, one system call, one message or one look of the code, so a death between two steps stands for a kill
 * at any instruction in between. Being late costs nothing: an order may wait in a keeper's socket, and a report in a
 * dispatcher, while everything else goes on. What is out of the ordinary is an incident, and a run has at most
 * INCIDENTS of them, of any kinds and at any moments:
 *   - a dispatcher dies; it comes back under a new id and remembers nothing;
 *   - a keeper dies; its warden dies;
 *   - a dispatcher is taken for dead and its attempt adopted, although it was only slow and goes on;
 *   - the answer to a COMMIT is lost; that of a claim may even be decided later;
 *   - an order is carried out twice, by a second keeper of the same dispatcher, or because two dispatchers launch;
 *   - no keeper can be had; the disk is full before the gate is passed; no process can be had after it;
 *   - the user cancels; the command fails; the command leaves processes behind.
 *
 * WHERE THE STEPS ARE IN THE CODE (below jobmgr/)
 *   Dispatcher
 *     end_idle             dispatch/dispatcher.py:_claim; store/claims.py:claim; dispatch/recovery.py:look_after_others,
 *                          reconcile; store/ownership.py:adopt, of_dispatcher
 *     reclaim              store/ownership.py:reclaim
 *     launch               executors/local.py:launch, _hand_over, _give_back
 *     with_keeper          executors/local.py:_on_message, _on_lost, cancel; dispatch/dispatcher.py:_obey_when_wished
 *     look                 executors/evidence.py:look; executors/pursuit.py:follow, settled; executors/local.py:recover
 *     void                 executors/pursuit.py:_void; executors/gate.py:void
 *     ask_keeper           executors/pursuit.py:_attach, _ask; executors/keeper.py:_attach
 *     ask_warden           executors/pursuit.py:_attach, _ask; executors/warden.py:_attach
 *     ask_table, watch     executors/pursuit.py:_watch; executors/evidence.py:running_processes
 *     settle               executors/pursuit.py:_lost; executors/gate.py:settle_exit
 *     finish               dispatch/completer.py:_write_ends; store/attempts.py:finish
 *     write_end            domain/outcome.py:decide, never_ran; executors/local.py:_finish
 *     WRITE_START          dispatch/completer.py:_write_each; store/attempts.py:start
 *     holds_row            store/fence.py:fenced
 *   Keeper                 executors/keeper.py:_start, _pass_and_spawn, _not_started; executors/gate.py:pass_gate
 *     become_the_command   executors/command.py:start
 *     HOLD                 executors/hold.py:advance; executors/gate.py:note, publish
 *     warden_takes_over    executors/warden.py:_collect_keepers, _take_over, _has_passed, _hold_or_close, _find_leader
 *   User                   store/jobs.py:cancel
 *   World                  no code of ours: the commands, and a database that makes up its mind about a late COMMIT
 *
 * WHAT IS LEFT OUT, AND WHY
 *   Boots, hosts, pid namespaces: what they show is a proof of death as well, or "unreachable", which decides nothing.
 *   Tokens: an attempt's index is its token. So no directory is another attempt's, as after a restored backup.
 *   Connections: a newer service takes a keeper's connection from an older one; that changes neither disk nor database.
 *   Records that cannot be written although their space was taken, and control directories that a job destroys.
 *   Walltimes, which are failures to everything here, and pauses, which neither start nor end anything.
 *   A second attempt in one dispatcher's hands: two dispatchers and late orders give every overlap of two attempts.
 *   A warden that dies before its keeper: until then nobody needs it, so dying later is the same.
 *   Time: how long nothing is claimed after a shortage (dispatch/admission.py:short_of), how long a keeper waits for a
 *     service (15 s for its first one, 2 s after its command), how long a warden without descriptors waits to take over
 *     what a keeper left. Here anything may come late anyway. A keeper that ends so holds nothing.
 *   A warden that cannot tell, because a command has put its keeper's mark away: the attempt is lost though it lives.
 *   More attempts: a job whose ATTEMPTS attempts are spent on releases stays in its queue, and that is a proper end.
 *
 * WHERE THE MODEL ASKS FOR MORE THAN THE CODE DOES. The code adopts from dispatchers that are proven dead only, it
 * launches an attempt once, and it can tell the time. Here it is otherwise, so these rules are needed. A switch takes
 * each away:
 *   RECLAIM_BY_TOKEN       A dispatcher that takes up its own rows again does not ask whether they still are its own.
 *   LOOK_IN_DOUBT          It looks for own rows that it does not know once after a doubtful claim, not again and
 *                          again. A claim that is committed after that look is nobody's. The code looks at each beat
 *                          on PostgreSQL; on SQLite once, because there a COMMIT is decided when its answer fails.
 *   EXEC_LATE              Between fork and exec a child does not show its token, so the proof of death misses it when
 *                          keeper and warden die there. The code waits 0.2 s and looks again; here is no clock.
 * There is no switch for this one: on a full disk no gate can be voided either. The code then tells that the attempt
 * did not run although its gate is absent, because nobody else is sent the order; here somebody may be.
 *
 * SWITCHES THAT TAKE AWAY WHAT THE PROMISES REST ON; the test shows for each which promise it breaks:
 *   NO_GATE                A keeper starts what it is told to; what does not run and has no record is held for not run.
 *   GATE_WITHOUT_CONTENT   The answer of `link` decides, which may be lost, and not what then is in the gate. EEXIST is
 *                          taken for `mine` (=MINE), or for somebody else's (=NOT_MINE).
 *   TRUST_NOT_STARTED      A keeper says that the attempt was not started, whatever voiding the gate has answered. The
 *                          gate is decided first: void, or else its holder is looked for.
 *   NEVER_STARTED_IS_A_FAILURE  A command that could not become one, because its keeper died or the system had no
 *                          process, ends its job.
 *   NO_MARK                A warden cannot tell whose child it is that a keeper had no time to note, and lets it go.
 *   NO_VOID                Recovery finds no gate and takes that for a promise that there never will be one.
 *   NO_LEASE               The fence compares the token only. It is the one rule that no truth depends on: whoever
 *                          writes an end, writes what was proven. But then a row has two masters.
 *   NO_INTENT              The order is sent before the claim is committed.
 *   ABSENT_MEANS_DONE      An attempt that nobody holds and that does not run counts as completed.
 *   ONE_LOOK               It counts as lost without a second look for its record.
 */

#ifndef ATTEMPTS
#define ATTEMPTS 2
#endif
#ifndef INCIDENTS
#define INCIDENTS 3
#endif

/* Each promise has a number, so that it can be named with -D. */
#define started_at_most_once 1
#define one_process_at_a_time 2
#define outcome_is_true 3
#define next_only_after_end 4
#define owner_alone_writes 5
#define every_run_ends 6
#define what_never_ran_costs_nothing 7

#ifdef ONLY
#define PROMISE(name, holds) assert(ONLY != name || (holds))
#else
#define PROMISE(name, holds) assert(holds)
#endif

/* Steps worth knowing that they happen: the test asks Spin's list of unreached statements for their names. */
#define SEE(name) printf(#name)
#define SEE_IF(name, when) \
    if \
    :: when -> SEE(name) \
    :: else \
    fi

byte incidents = INCIDENTS;
#define INCIDENT incidents > 0 -> incidents--

/* The database: the job's row, and the row of its live attempt. A transaction is one atomic step. */

#define QUEUED 0
#define CLAIMED 1
#define RUNNING 2
#define COMPLETED 3
#define FAILED 4
#define CANCELLED 5

#define NOBODY 0
#define ID(d) (1 + (d))
#define GONE 3 /* a dispatcher that died */

byte job = QUEUED;
bool wish;            /* to cancel */
byte claimed;         /* how many attempts there were; each index is given once */
byte current;         /* the live attempt, its owner and its lease */
byte owner = NOBODY;
byte lease;
byte limbo = NOBODY;  /* whose claim is neither committed nor rolled back yet; it keeps the job's row locked */

#define is_live (job == CLAIMED || job == RUNNING)

/* The control directory of each attempt. */

#define UNDECIDED 0
#define VOID 1
#define RUN_BY(k) (2 + ((k) & 1))
#define HOLDER(n) (2 * (n) + gate[n] - 2)

/* Of a command, of an exit record, and of a report: */
#define NONE 0
#define RUNS 1
#define STARTING 2 /* between fork and exec, only with EXEC_LATE */
#define EXIT_0 3
#define EXIT_1 4
#define KILLED 5 /* on the user's wish */
#define NEVER_STARTED 6 /* the gate was passed, but its keeper died before the start, or no process could be had */
#define RELEASED 7
#define LOST 8

byte gate[ATTEMPTS];
byte record[ATTEMPTS];

/*
 * Launch orders with the keeper, the warden and the command of each: 2n and 2n+1 are those of attempt n.
 * A keeper notes its steps in memory that it shares with its warden (executors/note.py), and what it starts bears its
 * mark (executors/process.py). Here the warden reads the state itself.
 */

#if ATTEMPTS < 2 || ATTEMPTS > 3
#error "The model is written for 2 or 3 attempts."
#endif
#define LAUNCHES (2 * ATTEMPTS)
#define ATTEMPT(k) ((k) >> 1)

#define IDLE 0
#define ORDERED 1 /* the order is in the keeper's socket */
#define BUSY 2
#define DONE 3 /* it refused, or the record is linked */
byte keeper[LAUNCHES];
bool keeper_dead[LAUNCHES];

#define HOLDS 1
#define LETS_GO 2
byte warden[LAUNCHES];
bool warden_dead[LAUNCHES];

bool cancel[LAUNCHES];  /* the holder was told to end the command */
byte command[LAUNCHES];
bool rest[LAUNCHES];    /* processes that outlive the leader */
bool noted[LAUNCHES];   /* the leader's end is on disk, not linked yet */

byte started[ATTEMPTS];

#define has_ended(k) (command[k] == EXIT_0 || command[k] == EXIT_1 || command[k] == KILLED)
#define runs(k) (command[k] == RUNS || rest[k])
#define runs_of(n) (runs(2 * (n)) || runs(2 * (n) + 1))
#if ATTEMPTS == 2
#define processes (runs(0) + runs(1) + runs(2) + runs(3))
#else
#define processes (runs(0) + runs(1) + runs(2) + runs(3) + runs(4) + runs(5))
#endif

/* Has ended, or never will run. */
#define is_settled(n) \
    (gate[n] == VOID || (gate[n] != UNDECIDED && !runs_of(n) \
        && (has_ended(HOLDER(n)) || record[n] == NEVER_STARTED \
            || (command[HOLDER(n)] == NONE && keeper_dead[HOLDER(n)]))))

inline void_gate(n) {
    if
    :: gate[n] == UNDECIDED -> gate[n] = VOID
    :: else
    fi
}

inline link_record(n, what) {
    if
    :: record[n] == NONE -> record[n] = what
    :: else
    fi
}

inline become_the_command(k) {
    started[ATTEMPT(k)]++;
    PROMISE(started_at_most_once, started[ATTEMPT(k)] == 1);
    PROMISE(one_process_at_a_time, processes == 0);
    PROMISE(outcome_is_true, is_live && current == ATTEMPT(k));
    command[k] = RUNS
}

/* Keepers and wardens */

#define MAY_PASS(k) gate[ATTEMPT(k)] == UNDECIDED -> gate[ATTEMPT(k)] = RUN_BY(k)

#define KEEPER_DIES :: atomic { INCIDENT; keeper_dead[k] = true; goto warden_takes_over }
#define WARDEN_DIES :: atomic { INCIDENT; warden_dead[k] = true; goto end_idle }

/* Who holds a command waits for its end, or ends it when told to; waits for what it left; and links the record. */
#define HOLD \
    :: atomic { command[k] == RUNS && cancel[k] -> command[k] = KILLED } \
    :: atomic { rest[k] && !noted[k] -> noted[k] = true } \
    :: atomic { has_ended(k) && !rest[k] -> \
            link_record(ATTEMPT(k), command[k]); keeper[k] = DONE; warden[k] = LETS_GO; goto end_idle }

proctype Keeper(byte k) {
end_idle: /* And again when the launch is over; then nothing more comes. */
    if
    :: atomic { keeper[k] == ORDERED && !keeper_dead[k] -> keeper[k] = BUSY }
    :: atomic { keeper[k] == ORDERED && !keeper_dead[k] && INCIDENT; keeper_dead[k] = true; goto warden_takes_over }
    fi;
    if
    KEEPER_DIES
    /* The disk is full. The gate is voided if nobody has passed it, and who has sent the order looks at it. */
    :: atomic { INCIDENT; void_gate(ATTEMPT(k)); keeper[k] = DONE; goto end_idle }
#if defined(NO_GATE)
    :: skip
#elif !defined(GATE_WITHOUT_CONTENT)
    /* link and read back: what is read cannot change any more, so the two are one step, and the answer has no say. */
    :: atomic {
        if
        :: MAY_PASS(k)
        :: else ->
            SEE_IF(late_order_is_refused, !(is_live && current == ATTEMPT(k)));
            SEE_IF(second_order_is_refused_while_the_first_runs, runs_of(ATTEMPT(k)));
            keeper[k] = DONE; goto end_idle
        fi }
#else
#define MINE 1
#define NOT_MINE 2
    :: atomic {
        if
        :: MAY_PASS(k)
#if GATE_WITHOUT_CONTENT == NOT_MINE
        :: gate[ATTEMPT(k)] == UNDECIDED && INCIDENT; gate[ATTEMPT(k)] = RUN_BY(k); keeper[k] = DONE; goto end_idle
        :: gate[ATTEMPT(k)] != UNDECIDED -> keeper[k] = DONE; goto end_idle
#else
        :: gate[ATTEMPT(k)] != UNDECIDED
#endif
        fi }
#endif
    fi;
    if
    KEEPER_DIES
    /* The system has no process left. */
    :: atomic { INCIDENT; link_record(ATTEMPT(k), NEVER_STARTED); keeper[k] = DONE; goto end_idle }
#ifdef EXEC_LATE
    :: command[k] = STARTING
#else
    :: atomic { become_the_command(k) }
#endif
    fi;
    do
    KEEPER_DIES
    HOLD
    od;

warden_takes_over:
    if
    WARDEN_DIES
    :: atomic { keeper[k] == ORDERED -> warden[k] = LETS_GO; goto end_idle }
    :: atomic { keeper[k] == BUSY -> void_gate(ATTEMPT(k));
        if
        :: gate[ATTEMPT(k)] != RUN_BY(k) -> warden[k] = LETS_GO; goto end_idle
        :: gate[ATTEMPT(k)] == RUN_BY(k) && command[k] == NONE ->
            link_record(ATTEMPT(k), NEVER_STARTED); warden[k] = LETS_GO; goto end_idle
        :: gate[ATTEMPT(k)] == RUN_BY(k) && command[k] != NONE -> warden[k] = HOLDS
#ifdef NO_MARK
        :: gate[ATTEMPT(k)] == RUN_BY(k) && command[k] != NONE -> warden[k] = LETS_GO; goto end_idle
#endif
        fi }
    fi;
    do
    WARDEN_DIES
    HOLD
    od
}

/* Dispatchers */

#ifdef NO_LEASE
#define holds_row (is_live && current == n)
#else
#define holds_row (is_live && current == n && lease == mine)
#endif
#define sees_wish (wish && is_live && current == n && owner == ID(d))

inline check_earlier_attempts() {
    PROMISE(next_only_after_end, claimed < 1 || is_settled(0));
    PROMISE(next_only_after_end, claimed < 2 || is_settled(1))
}

inline claim(n, who) {
    check_earlier_attempts();
    current = n; job = CLAIMED; owner = who; lease = 1
}

#ifdef LOOK_IN_DOUBT
#define BE_IN_DOUBT doubt = true
#define NO_DOUBT doubt = false
#else
#define BE_IN_DOUBT skip
#define NO_DOUBT skip
#endif

/* The answer of this transaction may be lost: then the row is ours, and not in our memory. */
#define ANSWERED(next) \
    if \
    :: goto next \
    :: INCIDENT; BE_IN_DOUBT; forget() \
    fi

inline check_end() {
    if
    :: found == EXIT_0 || found == EXIT_1 || found == KILLED ->
        PROMISE(outcome_is_true, started[n] == 1 && !runs_of(n)
            && (command[2 * n] == found || command[2 * n + 1] == found))
    :: found == NEVER_STARTED || found == RELEASED ->
        PROMISE(outcome_is_true, started[n] == 0 && is_settled(n))
    :: found == LOST ->
        PROMISE(outcome_is_true, keeper_dead[h] && warden_dead[h] && !runs_of(n) && record[n] == NONE)
    fi;
    SEE_IF(attempt_after_a_lost_one_completes,
        n == 1 && found == EXIT_0 && gate[0] != VOID && record[0] == NONE)
}

#ifdef NEVER_STARTED_IS_A_FAILURE
#define never_ran(end) ((end) == RELEASED)
#else
#define never_ran(end) ((end) == RELEASED || (end) == NEVER_STARTED)
#endif

inline write_end() {
    if
    :: found == EXIT_0 -> job = COMPLETED
    :: found == KILLED -> job = CANCELLED
    :: never_ran(found) -> job = (wish -> CANCELLED : QUEUED)
    :: else -> job = (!wish && claimed < ATTEMPTS -> QUEUED : FAILED)
    fi;
    PROMISE(what_never_ran_costs_nothing, job != FAILED || started[n] > 0 || found == LOST);
    current = 0; owner = NOBODY; lease = 0
}

inline forget() {
    n = 0; mine = 0; h = 0; found = 0; again = false;
    goto end_idle
}

/* It comes back under a new id, so what it owned is a dead dispatcher's. */
inline die() {
    if
    :: owner == ID(d) -> owner = GONE
    :: else
    fi;
    NO_DOUBT;
    forget()
}

#define DIES :: atomic { INCIDENT; die() }

/* A start that the fence refuses, or that is written already, changes nothing, so only the others are steps. */
#define WRITE_START(next) \
    :: atomic { job == CLAIMED && holds_row && command[h] == RUNS -> \
            PROMISE(owner_alone_writes, owner == ID(d)); job = RUNNING; goto next }

proctype Dispatcher(byte d) {
    byte n;     /* the attempt in memory */
    byte mine;  /* its lease, as far as this dispatcher knows */
    byte h;     /* the launch whose holder it talks to */
    byte found; /* its report, which is to be written */
    bool again; /* nobody held the attempt at the last look */
#ifdef LOOK_IN_DOUBT
    bool doubt;
#endif

end_idle:
    if
    /* The two are alike, so the first claim of all may be dispatcher 0's without loss. */
    :: atomic { job == QUEUED && limbo == NOBODY && claimed < ATTEMPTS && (d == 0 || claimed > 0) ->
        n = claimed;
#ifdef NO_INTENT
        claimed++; keeper[2 * n] = ORDERED; goto claim_afterwards }
#else
        if
        :: claim(n, ID(d)); claimed++; mine = 1; goto launch
        :: INCIDENT; limbo = ID(d); BE_IN_DOUBT; forget()
        fi }
#endif
#ifdef LOOK_IN_DOUBT
    :: atomic { doubt -> doubt = false;
        if
        :: is_live && owner == ID(d) -> n = current; goto reclaim
        :: else -> forget()
        fi }
#else
    :: atomic { is_live && owner == ID(d) -> n = current; goto reclaim }
#endif
    :: atomic { is_live && owner == GONE ->
        n = current; owner = ID(d); lease++; mine = lease; ANSWERED(look) }
    :: atomic { is_live && owner != ID(d) && owner != GONE && INCIDENT;
        n = current; owner = ID(d); lease++; mine = lease; ANSWERED(look) }
    /* With nothing in memory it dies unnoticed, unless a row is its own or may become so. */
    :: atomic { owner == ID(d) && INCIDENT; owner = GONE; NO_DOUBT; goto end_idle }
    :: atomic { limbo == ID(d) && INCIDENT; limbo = GONE; NO_DOUBT; goto end_idle }
    fi;

reclaim:
    if
    DIES
    :: atomic {
        if
#ifdef RECLAIM_BY_TOKEN
        :: is_live && current == n ->
#else
        :: is_live && current == n && owner == ID(d) ->
#endif
            lease++; mine = lease; ANSWERED(look)
        :: else -> forget()
        fi }
    fi;

#ifdef NO_INTENT
claim_afterwards:
    if
    DIES
    :: atomic {
        if
        :: job == QUEUED -> claim(n, ID(d)); mine = 1; h = 2 * n; goto with_keeper
        :: job == QUEUED && INCIDENT; forget() /* rolled back */
        :: job != QUEUED -> forget()
        fi }
    fi;
#endif

launch:
    if
    DIES
    :: atomic { keeper[2 * n] = ORDERED; h = 2 * n; goto with_keeper }
    :: atomic { keeper[2 * n + 1] == IDLE && INCIDENT;
        keeper[2 * n] = ORDERED; keeper[2 * n + 1] = ORDERED; h = 2 * n; goto with_keeper }
    :: atomic { INCIDENT; goto void } /* no keeper can be had */
    fi;

with_keeper: /* Its order is sent, or it has said that it holds the attempt. */
    if
    DIES
    :: atomic { keeper_dead[h] || keeper[h] == DONE || record[n] != NONE -> goto look }
#ifdef TRUST_NOT_STARTED
    :: atomic { keeper[h] == DONE && command[h] == NONE -> found = RELEASED; goto finish }
#endif
    :: atomic { sees_wish && !cancel[h] -> void_gate(n);
        if
        :: gate[n] == RUN_BY(h) -> cancel[h] = true; goto with_keeper
        :: else -> goto look
        fi }
    WRITE_START(with_keeper)
    fi;

look:
    if
    DIES
    :: atomic {
        if
        :: record[n] != NONE ->
            SEE_IF(record_appears_between_two_looks, again);
            SEE_IF(true_outcome_after_a_keeper_died, record[n] == EXIT_0 && keeper_dead[HOLDER(n)]);
            found = record[n]; goto finish
#ifdef NO_GATE
        :: record[n] == NONE && command[2 * n] != NONE -> h = 2 * n; goto ask_keeper
        :: record[n] == NONE && command[2 * n] == NONE && command[2 * n + 1] != NONE -> h = 2 * n + 1; goto ask_keeper
        :: else -> found = RELEASED; goto finish
#else
        :: record[n] == NONE && gate[n] == UNDECIDED -> goto void
        /* No service launches what it adopted, but if one did: */
        :: record[n] == NONE && gate[n] == UNDECIDED && keeper[2 * n + 1] == IDLE && INCIDENT;
            keeper[2 * n + 1] = ORDERED; h = 2 * n + 1; goto with_keeper
        :: record[n] == NONE && gate[n] == VOID -> found = RELEASED; goto finish
        :: record[n] == NONE && gate[n] >= RUN_BY(0) -> h = HOLDER(n); goto ask_keeper
#endif
        fi }
    fi;

void:
    if
    DIES
#if defined(NO_VOID)
    :: atomic { found = RELEASED; goto finish }
#elif defined(GATE_WITHOUT_CONTENT) && GATE_WITHOUT_CONTENT == MINE
    :: atomic { void_gate(n); found = RELEASED; goto finish }
#else
    :: atomic { void_gate(n); goto look }
#endif
    fi;

ask_keeper: /* A keeper answers between its steps only, so one that is BUSY beyond its gate holds the attempt. */
    if
    DIES
    :: atomic { !keeper_dead[h] && keeper[h] == BUSY -> again = false; goto with_keeper }
    :: atomic { keeper_dead[h] || keeper[h] != BUSY -> goto ask_warden }
    fi;

ask_warden: /* It takes over what its dead keepers left before it answers. */
    if
    DIES
    :: atomic { keeper_dead[h] && !warden_dead[h] && warden[h] == HOLDS -> again = false; goto with_warden }
    :: atomic { !keeper_dead[h] || warden_dead[h] || warden[h] == LETS_GO -> goto ask_table }
    fi;

with_warden:
    if
    DIES
    :: atomic { warden_dead[h] || record[n] != NONE -> goto look }
    :: atomic { sees_wish && !cancel[h] -> cancel[h] = true; goto with_warden }
    WRITE_START(with_warden)
    fi;

ask_table: /* of processes */
    if
    DIES
    :: atomic { runs_of(n) -> again = false; goto watch }
    :: atomic { !runs_of(n) ->
#if defined(ABSENT_MEANS_DONE)
        found = EXIT_0; goto finish }
#elif defined(ONE_LOOK)
        found = LOST; goto finish }
#else
        if
        :: again -> goto settle
        :: else -> again = true; goto look
        fi }
#endif
    fi;

watch:
    if
    DIES
    :: atomic { !runs_of(n) -> goto look }
    :: atomic { sees_wish && command[h] == RUNS ->
        SEE(cancel_meets_a_command_without_holder);
        command[h] = KILLED; goto watch }
    WRITE_START(watch)
    fi;

settle:
    if
    DIES
    :: atomic {
        if
        :: noted[h] ->
            SEE_IF(true_outcome_from_a_dead_holders_note, command[h] == EXIT_0 && record[n] == NONE);
            link_record(n, command[h])
        :: else
        fi;
        if
        :: record[n] != NONE -> found = record[n]
        :: else -> found = LOST
        fi;
        goto finish }
    fi;

finish: /* Until it is known to be written, or refused. */
    if
    DIES
    :: atomic {
        if
        :: holds_row ->
            PROMISE(owner_alone_writes, owner == ID(d));
            check_end(); write_end();
            if
            :: forget()
            :: INCIDENT; goto finish
            fi
        :: else ->
            SEE_IF(stale_end_is_refused, is_live && current == n);
            SEE_IF(stale_end_is_refused_while_the_next_attempt_runs, current > n && runs_of(current));
            forget()
        fi }
    fi;
}

/* The others */

#define COMMAND(k) \
    :: atomic { command[k] == RUNS -> \
        if \
        :: command[k] = EXIT_0 \
        :: INCIDENT; command[k] = EXIT_1 \
        :: INCIDENT; command[k] = EXIT_0; rest[k] = true \
        fi } \
    :: atomic { rest[k] -> rest[k] = false } \
    EXEC(k)
#ifdef EXEC_LATE
#define EXEC(k) :: atomic { command[k] == STARTING -> become_the_command(k) }
#else
#define EXEC(k)
#endif

proctype World() {
end:
    do
    COMMAND(0)
    COMMAND(1)
    COMMAND(2)
    COMMAND(3)
#if ATTEMPTS > 2
    COMMAND(4)
    COMMAND(5)
#endif
    :: atomic { limbo != NOBODY ->
        SEE_IF(claim_of_a_dead_dispatcher_commits, limbo == GONE);
        claim(claimed, limbo); claimed++; limbo = NOBODY }
    :: atomic { limbo != NOBODY -> limbo = NOBODY }
    od
}

proctype User() {
end:
    atomic {
        job < COMPLETED && limbo == NOBODY && INCIDENT;
        if
        :: job == QUEUED -> job = CANCELLED
        :: else -> wish = true
        fi
    }
}

/* Spin calls it a timeout when nobody can take a step. */
proctype Finale() {
end:
    timeout -> PROMISE(every_run_ends, job >= COMPLETED || (job == QUEUED && claimed == ATTEMPTS))
}

init {
    atomic {
        run Keeper(0); run Keeper(1); run Keeper(2); run Keeper(3);
#if ATTEMPTS > 2
        run Keeper(4); run Keeper(5);
#endif
        run Dispatcher(0); run Dispatcher(1); run World(); run User(); run Finale()
    }
}
