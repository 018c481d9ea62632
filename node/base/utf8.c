#include "base/utf8.h"

/* First byte, and what the second one may be; all further ones are 80..BF (RFC 3629 §4). */
struct form {
    unsigned char first, last; /* of the first byte */
    unsigned char second_first, second_last;
    unsigned char size;
};

static const struct form forms[] = {
    { 0x00, 0x7f, 0x00, 0x00, 1 }, { 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
    { 0xe1, 0xec, 0x80, 0xbf, 3 }, { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
    { 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
};

size_t utf8_size(const char *at, size_t left)
{
    const unsigned char *byte = (const unsigned char *)at;
    const struct form *form = forms;
    const struct form *end = forms + sizeof forms / sizeof forms[0];

    if (left == 0)
        return 0;
    while (form < end && (byte[0] < form->first || byte[0] > form->last))
        form++;
    if (form == end || form->size > left)
        return 0;
    if (form->size > 1 && (byte[1] < form->second_first || byte[1] > form->second_last))
        return 0;
    for (size_t i = 2; i < form->size; i++) {
        if (byte[i] < 0x80 || byte[i] > 0xbf)
            return 0;
    }
    return form->size;
}
