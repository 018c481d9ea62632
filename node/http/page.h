/* Files that are linked into the node and served as they are. */
#pragma once

#include "base/embed.h"

extern const struct embedded_file page_files[];  /* node/web, and openapi.json */
extern const struct embedded_file page_readme[]; /* README.md alone */
