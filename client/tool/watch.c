#include "watch.h"

#include <limits.h>
#include <signal.h>

static const struct {
    const char *name;
    int death_signal;
} losses[] = {
    [ON_LOSS_WARN] = { "warn", 0 },
    [ON_LOSS_TERM] = { "term", SIGTERM },
    [ON_LOSS_KILL] = { "kill", SIGKILL },
};

bool on_loss_parse(const char *text, enum on_loss *out)
{
    for (size_t i = 0; i < ARRAY_SIZE(losses); i++) {
        if (strcmp(text, losses[i].name) == 0) {
            *out = (enum on_loss)i;
            return true;
        }
    }
    return false;
}

int on_loss_signal(enum on_loss on_loss)
{
    must((size_t)on_loss < ARRAY_SIZE(losses));
    return losses[on_loss].death_signal;
}

void watch_init(struct watch *watch, enum on_loss on_loss, int64_t kill_after_ms)
{
    *watch = (struct watch){ .on_loss = on_loss, .kill_after_ms = kill_after_ms };
}

/* The seat is gone for good. */
static enum watch_action give_up(struct watch *watch, struct boot now)
{
    switch (watch->on_loss) {
    case ON_LOSS_WARN:
        watch->state = WATCH_UNLICENSED;
        return WATCH_WARN;
    case ON_LOSS_TERM:
        watch->state = WATCH_ENDING;
        watch->until.ms = now.ms + watch->kill_after_ms;
        return WATCH_TERM;
    case ON_LOSS_KILL:
        break;
    }
    watch->state = WATCH_KILLED;
    return WATCH_KILL;
}

enum watch_action watch_lost(struct watch *watch, struct boot now, bool from_outside)
{
    if (watch->state != WATCH_LICENSED && !(watch->state == WATCH_REPLACING && from_outside))
        return WATCH_NOTHING;
    if (from_outside)
        return give_up(watch, now);
    watch->state = WATCH_REPLACING;
    watch->until.ms = now.ms + WATCH_REPLACE_MS;
    return WATCH_NOTHING;
}

enum watch_action watch_acquired(struct watch *watch)
{
    if (watch->state != WATCH_REPLACING && watch->state != WATCH_UNLICENSED)
        return WATCH_NOTHING;
    watch->state = WATCH_LICENSED;
    return WATCH_RESUME;
}

enum watch_action watch_tick(struct watch *watch, struct boot now)
{
    if (watch->state == WATCH_REPLACING && now.ms >= watch->until.ms)
        return give_up(watch, now);
    if (watch->state == WATCH_ENDING && now.ms >= watch->until.ms) {
        watch->state = WATCH_KILLED;
        return WATCH_KILL;
    }
    return WATCH_NOTHING;
}

int watch_wait_ms(const struct watch *watch, struct boot now)
{
    int64_t left_ms = watch->until.ms - now.ms;

    if (watch->state != WATCH_REPLACING && watch->state != WATCH_ENDING)
        return -1;
    if (left_ms <= 0)
        return 0;
    return left_ms < INT_MAX ? (int)left_ms : INT_MAX;
}

bool watch_has_ended(const struct watch *watch)
{
    return watch->state == WATCH_ENDING || watch->state == WATCH_KILLED;
}
