#include "progress.h"

#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "output.h"

#define COLUMNS 80 /* of a terminal that does not tell */

void progress_begin(struct progress *progress, const char *feature)
{
    *progress = (struct progress){
        .feature = feature,
        .to = stderr,
        .terminal = isatty(STDERR_FILENO),
    };
}

void progress_sentence(const char *feature, const struct twinlease_waiting *waiting,
                       char out[PROGRESS_TEXT_MAX])
{
    const struct twinlease_error *why = waiting->why;
    char when[WHEN_SIZE];

    if (why->code != TWINLEASE_NO_SEAT) {
        snprintf(out, PROGRESS_TEXT_MAX, "Waiting for a node to lease %s: %s", feature,
                 why->message);
    } else if (why->seats < 0) {
        snprintf(out, PROGRESS_TEXT_MAX, "Waiting for a seat of %s: %s", feature, why->message);
    } else {
        if (why->next_seat_ms)
            when_format(why->next_seat_ms, when);
        snprintf(out, PROGRESS_TEXT_MAX,
                 "Waiting for a seat of %s: %" PRId64 " of %" PRId64 " in use%s%s", feature,
                 why->seats_used, why->seats,
                 why->next_seat_ms ? "; the next is expected back at " : "",
                 why->next_seat_ms ? when : "");
    }
    output_clean(out);
}

/* Cuts what would go into a second line, which could not be written over. */
static void cut(char *text, size_t columns)
{
    size_t length = strlen(text);

    if (length <= columns)
        return;
    while (columns && ((unsigned char)text[columns] & 0xc0) == 0x80)
        columns--; /* not inside a character */
    text[columns] = '\0';
}

static size_t columns_of(FILE *to)
{
    struct winsize size;

    if (ioctl(fileno(to), TIOCGWINSZ, &size) != 0 || size.ws_col < 2)
        return COLUMNS;
    return size.ws_col;
}

static void rewrite_line(struct progress *progress, const struct twinlease_waiting *waiting,
                         const char *sentence)
{
    char line[PROGRESS_TEXT_MAX + 64];

    snprintf(line, sizeof line, "%" PRId64 " s, %" PRId64 " s left. %s", waiting->waited_ms / 1000,
             waiting->left_ms / 1000, sentence);
    cut(line, columns_of(progress->to) - 1);
    fprintf(progress->to, "\r%s\033[K", line);
    fflush(progress->to);
    progress->open = true;
}

int progress_waiting(void *context, const struct twinlease_waiting *waiting)
{
    struct progress *progress = context;
    char sentence[PROGRESS_TEXT_MAX];

    progress_sentence(progress->feature, waiting, sentence);
    if (progress->terminal) {
        rewrite_line(progress, waiting, sentence);
        return 0;
    }
    if (progress->told && boot_now().ms - progress->told_at.ms < PROGRESS_QUIET_MS)
        return 0;
    progress->told = true;
    progress->told_at = boot_now();
    fprintf(progress->to, "twinlease: %s\n", sentence);
    fflush(progress->to);
    return 0;
}

void progress_end(struct progress *progress)
{
    if (progress->open)
        fputs("\n", progress->to);
    progress->open = false;
}
