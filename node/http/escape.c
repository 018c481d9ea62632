#include "http/escape.h"

#include <stdint.h>

#include "base/hex.h"
#include "base/utf8.h"

size_t percent_decode(const char *text, size_t length, char *out)
{
    size_t size = 0;

    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte == '%') {
            int high = i + 2 < length ? hex_value(text[i + 1]) : -1;
            int low = i + 2 < length ? hex_value(text[i + 2]) : -1;
            if (high < 0 || low < 0)
                return SIZE_MAX;
            byte = (unsigned char)(high << 4 | low);
            i += 2;
        }
        if (byte < 0x20 || byte == 0x7f)
            return SIZE_MAX;
        out[size++] = (char)byte;
    }
    return size;
}

void json_string_append(struct buf *out, const char *text, size_t length)
{
    buf_append(out, "\"", 1);
    for (size_t i = 0; i < length;) {
        unsigned char byte = (unsigned char)text[i];
        size_t size = utf8_size(text + i, length - i);
        if (size == 0)
            buf_text_append(out, "\xef\xbf\xbd");
        else if (byte == '"' || byte == '\\')
            buf_format(out, "\\%c", byte);
        else if (byte < 0x20 || byte == 0x7f)
            buf_format(out, "\\u%04x", byte);
        else
            buf_append(out, text + i, size);
        i += size ? size : 1;
    }
    buf_append(out, "\"", 1);
}
