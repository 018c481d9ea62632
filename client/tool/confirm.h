/* Asking before something that cannot be undone. */
#pragma once

#include "fault.h"

/* Is there somebody to ask? USAGE: no. `why` begins the sentence: "retiring is for ever". */
enum twinlease_code confirm_possible(const char *why, struct twinlease_error *error) MUST_USE;
/* Asks for the word. USAGE: something else was typed. */
enum twinlease_code confirm_word(const char *word, struct twinlease_error *error) MUST_USE;
