#include "http/readme.h"

#include <cmark-gfm-core-extensions.h>
#include <cmark-gfm.h>
#include <string.h>

DEFINE_AUTO(cmark_parser *, cmark_parser_free)
DEFINE_AUTO(cmark_node *, cmark_node_free)
DEFINE_AUTO(cmark_iter *, cmark_iter_free)

#define ANCHOR_MAX 256 /* bytes of a heading's anchor */

/* GitHub's way: letters in lower case, blanks as hyphens, other ASCII punctuation dropped. */
static void append_slug(struct buf *out, const char *text)
{
    for (; *text; text++) {
        char c = *text;
        bool kept = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
                    (unsigned char)c >= 0x80;

        if (c >= 'A' && c <= 'Z')
            c = (char)(c - 'A' + 'a');
        else if (c == ' ')
            c = '-';
        else if (!kept)
            continue;
        buf_append(out, &c, 1);
    }
}

static void add_anchor(cmark_node *heading)
{
    AUTO(buf_fini) struct buf anchor = { .max = ANCHOR_MAX };
    AUTO(cmark_iter_free) cmark_iter *iter = cmark_iter_new(heading);
    cmark_event_type event;

    buf_text_append(&anchor, "<a id=\"");
    while ((event = cmark_iter_next(iter)) != CMARK_EVENT_DONE) {
        const char *text = cmark_node_get_literal(cmark_iter_get_node(iter));
        if (event == CMARK_EVENT_ENTER && text)
            append_slug(&anchor, text);
    }
    buf_text_append(&anchor, "\"></a>");
    if (!buf_ok(&anchor))
        return;
    cmark_node *node = cmark_node_new(CMARK_NODE_CUSTOM_INLINE);
    must(cmark_node_set_on_enter(node, buf_text(&anchor)));
    must(cmark_node_prepend_child(heading, node));
}

/* Leaves what stands inside where it is. */
static void unwrap(cmark_node *node)
{
    for (cmark_node *child; (child = cmark_node_first_child(node));)
        must(cmark_node_insert_before(node, child));
    cmark_node_free(node);
}

/* A place in this page, a page of this node, or a whole address. */
static bool link_leads_somewhere(const char *url)
{
    return *url == '#' || *url == '/' || strncmp(url, "https://", 8) == 0 ||
           strncmp(url, "http://", 7) == 0 || strncmp(url, "mailto:", 7) == 0;
}

/* A tree may be changed only at the node that is being left. */
static void adapt(cmark_node *document)
{
    AUTO(cmark_iter_free) cmark_iter *iter = cmark_iter_new(document);
    cmark_event_type event;

    while ((event = cmark_iter_next(iter)) != CMARK_EVENT_DONE) {
        cmark_node *node = cmark_iter_get_node(iter);
        cmark_node_type type = cmark_node_get_type(node);

        if (event != CMARK_EVENT_EXIT)
            continue;
        if (type == CMARK_NODE_HEADING)
            add_anchor(node);
        else if (type == CMARK_NODE_IMAGE)
            unwrap(node);
        else if (type == CMARK_NODE_LINK && !link_leads_somewhere(cmark_node_get_url(node)))
            unwrap(node);
    }
}

static void attach(cmark_parser *parser, const char *name)
{
    cmark_syntax_extension *extension = cmark_find_syntax_extension(name);

    must(extension && cmark_parser_attach_syntax_extension(parser, extension));
}

void readme_render(const char *markdown, size_t size, struct buf *out)
{
    cmark_gfm_core_extensions_ensure_registered();
    AUTO(cmark_parser_free) cmark_parser *parser = cmark_parser_new(CMARK_OPT_VALIDATE_UTF8);
    attach(parser, "table");
    attach(parser, "autolink");
    cmark_parser_feed(parser, markdown, size);
    AUTO(cmark_node_free) cmark_node *document = cmark_parser_finish(parser);
    adapt(document);
    char *html = cmark_render_html(document, CMARK_OPT_VALIDATE_UTF8,
                                   cmark_parser_get_syntax_extensions(parser));
    buf_text_append(out, html);
    cmark_get_default_mem_allocator()->free(html);
}
