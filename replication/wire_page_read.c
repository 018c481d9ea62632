/* Pages from the other node. They come with the instance's signature, but a node may be broken or
 * its key stolen: every member is checked, nothing is allocated for what was merely announced, and
 * a page is taken as a whole or not at all. */
#include <stdio.h>

#include "base/json_scan.h"
#include "replication/wire_page.h"
#include "replication/wire_scan.h"

#define ROWS_FIRST 16 /* how many rows are made room for at first */

struct reader {
    struct wire_scan scan;
    struct ledger_page *page;
    peer_entitlement_open *open_one;
    void *context;
    struct diag *diag;
    enum err err;
    unsigned headers_seen, kinds_seen; /* bits */
    bool version_seen;
    char *texts_end; /* where the next text goes in page->texts */
    struct diag why; /* of an entitlement that was not taken */
};

/* ---- failures -------------------------------------------------------------------------------- */

/* The first failure counts. Always false. */
static bool refuse(struct reader *r, const char *what, const char *why)
{
    if (r->err == ERR_OK)
        r->err = diag_set(r->diag, ERR_PAGE_REFUSED, "the page is malformed: %s: %s (at byte %zu)",
                          what, why, (size_t)(r->scan.at - r->scan.begin));
    return false;
}

static bool refuse_row(struct reader *r, const struct page_kind *kind, size_t row,
                       const struct page_field *field, const char *why)
{
    char what[96];

    snprintf(what, sizeof what, "%s[%zu]%s%s", kind->name, row, field ? "." : "",
             field ? field->name : "");
    return refuse(r, what, why);
}

/* ---- fields ---------------------------------------------------------------------------------- */

/* Texts go into one block as large as what is left of the page: a text is never longer than its
 * JSON form. Texts so far stay where they are, because rows point at them. */
static bool read_environment(struct reader *r, const char **out)
{
    struct wire_scan *s = &r->scan;
    struct json_scan json;
    size_t length;

    if (wire_try_null(s)) {
        *out = NULL;
        return true;
    }
    if (!r->page->texts)
        r->page->texts = r->texts_end = mem_alloc((size_t)(s->end - s->at) + 1);
    if (!wire_string(s, r->texts_end, PEER_ENVIRONMENT_MAX, &length))
        return false;
    if (!json_scan(&json, r->texts_end, length))
        return wire_fail(s, "an environment is not valid JSON");
    *out = r->texts_end;
    r->texts_end += length + 1;
    return true;
}

static bool read_entitlement(struct reader *r, struct entitlement **out)
{
    const char *text;
    size_t length;
    struct diag why = { "" };

    if (!wire_plain(&r->scan, ENTITLEMENT_TEXT_MAX, &text, &length))
        return false;
    AUTO(mem_free) char *copy = mem_memdup(text, length);
    enum err e = r->open_one(r->context, copy, out, &why);
    if (e == ERR_OK)
        return true;
    diag_set(&r->why, e, "%s", why.text[0] ? why.text : err_info(e)->title);
    return wire_fail(&r->scan, r->why.text);
}

static bool read_small(struct wire_scan *s, const struct page_field *field, int64_t *out)
{
    return wire_int(s, field->min, field->max, out);
}

static bool read_field(struct reader *r, const struct page_field *field, char *base)
{
    void *at = base + field->offset;
    struct wire_scan *s = &r->scan;
    int64_t number;

    switch (field->type) {
    case FIELD_UUID:
        return wire_uuid(s, at);
    case FIELD_UUID_OR_NULL:
        return wire_try_null(s) || wire_uuid(s, at);
    case FIELD_INT:
        return wire_int(s, field->min, field->max, at);
    case FIELD_UINT32:
        if (!read_small(s, field, &number))
            return false;
        *(uint32_t *)at = (uint32_t)number;
        return true;
    case FIELD_BOOL:
        return wire_bool(s, at);
    case FIELD_STATE:
        if (!read_small(s, field, &number))
            return false;
        *(enum lease_state *)at = page_states[number];
        return true;
    case FIELD_ENVIRONMENT:
        return read_environment(r, at);
    case FIELD_ENTITLEMENT:
        return read_entitlement(r, at);
    }
    return wire_fail(s, "a field of no type");
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* What a later protocol appended. */
static bool skip_fields(struct wire_scan *s)
{
    while (wire_try(s, ',')) {
        if (!wire_skip(s))
            return false;
    }
    return wire_take(s, ']');
}

static bool read_row(struct reader *r, const struct page_kind *kind, size_t number, char *row)
{
    struct wire_scan *s = &r->scan;

    for (size_t i = 0; i < kind->field_count; i++) {
        if (!wire_take(s, i ? ',' : '[') || !read_field(r, &kind->fields[i], row))
            return refuse_row(r, kind, number, &kind->fields[i], s->wrong);
    }
    return skip_fields(s) || refuse_row(r, kind, number, NULL, s->wrong);
}

/* Room for one row more, zeroed. */
static char *add_row(const struct page_kind *kind, char **rows, size_t *count, size_t *capacity)
{
    if (*count == *capacity) {
        *capacity = *capacity ? *capacity * 2 : ROWS_FIRST;
        *rows = mem_resize(*rows, *capacity * kind->row_size);
    }
    char *row = *rows + *count * kind->row_size;
    memset(row, 0, kind->row_size);
    ++*count;
    return row;
}

/* The page owns the rows at every moment, also of a row that turns out to be malformed. */
static bool read_rows(struct reader *r, const struct page_kind *kind, char **rows, size_t *count)
{
    struct wire_scan *s = &r->scan;
    size_t capacity = 0;

    if (!wire_take(s, '['))
        return refuse(r, kind->name, s->wrong);
    if (wire_try(s, ']'))
        return true;
    do {
        if (*count == kind->row_count_max)
            return refuse(r, kind->name, "more rows than a page may have");
        size_t number = *count;
        if (!read_row(r, kind, number, add_row(kind, rows, count, &capacity)))
            return false;
    } while (wire_try(s, ','));
    return wire_take(s, ']') || refuse(r, kind->name, s->wrong);
}

static bool read_kind(struct reader *r, const struct page_kind *kind)
{
    char *base = (char *)r->page, *rows = NULL;
    size_t *count = (size_t *)(void *)(base + kind->count_offset);

    bool good = read_rows(r, kind, &rows, count);
    memcpy(base + kind->rows_offset, &rows, sizeof rows);
    return good;
}

/* ---- members --------------------------------------------------------------------------------- */

static bool is_name(const char *name, size_t length, const char *wanted)
{
    return strlen(wanted) == length && memcmp(name, wanted, length) == 0;
}

static bool read_version(struct reader *r)
{
    int64_t version;

    if (r->version_seen)
        return refuse(r, "v", "stands twice");
    if (!wire_int(&r->scan, 0, INT64_MAX, &version))
        return refuse(r, "v", r->scan.wrong);
    if (version < PEER_PROTOCOL_MIN || version > PEER_PROTOCOL)
        return refuse(r, "v", "a protocol that is not spoken here");
    r->version_seen = true;
    return true;
}

static bool first_time(struct reader *r, unsigned *seen, size_t bit, const char *name)
{
    if (*seen >> bit & 1)
        return refuse(r, name, "stands twice");
    *seen |= 1u << bit;
    return true;
}

static bool read_header(struct reader *r, size_t i)
{
    const struct page_field *field = &page_headers[i];

    if (!first_time(r, &r->headers_seen, i, field->name))
        return false;
    return read_field(r, field, (char *)r->page) || refuse(r, field->name, r->scan.wrong);
}

static bool read_member(struct reader *r)
{
    const char *name;
    size_t length;

    if (!wire_name(&r->scan, &name, &length))
        return refuse(r, "the name of a member", r->scan.wrong);
    if (is_name(name, length, "v"))
        return read_version(r);
    for (size_t i = 0; i < PAGE_HEADERS; i++) {
        if (is_name(name, length, page_headers[i].name))
            return read_header(r, i);
    }
    for (size_t i = 0; i < PAGE_KINDS; i++) {
        if (is_name(name, length, page_kinds[i].name))
            return first_time(r, &r->kinds_seen, i, page_kinds[i].name) &&
                   read_kind(r, &page_kinds[i]);
    }
    return wire_skip(&r->scan) || refuse(r, "a member that is not known here", r->scan.wrong);
}

static bool read_members(struct reader *r)
{
    struct wire_scan *s = &r->scan;

    if (!wire_take(s, '{'))
        return refuse(r, "the whole", s->wrong);
    if (!wire_try(s, '}')) {
        do {
            if (!read_member(r))
                return false;
        } while (wire_try(s, ','));
        if (!wire_take(s, '}'))
            return refuse(r, "the whole", s->wrong);
    }
    return wire_end(s) || refuse(r, "the whole", s->wrong);
}

/* R8: a page that stops short states neither W nor `seen`; one that completes states both. */
static bool check_headers(struct reader *r)
{
    size_t required = r->page->complete ? PAGE_HEADERS : PAGE_HEADERS - PAGE_STATED;

    if (!r->version_seen)
        return refuse(r, "v", "is missing");
    for (size_t i = 0; i < PAGE_HEADERS; i++) {
        bool seen = r->headers_seen >> i & 1;
        if (i < required && !seen)
            return refuse(r, page_headers[i].name, "is missing");
        if (i >= required && seen)
            return refuse(r, page_headers[i].name, "stands in a page that is not complete");
    }
    return r->page->upto >= r->page->since || refuse(r, "upto", "lies before since");
}

enum err page_decode(const char *text, size_t length, peer_entitlement_open *open_one,
                     void *context, struct ledger_page **out, struct diag *diag)
{
    AUTO(ledger_page_free) struct ledger_page *page = mem_calloc(1, sizeof *page);
    struct reader r = {
        .scan = { .begin = text, .at = text, .end = text + length, .wrong = "" },
        .page = page,
        .open_one = open_one,
        .context = context,
        .diag = diag,
        .err = ERR_OK,
    };

    *out = NULL;
    if (length > PEER_BODY_MAX)
        refuse(&r, "the whole", "longer than a page may be");
    else if (read_members(&r))
        check_headers(&r);
    if (r.err != ERR_OK)
        return r.err;
    *out = TAKE(page);
    return ERR_OK;
}
