/* The route table as data; see route.tbl. */
#include "http/handlers.h"
#include "http/route.tbl"

const struct route routes[] = {
#define X(method, pattern, auth, roles, body, query, handler)                                      \
    { METHOD_##method, pattern, auth, roles, body, query, handler },
    ROUTE_TBL(X)
#undef X
};
const size_t route_count = ARRAY_SIZE(routes);
