/* One walk over the head as it lies in memory. Since every byte has its place in the grammar (name,
 * NUL, value, NUL, NUL, and two more at the end), a line that ended in a bare LF, a folded line, a
 * NUL inside a value and a line without a name all show as bytes in the wrong place. The one thing
 * that leaves no trace is a NUL that the client put where the CR belongs. */
#include "server/framing.h"

#include "base/text.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static const char malformed[] = "a header field is malformed";

bool bw_framing_is_token(const char *text)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (const char *c = text; *c; c++) {
        if (!isalnum((unsigned char)*c) && !strchr(others, *c))
            return false;
    }
    return *text != '\0';
}

static bool is_value(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if ((*c < ' ' && *c != '\t') || *c == 0x7f)
            return false;
    }
    return true;
}

/* A host and perhaps a port; no list, no user, no path. */
static bool is_host(const char *text)
{
    for (const char *c = text; *c; c++) {
        if (!isalnum((unsigned char)*c) && !strchr("-._~!$&'()*+;=:[]%", *c))
            return false;
    }
    return true;
}

/* Is it that name, perhaps with '_' for '-'? Some servers take the one for the other. */
static bool passes_for(const char *name, const char *known)
{
    for (; *name && *known; name++, known++) {
        if (tolower((unsigned char)(*name == '_' ? '-' : *name)) != tolower((unsigned char)*known))
            return false;
    }
    return *name == *known;
}

struct walk {
    struct bw_framing *framing;
    char *at, *end;
    bool old; // HTTP/1.0
    int hosts, lengths, codings;
    bool waits, empty; // the client waits for "100 Continue"; the length is 0
};

static void fault(struct walk *w, bool is_one, const char *what)
{
    if (is_one && !w->framing->fault)
        w->framing->fault = what;
}

/* The next text, which so many NULs have to follow; NULL if they do not. */
static char *take(struct walk *w, size_t nul_count)
{
    static const char nuls[2];
    char *text = w->at, *stop = memchr(text, '\0', (size_t)(w->end - text));
    if (!stop || (size_t)(w->end - stop) < nul_count || memcmp(stop, nuls, nul_count) != 0)
        return NULL;
    w->at = stop + nul_count;
    return text;
}

static void cut_spaces(char *value)
{
    size_t length = strlen(value);
    while (length && (value[length - 1] == ' ' || value[length - 1] == '\t'))
        value[--length] = '\0';
}

static void look_at(struct walk *w, const char *name, const char *value)
{
    struct bw_framing *f = w->framing;
    fault(w, !bw_framing_is_token(name) || !is_value(value), malformed);
    if (bw_text_same(name, "Host")) {
        w->hosts++;
        f->host = value;
    } else if (passes_for(name, "Content-Length")) {
        w->lengths++;
        w->empty = value[strspn(value, "0")] == '\0';
        fault(w, strchr(name, '_') != NULL, malformed);
    } else if (passes_for(name, "Transfer-Encoding")) {
        w->codings++;
        f->chunked = bw_text_same(value, "chunked");
        f->unread = f->unread || !f->chunked;
        fault(w, strchr(name, '_') != NULL, malformed);
    } else if (bw_text_same(name, "Expect")) {
        w->waits = w->waits || (!w->old && bw_text_same(value, "100-continue"));
    }
}

/* What no field can say alone. */
static void conclude(struct walk *w)
{
    struct bw_framing *f = w->framing;
    bool idle = w->waits && !w->codings && (!w->lengths || w->empty);
    fault(w, f->unread, "chunked is the only transfer coding read here");
    fault(w, w->codings && w->old, "HTTP/1.0 has no transfer codings");
    fault(w, w->lengths + w->codings > 1, "the length of the body is given more than once");
    fault(w, w->hosts > 1 || (w->hosts == 0 && !w->old), "there has to be exactly one Host field");
    fault(w, f->host && !is_host(f->host), "the Host field is malformed");
    fault(w, idle, "the client waits to send a body, and there is none");
    f->unread = f->unread || idle;
}

void bw_framing_read(struct bw_framing *framing, char *head, size_t head_bytes)
{
    struct walk w = {.framing = framing, .at = head, .end = head + head_bytes};
    *framing = (struct bw_framing){0};
    const char *version = take(&w, 2);
    fault(&w, !version, malformed);
    w.old = version && strcmp(version, "HTTP/1.0") == 0;
    framing->field_bytes = (size_t)(w.end - w.at);
    while (version && w.end - w.at > 2) {
        const char *name = take(&w, 1);
        char *value = NULL;
        if (name) {
            w.at += strspn(w.at, " \t");
            value = take(&w, 2);
        }
        fault(&w, !value, malformed);
        if (!value)
            break;
        if (!passes_for(name, "Transfer-Encoding"))
            cut_spaces(value);
        look_at(&w, name, value);
    }
    fault(&w, w.end - w.at != 2 || w.at[0] || w.at[1], malformed);
    conclude(&w);
}

bool bw_framing_target_ok(const char *target)
{
    for (const unsigned char *c = (const unsigned char *)target; *c; c++) {
        if (*c <= ' ' || *c == 0x7f || *c == '#')
            return false;
    }
    return *target != '\0';
}

const char *bw_framing_path(const char *target, const char *host)
{
    static const char *const schemes[] = {"http://", "https://"};
    if (*target == '/')
        return target;
    for (int i = 0; i < 2; i++) {
        size_t length = strlen(schemes[i]);
        if (strncasecmp(target, schemes[i], length) != 0)
            continue;
        const char *authority = target + length, *path = strchrnul(authority, '/');
        size_t count = (size_t)(path - authority);
        if (count && (!host || (strlen(host) == count && !strncasecmp(host, authority, count))))
            return *path ? path : "/";
    }
    return NULL;
}
