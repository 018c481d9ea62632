/* The handlers that route.tbl names, one declaration each; who defines them includes this. */
#pragma once

#include "http/route.h"
#include "http/route.tbl"

#define X(method, pattern, auth, roles, body, query, handler) request_handler handler;
ROUTE_TBL(X)
#undef X
