/* README.md as a page: what is shown, and what is left out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "http/readme.h"

static void assert_rendered(const char *markdown, const char *html)
{
    AUTO(buf_fini) struct buf out = { .max = 1 << 20 };

    readme_render(markdown, strlen(markdown), &out);
    assert_string_equal(buf_text(&out), html);
}

static void test_headings_have_anchors(void **state)
{
    (void)state;
    assert_rendered("# A tour, by hand!\n",
                    "<h1><a id=\"a-tour-by-hand\"></a>A tour, by hand!</h1>\n");
    assert_rendered("## `GET` *it_2*\n",
                    "<h2><a id=\"get-it_2\"></a><code>GET</code> <em>it_2</em></h2>\n");
    assert_rendered("### Größe\n", "<h3><a id=\"größe\"></a>Größe</h3>\n");
    assert_rendered("# \"><script>\n",
                    "<h1><a id=\"script\"></a>&quot;&gt;<!-- raw HTML omitted --></h1>\n");
}

static void test_tables(void **state)
{
    (void)state;
    assert_rendered("| a | b |\n| --- | --- |\n| `1` | 2 |\n",
                    "<table>\n<thead>\n<tr>\n<th>a</th>\n<th>b</th>\n</tr>\n</thead>\n<tbody>\n"
                    "<tr>\n<td><code>1</code></td>\n<td>2</td>\n</tr>\n</tbody>\n</table>\n");
}

static void test_links(void **state)
{
    (void)state;
    assert_rendered("[a](#b) [c](/-/manage) [d](https://e.example)\n",
                    "<p><a href=\"#b\">a</a> <a href=\"/-/manage\">c</a> "
                    "<a href=\"https://e.example\">d</a></p>\n");
    assert_rendered("at https://e.example/x\n",
                    "<p>at <a href=\"https://e.example/x\">https://e.example/x</a></p>\n");
}

static void test_links_that_lead_nowhere_become_text(void **state)
{
    (void)state;
    assert_rendered("see [the *license*](LICENSE).\n", "<p>see the <em>license</em>.</p>\n");
    assert_rendered("[x](../a/b.c#d)\n", "<p>x</p>\n");
    assert_rendered("[x](javascript:alert(1))\n", "<p>x</p>\n");
    assert_rendered("[x](data:text/html,y)\n", "<p>x</p>\n");
    assert_rendered("[]()\n", "<p></p>\n");
}

static void test_pictures_become_text(void **state)
{
    (void)state;
    assert_rendered("![the *threads*](https://e.example/a.png)\n", "<p>the <em>threads</em></p>\n");
    assert_rendered("[![badge](b.svg)](https://e.example)\n",
                    "<p><a href=\"https://e.example\">badge</a></p>\n");
}

static void test_raw_html_is_left_out(void **state)
{
    (void)state;
    assert_rendered("<script>alert(1)</script>\n", "<!-- raw HTML omitted -->\n");
    assert_rendered("a <img src=x onerror=y> b\n", "<p>a <!-- raw HTML omitted --> b</p>\n");
}

static void test_long_heading_goes_without_anchor(void **state)
{
    char markdown[400] = "# ", html[420] = "<h1>";

    (void)state;
    memset(markdown + 2, 'x', 300);
    memset(html + 4, 'x', 300);
    memcpy(html + 304, "</h1>\n", 7);
    assert_rendered(markdown, html);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headings_have_anchors),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_links_that_lead_nowhere_become_text),
        cmocka_unit_test(test_pictures_become_text),
        cmocka_unit_test(test_raw_html_is_left_out),
        cmocka_unit_test(test_long_heading_goes_without_anchor),
    };

    return cmocka_run_group_tests_name("readme", tests, NULL, NULL);
}
