/* Inside settings*.c only: the grammar of the file. */
#pragma once

#include "base/settings.h"

/* Called with each assignment; takes the value. Not ERR_OK ends the reading. */
typedef enum err settings_assign_fn(void *context, int line, const char *name, char *value,
                                    struct diag *diag);

enum err settings_file_read(const char *path, settings_assign_fn *assign, void *context,
                            struct diag *diag) MUST_USE;
/* `path` is for messages, which never repeat a value: it may be a secret. */
enum err settings_file_parse(const char *path, const char *text, size_t size,
                             settings_assign_fn *assign, void *context, struct diag *diag) MUST_USE;
