#include "base/json_scan.h"

#include "base/json.h"
#include "base/utf8.h"

static bool fail(struct json_scan *s, const char *wrong)
{
    s->wrong = wrong;
    return false;
}

/* The next character; NUL at the end, which no rule takes. */
static char next(const struct json_scan *s)
{
    return s->at < s->end ? *s->at : '\0';
}

static bool take(struct json_scan *s, char c)
{
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

static void skip_space(struct json_scan *s)
{
    while (take(s, ' ') || take(s, '\n') || take(s, '\t') || take(s, '\r')) {
    }
}

static bool scan_word(struct json_scan *s, const char *word)
{
    size_t length = strlen(word);

    if ((size_t)(s->end - s->at) < length || memcmp(s->at, word, length) != 0)
        return fail(s, "a value is expected");
    s->at += length;
    return true;
}

static bool scan_digits(struct json_scan *s)
{
    const char *first = s->at;

    while (next(s) >= '0' && next(s) <= '9')
        s->at++;
    return s->at > first || fail(s, "a digit is expected");
}

static bool scan_number(struct json_scan *s)
{
    take(s, '-');
    if (!take(s, '0') && !scan_digits(s))
        return false;
    if (take(s, '.') && !scan_digits(s))
        return false;
    if (take(s, 'e') || take(s, 'E')) {
        if (!take(s, '+'))
            take(s, '-');
        return scan_digits(s);
    }
    return true;
}

/* The four hexadecimal digits of \uXXXX. */
static bool scan_code_unit(struct json_scan *s, unsigned *out)
{
    unsigned unit = 0;

    for (int i = 0; i < 4; i++, s->at++) {
        char c = next(s);
        if (c >= '0' && c <= '9')
            unit = unit << 4 | (unsigned)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            unit = unit << 4 | (unsigned)((c | 0x20) - 'a' + 10);
        else
            return fail(s, "four hexadecimal digits are expected");
    }
    *out = unit;
    return true;
}

/* After \u. Surrogates come only in pairs (RFC 8259 §7). */
static bool scan_unicode(struct json_scan *s, bool *nul)
{
    unsigned first, second;

    if (!scan_code_unit(s, &first))
        return false;
    *nul |= first == 0;
    if (first < 0xd800 || first > 0xdfff)
        return true;
    if (first > 0xdbff || !take(s, '\\') || !take(s, 'u'))
        return fail(s, "a surrogate stands alone");
    if (!scan_code_unit(s, &second))
        return false;
    return (second >= 0xdc00 && second <= 0xdfff) || fail(s, "a surrogate stands alone");
}

static bool scan_escape(struct json_scan *s, bool *nul)
{
    char c = next(s);

    if (c == 'u') {
        s->at++;
        return scan_unicode(s, nul);
    }
    if (c == '\0' || !strchr("\"\\/bfnrt", c))
        return fail(s, "an escape is not known");
    s->at++;
    return true;
}

/* *nul becomes true if the string has an escaped NUL in it. */
static bool scan_string(struct json_scan *s, bool *nul)
{
    *nul = false;
    if (!take(s, '"'))
        return fail(s, "a string is expected");
    while (s->at < s->end) {
        if (take(s, '"'))
            return true;
        if (take(s, '\\')) {
            if (!scan_escape(s, nul))
                return false;
            continue;
        }
        if ((unsigned char)*s->at < 0x20)
            return fail(s, "a string has a control character");
        size_t size = utf8_size(s->at, (size_t)(s->end - s->at));
        if (!size)
            return fail(s, "a string is not valid UTF-8");
        s->at += size;
    }
    return fail(s, "a string does not end");
}

static bool scan_value(struct json_scan *s);

static bool scan_member(struct json_scan *s)
{
    bool nul;

    skip_space(s);
    if (!scan_string(s, &nul))
        return false;
    if (nul) /* json-c would cut the name there */
        return fail(s, "the name of a member has a NUL");
    skip_space(s);
    if (!take(s, ':'))
        return fail(s, "a colon is expected");
    s->members++;
    return scan_value(s);
}

/* After the opening bracket: items with commas between, up to the closing bracket. */
static bool scan_items(struct json_scan *s, bool (*scan_item)(struct json_scan *), char closing)
{
    if (++s->depth > JSON_DEPTH_MAX)
        return fail(s, "arrays and objects are nested too deeply");
    skip_space(s);
    if (!take(s, closing)) {
        do {
            if (!scan_item(s))
                return false;
        } while (take(s, ','));
        if (!take(s, closing))
            return fail(s, "a comma or a closing bracket is expected");
    }
    s->depth--;
    return true;
}

static bool scan_bare_value(struct json_scan *s)
{
    bool nul;

    switch (next(s)) {
    case '{':
        s->at++;
        return scan_items(s, scan_member, '}');
    case '[':
        s->at++;
        return scan_items(s, scan_value, ']');
    case '"':
        return scan_string(s, &nul);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    default:
        if (next(s) != '-' && (next(s) < '0' || next(s) > '9'))
            return fail(s, "a value is expected");
        return scan_number(s);
    }
}

static bool scan_value(struct json_scan *s)
{
    skip_space(s);
    if (!scan_bare_value(s))
        return false;
    skip_space(s);
    return true;
}

bool json_scan(struct json_scan *s, const char *text, size_t length)
{
    *s = (struct json_scan){ .begin = text, .at = text, .end = text + length };
    if (!scan_value(s))
        return false;
    must(s->depth == 0);
    return s->at == s->end || fail(s, "something follows the value");
}
