/* Proof that a decision is durable (R13: commit, then speak). The store's commit is the only place
 * that makes one, and signing a lease token needs one, so an answer that carries a lease cannot be
 * built before its transaction has committed. Its content stands in the token (`node`, `seq`),
 * where R11 finds it again after a database was rolled back. */
#pragma once

#include <stdint.h>

#include "base/uuid.h"

struct commit_receipt {
    struct uuid node_ref; /* who committed */
    uint64_t seq;         /* its change number at that commit */
};
