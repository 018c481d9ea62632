/* Markdown to HTML, for README.md. Pure. */
#pragma once

#include "base/buf.h"

/* Appends the text, GitHub-flavoured Markdown with tables and autolinks, as HTML. Raw HTML is left
 * out, and so are pictures, because a node's page shows nothing from other hosts. Headings get the
 * anchors that GitHub would give them. Links to files of the repository become plain text: a node
 * does not have them. */
void readme_render(const char *markdown, size_t size, struct buf *out);
