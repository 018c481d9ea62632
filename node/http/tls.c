#include "http/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/random.h"

#define CIPHERS_TLS12       "ECDHE+AESGCM:ECDHE+CHACHA20"
#define CERTIFICATE_DAYS    3650
#define PEM_FILE_MAX        (1u << 20)
#define EXPIRY_WARNING_DAYS 30
#define CLOCK_SLACK_SECONDS 3600 /* a client whose clock is a little behind must accept it, too */

DEFINE_AUTO(SSL_CTX *, SSL_CTX_free)
DEFINE_AUTO(BIO *, BIO_free_all)

static enum err tls_error(struct diag *diag, const char *path, const char *what)
{
    char reason[160] = "no reason given";
    unsigned long code = ERR_get_error();

    if (code)
        ERR_error_string_n(code, reason, sizeof reason);
    ERR_clear_error();
    return diag_set(diag, ERR_TLS, "%s: %s (%s)", path, what, reason);
}

/* ---- context -------------------------------------------------------------------------------- */

/* There is nobody to type a passphrase. */
static int no_passphrase(char *buffer, int size, int writing, void *data)
{
    (void)buffer;
    (void)size;
    (void)writing;
    (void)data;
    return 0;
}

static void set_policy(SSL_CTX *tls)
{
    static const unsigned char session_context[] = "twinlease-node";

    SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
    SSL_CTX_set_options(tls, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_NO_COMPRESSION | SSL_OP_PRIORITIZE_CHACHA);
    int done = SSL_CTX_set_cipher_list(tls, CIPHERS_TLS12);
    must(done == 1);
    SSL_CTX_set_max_early_data(tls, 0);
    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF); /* tickets do */
    SSL_CTX_set_session_id_context(tls, session_context, sizeof session_context - 1);
    SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS);
}

void tls_warn_of_expiry(const SSL_CTX *tls, const char *cert_path)
{
    const X509 *cert = SSL_CTX_get0_certificate(tls);
    int days = 0, seconds = 0;

    if (!cert || !ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)))
        return;
    if (days < 0 || seconds < 0)
        log_event(LOG_ERROR, "certificate_expired", "%s: the certificate has expired", cert_path);
    else if (days < EXPIRY_WARNING_DAYS)
        log_event(LOG_WARNING, "certificate_expires", "%s: the certificate expires in %d days",
                  cert_path, days);
}

static enum err use_key(SSL_CTX *tls, const char *path, struct diag *diag)
{
    AUTO(buf_fini_secret) struct buf text = { .max = PEM_FILE_MAX };
    enum err e = file_read(path, FILE_PRIVATE, &text, diag);

    if (e != ERR_OK)
        return e;
    AUTO(BIO_free_all) BIO *memory = BIO_new_mem_buf(buf_text(&text), (int)text.length);
    must(memory);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(memory, NULL, no_passphrase, NULL);
    if (!key)
        return tls_error(diag, path, "no private key in PEM (without a passphrase)");
    int done = SSL_CTX_use_PrivateKey(tls, key);
    EVP_PKEY_free(key);
    if (done != 1)
        return tls_error(diag, path, "the key does not belong to the certificate");
    return ERR_OK;
}

enum err tls_context_new(const char *cert_path, const char *key_path, SSL_CTX **out,
                         struct diag *diag)
{
    AUTO(SSL_CTX_free) SSL_CTX *tls = SSL_CTX_new(TLS_server_method());

    must(tls);
    set_policy(tls);
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(tls, cert_path) != 1)
        return tls_error(diag, cert_path, "no certificate chain in PEM");
    enum err e = use_key(tls, key_path, diag);
    if (e != ERR_OK)
        return e;
    *out = TAKE(tls);
    return ERR_OK;
}

/* ---- making certificates -------------------------------------------------------------------- */

struct pair {
    X509 *cert;
    EVP_PKEY *key;
};

static void pair_fini(struct pair *pair)
{
    X509_free(pair->cert);
    EVP_PKEY_free(pair->key);
}
DEFINE_AUTO_VALUE(struct pair, pair_fini)

static void set_serial(X509 *cert)
{
    unsigned char bytes[16];

    random_bytes(bytes, sizeof bytes);
    bytes[0] = (unsigned char)((bytes[0] & 0x7f) | 0x40); /* positive, and never short */
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    must(number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)));
    BN_free(number);
}

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;

    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    must(extension && X509_add_ext(cert, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

/* A new key and a certificate for it without extensions and signature. */
static void pair_make(struct pair *pair, const char *name, const X509 *issuer)
{
    pair->key = EVP_EC_gen("P-256");
    pair->cert = X509_new();
    must(pair->key && pair->cert);
    X509_set_version(pair->cert, X509_VERSION_3);
    set_serial(pair->cert);
    X509_gmtime_adj(X509_getm_notBefore(pair->cert), -CLOCK_SLACK_SECONDS);
    X509_gmtime_adj(X509_getm_notAfter(pair->cert), (long)CERTIFICATE_DAYS * 86400);
    X509_set_pubkey(pair->cert, pair->key);
    X509_NAME *subject = X509_get_subject_name(pair->cert);
    int done = X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name,
                                          -1, -1, 0);
    must(done == 1);
    X509_set_issuer_name(pair->cert, issuer ? X509_get_subject_name(issuer) : subject);
}

static void pair_sign(const struct pair *pair, const struct pair *issuer)
{
    int done = X509_sign(pair->cert, issuer->key, EVP_sha256());
    must(done > 0);
}

static void make_ca(struct pair *ca)
{
    unsigned char id[4];
    char name[64];

    random_bytes(id, sizeof id); /* the CAs of two nodes need different names */
    snprintf(name, sizeof name, "Twinlease node CA %02x%02x%02x%02x", id[0], id[1], id[2], id[3]);
    pair_make(ca, name, NULL);
    add_extension(ca->cert, ca->cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
    add_extension(ca->cert, ca->cert, NID_key_usage, "critical,keyCertSign,cRLSign");
    add_extension(ca->cert, ca->cert, NID_subject_key_identifier, "hash");
    pair_sign(ca, ca);
}

/* host: DLS_URL, whose syntax config.c has checked; an IPv6 address has its brackets. */
static void make_server(struct pair *server, const struct pair *ca, const char *host)
{
    static const char loopback[] = "DNS:localhost,IP:127.0.0.1,IP:::1";
    char bare[256], names[400];

    snprintf(bare, sizeof bare, "%s", host[0] == '[' ? host + 1 : host);
    bare[strcspn(bare, "]")] = '\0';
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(bare);
    snprintf(names, sizeof names, "%s,%s:%s", loopback, address ? "IP" : "DNS", bare);
    ASN1_OCTET_STRING_free(address);
    ERR_clear_error(); /* a host name is no address, and no error */
    pair_make(server, strlen(bare) <= 64 ? bare : "localhost", ca->cert);
    add_extension(server->cert, ca->cert, NID_basic_constraints, "critical,CA:FALSE");
    add_extension(server->cert, ca->cert, NID_key_usage, "critical,digitalSignature");
    add_extension(server->cert, ca->cert, NID_ext_key_usage, "serverAuth,clientAuth");
    add_extension(server->cert, ca->cert, NID_subject_alt_name, names);
    add_extension(server->cert, ca->cert, NID_subject_key_identifier, "hash");
    add_extension(server->cert, ca->cert, NID_authority_key_identifier, "keyid");
    pair_sign(server, ca);
}

/* Writes what has been put into a memory BIO. */
static enum err write_bio(BIO *memory, const char *path, mode_t mode, struct diag *diag)
{
    char *bytes;
    long size = BIO_get_mem_data(memory, &bytes);

    return file_write(path, bytes, (size_t)size, mode, false, diag);
}

static enum err write_cert(X509 *cert, const char *path, struct diag *diag)
{
    AUTO(BIO_free_all) BIO *memory = BIO_new(BIO_s_mem());

    must(memory && PEM_write_bio_X509(memory, cert) == 1);
    return write_bio(memory, path, 0644, diag);
}

static enum err write_key(EVP_PKEY *key, const char *path, struct diag *diag)
{
    AUTO(BIO_free_all) BIO *memory = BIO_new(BIO_s_secmem());

    must(memory && PEM_write_bio_PKCS8PrivateKey(memory, key, NULL, NULL, 0, NULL, NULL) == 1);
    return write_bio(memory, path, 0600, diag);
}

/* Adds our CA to those that are there already (the peer's, say). */
static enum err add_ca(X509 *cert, const char *path, struct diag *diag)
{
    AUTO(BIO_free_all) BIO *memory = BIO_new(BIO_s_mem());
    AUTO(buf_fini) struct buf text = { .max = PEM_FILE_MAX };
    char *bytes;
    enum err e;

    if (file_exists(path) && (e = file_read(path, FILE_PUBLIC, &text, diag)) != ERR_OK)
        return e;
    must(memory && PEM_write_bio_X509(memory, cert) == 1);
    long size = BIO_get_mem_data(memory, &bytes);
    buf_append(&text, bytes, (size_t)size);
    if (!buf_ok(&text))
        return diag_set(diag, ERR_FILE, "%s: larger than it may be", path);
    return file_write(path, buf_text(&text), text.length, 0644, true, diag);
}

static enum err generate(const struct config *config, struct diag *diag)
{
    AUTO(pair_fini) struct pair ca = { NULL, NULL };
    AUTO(pair_fini) struct pair server = { NULL, NULL };
    enum err e;

    make_ca(&ca);
    make_server(&server, &ca, config->dls_url);
    if ((e = add_ca(ca.cert, config->tls_ca, diag)) != ERR_OK)
        return e;
    if ((e = write_key(server.key, config->tls_key, diag)) != ERR_OK)
        return e;
    return write_cert(server.cert, config->tls_cert, diag);
}

enum err tls_generate_if_absent(const struct config *config, struct diag *diag)
{
    bool cert = file_exists(config->tls_cert), key = file_exists(config->tls_key);

    if (cert && key)
        return ERR_OK;
    if (cert || key)
        return diag_set(diag, ERR_TLS,
                        "%s is there but %s is absent: provide it, or remove the former to have "
                        "both made",
                        cert ? config->tls_cert : config->tls_key,
                        cert ? config->tls_key : config->tls_cert);
    enum err e = generate(config, diag);
    if (e == ERR_OK)
        log_event(LOG_INFO, "certificate_made",
                  "made a certificate for %s in %s; clients verify it with %s", config->dls_url,
                  config->tls_cert, config->tls_ca);
    return e;
}
