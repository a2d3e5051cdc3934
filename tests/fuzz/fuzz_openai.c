/* OpenAI bodies, and prompts against class names. */
#include "api/openai.h"
#include "api/problem.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static const char names[][BW_NAME_CHARS] = {"apples", "cherries", "grapes",
                                                "other fruits and nuts", "--"};
    static struct bw_images_request asked;
    const struct bw_request *request = &asked.request;
    struct bw_err err = {0};
    char *text = fuzz_text(bytes, count);
    int class = bw_prompt_class(text, names, 5);
    MUST(class >= -1 && class < 4);
    if (bw_openai_parse(&asked, (const char *)bytes, count, &err)) {
        char *body = bw_problem_render(bw_problem_of(&err), &err, NULL, "id", 1);
        MUST(err.code == BW_ESYNTAX || err.code == BW_ERANGE);
        MUST(body);
        free(body);
    } else {
        MUST(*asked.prompt && strlen(asked.prompt) < sizeof asked.prompt);
        MUST(request->partial_images >= 0 && request->partial_images <= (asked.stream ? 3 : 0));
        MUST(request->count >= 1 && request->count <= BW_MAX_COUNT && request->quality >= 1);
        MUST(request->format >= BW_FORMAT_JPEG && request->format <= BW_FORMAT_WEBP);
        class = bw_prompt_class(asked.prompt, names, 5);
        MUST(class >= -1 && class < 4);
    }
    free(text);
    return 0;
}
