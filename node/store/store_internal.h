/* What the store is made of. Private to node/store. */
#pragma once

#include "store/pg.h"
#include "store/rows.h"
#include "store/store.h"

struct store {
    PGconn *conn;
    struct store_identity identity; /* seq: of the last commit through this store */
    struct pg_params params;        /* of the statement being sent; keeps its memory */
    bool failed;                    /* something failed: only store_close() is left */
};

/* schema.c: brings the tables to the version this program knows. */
enum err schema_migrate(PGconn *conn, struct diag *diag) MUST_USE;

/* commit.c: the statements of a batch. */
enum err commit_prepare(PGconn *conn, struct diag *diag) MUST_USE;
