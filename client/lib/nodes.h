/* The nodes of one client token: how to reach them, and how each did lately. Counted, so that a
 * call under way keeps those it began with while a new token takes over. May be used by many
 * threads at once. */
#pragma once

#include "tok.h"
#include "transport.h"
#include "walk.h"

struct nodes;

/* Takes ownership of tok, also on failure. UNTRUSTED: its CA certificate; ERROR. */
enum twinlease_code nodes_new(struct tok *tok, struct nodes **out,
                              struct twinlease_error *error) MUST_USE;
struct nodes *nodes_ref(struct nodes *nodes);
void nodes_unref(struct nodes *nodes); /* takes NULL */
DEFINE_AUTO(struct nodes *, nodes_unref)

const struct tok *nodes_tok(const struct nodes *nodes);
struct transport *nodes_transport(struct nodes *nodes);

/* In which order to ask them now, and which count as silent. */
void nodes_order(struct nodes *nodes, size_t out[TOK_NODES_MAX], bool silent[TOK_NODES_MAX]);
/* It has given an answer that stands: it is asked first from now on. */
void nodes_prefer(struct nodes *nodes, size_t node);
/* It did not answer in time; or did. */
void nodes_note_silence(struct nodes *nodes, size_t node);
void nodes_note_answer(struct nodes *nodes, size_t node);
/* What is known of nodes with the same addresses is taken over. */
void nodes_inherit(struct nodes *nodes, struct nodes *old);
