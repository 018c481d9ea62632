/* Keys in files. */
#include <openssl/pem.h>

#include "base/file.h"
#include "token/key_internal.h"

#define MODE_PRIVATE 0600
#define MODE_PUBLIC  0644

enum err key_read_private(const char *path, struct key **out, struct diag *diag)
{
    AUTO(buf_fini_secret) struct buf pem = { .max = KEY_FILE_MAX };
    struct diag reason = { "" };

    enum err e = file_read(path, FILE_PRIVATE, &pem, diag);
    if (e != ERR_OK)
        return e;
    e = key_parse_private(buf_text(&pem), pem.length, out, &reason);
    return e == ERR_OK ? e : diag_set(diag, e, "%s: %s", path, reason.text);
}

/* Writes what the memory BIO holds. */
static enum err write_pem(BIO *bio, const char *path, unsigned mode, bool replace,
                          struct diag *diag)
{
    char *pem = NULL;
    long size = BIO_get_mem_data(bio, &pem);

    must(size > 0);
    return file_write(path, pem, (size_t)size, mode, replace, diag);
}

enum err key_write_private(const struct key *key, const char *path, bool replace, struct diag *diag)
{
    AUTO(BIO_free_all) BIO *bio = BIO_new(BIO_s_secmem()); /* cleared when freed */

    must(bio && key->is_private);
    must(PEM_write_bio_PKCS8PrivateKey(bio, key->pkey, NULL, NULL, 0, NULL, NULL) == 1);
    return write_pem(bio, path, MODE_PRIVATE, replace, diag);
}

enum err key_write_public(const struct key *key, const char *path, bool replace, struct diag *diag)
{
    AUTO(BIO_free_all) BIO *bio = BIO_new(BIO_s_mem());

    must(bio && PEM_write_bio_PUBKEY(bio, key->pkey) == 1);
    return write_pem(bio, path, MODE_PUBLIC, replace, diag);
}
