/* Job: what the paths under /v1/jobs say of one.
 *
 * openapi.yaml, schema Job, is the contract. While a job is under way a Job is made of what is
 * known then; its end is rendered once, into a text that is kept as it is (also across a restart)
 * and only put into its frame when somebody asks. Text that is returned is the caller's to free(),
 * NULL without memory. Any thread.
 */
#ifndef BW_API_JOB_H
#define BW_API_JOB_H

#include "api/response.h"

#include <stdint.h>

enum { BW_JOB_DIGEST_CHARS = 65 };

struct bw_job_view {
    const char *id;      // letters, digits, '_', '.', '-'
    int64_t created_s;   // since 1970
    int64_t finished_s;  // the same, 0: not over
    int64_t expires_s;   // the same, 0: not over
    const char *result;  // bw_job_result() or bw_job_failure(); NULL: not over, and then:
    const char *request; // bw_request_render() of the request as it was taken
    int step, steps;     // of all its pictures together: done, and to do (at least 1)
};

char *bw_job_render(const struct bw_job_view *view);

/* The end of a job that has its pictures. */
char *bw_job_result(const char *id, const struct bw_generation *generation);

/* The end of a job that failed. `request`, `step` and `steps` as in a view; `problem`: text of
 * bw_problem_render(). */
char *bw_job_failure(const char *request, int step, int steps, const char *problem);

/* Read back what bw_job_result() made: everything of a generation but its id and the bytes of its
 * pictures. `images` [BW_MAX_COUNT] and `digest` are filled and pointed to. BW_ESYNTAX: it is
 * something else, and the outputs are half filled. */
int bw_job_parse(const char *result, struct bw_generation *generation, struct bw_image *images,
                 char digest[BW_JOB_DIGEST_CHARS], struct bw_err *err);

/* The problem that bw_job_failure() was given, now told to a request with that id, and the HTTP
 * status it stands for; NULL: there is none, or no memory. */
char *bw_job_problem(const char *result, const char *request_id, int *status);

#endif
