#include "keyset.h"

#include <string.h>

enum err keyset_read(struct json_object *jwks, struct keyset *out, struct diag *diag)
{
    struct json_reader r;
    struct json_object *list = NULL;

    json_reader_init(&r, jwks, "jwks", diag);
    json_read_array(&r, "keys", true, KEYSET_MAX, &list);
    enum err e = json_reader_end_open(&r);
    if (e != ERR_OK)
        return e;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        if (key_from_jwk(json_object_array_get_idx(list, i), &out->keys[out->count], NULL) ==
            ERR_OK)
            out->count++;
    }
    if (!out->count)
        return diag_set(diag, ERR_KEY_INVALID, "jwks has no key of a known type");
    return ERR_OK;
}

enum err keyset_parse(const char *jwks, size_t length, struct keyset *out, struct diag *diag)
{
    AUTO(json_object_put) struct json_object *value = NULL;
    enum err e = json_parse(jwks, length, &value, diag);

    return e == ERR_OK ? keyset_read(value, out, diag) : e;
}

void keyset_fini(struct keyset *set)
{
    while (set->count)
        key_free(set->keys[--set->count]);
}

const struct key *keyset_find(const struct keyset *set, const char *thumbprint)
{
    for (size_t i = 0; i < set->count; i++) {
        if (strcmp(key_thumbprint(set->keys[i]), thumbprint) == 0)
            return set->keys[i];
    }
    return NULL;
}
