/* TLS of the server side: TLS 1.2 and 1.3, ECDHE with AEAD ciphers only, the server's preference,
 * no renegotiation, no compression, no early data, and http/1.1 as the only protocol of ALPN. */
#pragma once

#include <openssl/ssl.h>

#include "config.h"

/* A context with this certificate chain and key. ERR_TLS, ERR_FILE name the file. The caller gives
 * it to SSL_CTX_free(). */
enum err tls_context_new(const char *cert_path, const char *key_path, SSL_CTX **out,
                         struct diag *diag) MUST_USE;

/* Logs a warning if the certificate has expired or is about to. */
void tls_warn_of_expiry(const SSL_CTX *tls, const char *cert_path);

/* If both TLS_CERT and TLS_KEY are absent: makes a CA, signs a server certificate for DLS_URL,
 * localhost and the loopback addresses with it, adds the CA's certificate to TLS_CA, writes key and
 * certificate, and forgets the CA's key: clients can pin the CA, and nobody can sign with it.
 * ERR_TLS if only one of the two is there, ERR_FILE. */
enum err tls_generate_if_absent(const struct config *config, struct diag *diag) MUST_USE;
