/* Pages for people: the README, the management page and its parts, and the description of the API.
 * None of them holds a secret; what the management page shows, it asks the API for. */
#include "http/page.h"

#include <pthread.h>
#include <string.h>

#include "http/handlers.h"
#include "http/readme.h"
#include "http/reply.h"

#define README_HTML_MAX (4u << 20)

/* Nothing from other hosts, nothing inline, no framing. Only the management page has scripts. */
#define CSP_README                                                                                 \
    "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; "               \
    "base-uri 'none'; form-action 'none'"
#define CSP_MANAGE                                                                                 \
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "                \
    "img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

static const struct embedded_file *page_find(const char *name)
{
    for (const struct embedded_file *file = page_files; file->name; file++) {
        if (strcmp(file->name, name) == 0)
            return file;
    }
    return NULL;
}

static void reply_file(struct request *r, const struct embedded_file *file, const char *type)
{
    must(file);
    reply_static(r, 200, type, file->begin, embedded_size(file));
}

static void page_headers(struct request *r, const char *csp)
{
    reply_header(r, "content-security-policy", "%s", csp);
    reply_header(r, "referrer-policy", "no-referrer");
    reply_header(r, "cross-origin-opener-policy", "same-origin");
}

enum err operator_root(struct request *r)
{
    reply_redirect(r, 302, "/-/readme");
    return ERR_OK;
}

/* ---- README -------------------------------------------------------------------------------- */

static struct buf readme_html;
static pthread_once_t readme_once = PTHREAD_ONCE_INIT;

static void readme_make(void)
{
    buf_init(&readme_html, README_HTML_MAX);
    buf_text_append(&readme_html,
                    "<!DOCTYPE html>\n"
                    "<html lang=\"en\">\n"
                    "<head>\n"
                    "<meta charset=\"utf-8\">\n"
                    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                    "<meta name=\"color-scheme\" content=\"light dark\">\n"
                    "<title>Twinlease</title>\n"
                    "<link rel=\"stylesheet\" href=\"/-/web/readme.css\">\n"
                    "<link rel=\"icon\" href=\"/-/web/icon.svg\">\n"
                    "</head>\n"
                    "<body>\n"
                    "<nav aria-label=\"This node\"><a href=\"/-/manage\">Manage this node</a> "
                    "<a href=\"/-/health\">Health</a> <a href=\"/-/openapi.json\">API</a></nav>\n"
                    "<main>\n");
    readme_render(page_readme->begin, embedded_size(page_readme), &readme_html);
    buf_text_append(&readme_html, "</main>\n</body>\n</html>\n");
    must(buf_ok(&readme_html));
}

enum err operator_readme(struct request *r)
{
    must(pthread_once(&readme_once, readme_make) == 0);
    page_headers(r, CSP_README);
    reply_static(r, 200, "text/html; charset=utf-8", readme_html.bytes, readme_html.length);
    return ERR_OK;
}

/* ---- files
 * --------------------------------------------------------------------------------------- */

enum err operator_manage(struct request *r)
{
    page_headers(r, CSP_MANAGE);
    reply_file(r, page_find("manage.html"), "text/html; charset=utf-8");
    return ERR_OK;
}

enum err operator_openapi(struct request *r)
{
    reply_file(r, page_find("openapi.json"), "application/json");
    return ERR_OK;
}

/* Only parts of pages: a page has an address of its own, with its own headers. */
enum err operator_asset(struct request *r)
{
    static const struct {
        const char *suffix, *type;
    } types[] = {
        { ".css", "text/css; charset=utf-8" },
        { ".js", "text/javascript; charset=utf-8" },
        { ".svg", "image/svg+xml" },
    };
    const char *name = request_param(r, "file");
    const struct embedded_file *file = page_find(name);
    const char *suffix = strrchr(name, '.');

    for (size_t i = 0; file && suffix && i < ARRAY_SIZE(types); i++) {
        if (strcmp(suffix, types[i].suffix) == 0) {
            page_headers(r, CSP_README);
            reply_file(r, file, types[i].type);
            return ERR_OK;
        }
    }
    return diag_set(&r->diag, ERR_NOT_FOUND, "there is no file %.64s", name);
}
