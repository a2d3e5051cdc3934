/* What decoding costs, and that whoever plans, promises and deals out work reckons with it. */
#include "tests/unit/latents.h"
#include "tests/unit/scene.h"

static const double decoding_ms = 40; // four evaluations

static struct bw_decoder *decoder;

/* A scene whose first model draws latents; the other does not. */
static void begin(int teams)
{
    begin_scene(teams);
    price.decode = (struct bw_decode_price){.decoder = decoder, .overall = 1};
    price.decode.ms_per_gigaflop = decoding_ms / (bw_decoder_flops(decoder, 128, 128) / 1e9);
}

static void decoding_is_priced(void)
{
    begin(1);
    CHECK_NEAR(bw_price_decode_ms(&price, 128, 128), decoding_ms, 1e-9);
    CHECK(bw_price_decode_ms(&price, 64, 128) < decoding_ms);
    CHECK_NEAR(bw_price_decode_ms(&other_price, 128, 128), 0, 0);
    CHECK_NEAR(bw_price_decode_gigaflops(&other_price, 128, 128), 0, 0);
    double small_ms = bw_price_decode_ms(&price, 16, 16);
    bw_price_learn_decode(&price, 128, 128, 2 * decoding_ms); // one alone is not believed all
    CHECK(bw_price_decode_ms(&price, 128, 128) > 1.2 * decoding_ms &&
          bw_price_decode_ms(&price, 128, 128) < 1.3 * decoding_ms);
    for (int i = 0; i < 400; i++)
        bw_price_learn_decode(&price, 128, 128, 3 * decoding_ms);
    CHECK_NEAR(bw_price_decode_ms(&price, 128, 128) / decoding_ms, 3, 1e-3);
    CHECK_NEAR(bw_price_decode_ms(&price, 16, 16) / small_ms, 3, 0.02); // not seen: as all were
    bw_price_learn_decode(&price, 16, 16, small_ms);
    for (int i = 0; i < 400; i++)
        bw_price_learn_decode(&price, 16, 16, small_ms);
    CHECK_NEAR(bw_price_decode_ms(&price, 128, 128) / decoding_ms, 3, 1e-3);
    CHECK_NEAR(bw_price_decode_ms(&price, 16, 16) / small_ms, 1, 1e-3);
    CHECK(bw_price_decode_ms(&price, 4096, 4096) > 100 * decoding_ms); // beyond the last place
    end_scene();
}

static void decoding_is_measured(void)
{
    static const int sides[] = {2, 4, 8, 12}; // also a model of fewer latents than the first try
    struct bw_team *team;
    REQUIRE(bw_team_new(&team, 2, NULL) == BW_OK);
    for (int i = 0; i < 4; i++) {
        struct bw_arch small = {.image_size = sides[i]};
        struct bw_price p = {.arch = &small};
        REQUIRE(bw_price_measure_decoder(&p, decoder, team, 50, NULL) == BW_OK);
        double ms = bw_price_decode_ms(&p, sides[i], sides[i]);
        CHECK_OF(p.decode.decoder == decoder && ms > 0 && isfinite(ms), "%g", ms);
    }
    bw_team_free(team);
}

/* The last entry of a ladder is the decoder, on every rung. */
static void ladders_end_with_it(void)
{
    begin(1);
    for (int automatic = 0; automatic < 2; automatic++) {
        const struct bw_task *t = make(5, automatic, never), *other;
        for (int rung = 0; rung < t->ladder->rungs; rung++) {
            CHECK_NEAR(bw_ladder_rest_ms(t->ladder, rung, 5), decoding_ms, 1e-9);
            CHECK_NEAR(bw_ladder_rest_ms(t->ladder, rung, 6), 0, 0);
        }
        CHECK_NEAR(bw_ladder_rest_ms(t->ladder, 0, 0), 5 * eval_ms + decoding_ms, 1e-6);
        other = make_of(&other_price, 5, automatic, never);
        CHECK_NEAR(bw_ladder_rest_ms(other->ladder, 0, 5), 0, 0);
    }
    end_scene();
}

static void it_is_a_call_of_its_own(void)
{
    begin(1);
    struct bw_task *t = put(2, false, never);
    struct bw_task *chosen[BW_MAX_CALL];
    CHECK_NEAR(forecast_of(t)->end_ms, 2 * eval_ms + decoding_ms, 1e-6);
    work_until(2 * eval_ms - 1);
    CHECK(!bw_task_decodes(t) && t->team == 0);
    work_until(2 * eval_ms + 1);
    CHECK(bw_task_decodes(t) && !bw_task_is_done(t) && t->team == 0);
    CHECK_NEAR(forecast_of(t)->end_ms, 2 * eval_ms + decoding_ms, 1e-6);
    CHECK_INT(bw_policy_choose(&scene.board, scene.now_ms, scene.forecasts, chosen), 0);
    work_until(never);
    CHECK(bw_task_is_done(t) && scene.board.count == 0);
    CHECK_NEAR(end_of(t), 2 * eval_ms + decoding_ms, 1e-6);
    CHECK_NEAR(scene.board.clients[1].used_ms, 2 * eval_ms + decoding_ms, 1e-6); // who pays
    end_scene();
}

/* Evaluations share calls, decoding does not, neither with each other nor with evaluations. */
static void it_is_never_shared(void)
{
    begin(1);
    struct bw_task *chosen[BW_MAX_CALL];
    scene.board.rules.most_pictures = 8;
    scene.board.rules.busy_tokens = 1 << 30;
    struct bw_task *a = put(1, false, never), *b = put(1, false, never);
    work_until(2 * eval_ms + 1);
    CHECK_INT(scene.shared, 1);
    CHECK(bw_task_decodes(a) && bw_task_decodes(b) && (a->team >= 0) != (b->team >= 0));
    CHECK_INT(bw_policy_choose(&scene.board, scene.now_ms, scene.forecasts, chosen), 1);
    struct bw_task *c = put(3, false, never), *waiting = a->team < 0 ? a : b;
    CHECK_INT(bw_policy_choose(&scene.board, scene.now_ms, scene.forecasts, chosen), 1);
    CHECK(chosen[0] == waiting); // least left to do
    waiting->due_ms = 1e6;
    c->due_ms = 1e5;
    waiting->promised = c->promised = true;
    CHECK_INT(bw_policy_choose(&scene.board, scene.now_ms, scene.forecasts, chosen), 1);
    CHECK(chosen[0] == c); // not overtaken by the company of another
    waiting->promised = c->promised = false;
    waiting->due_ms = c->due_ms = never;
    work_until(never);
    CHECK_INT(scene.shared, 1);
    CHECK(end_of(a) > 0 && end_of(b) > 0 && end_of(c) > 0);
    end_scene();
}

/* A more urgent picture goes before the decoder of another, and any team may run it. */
static void it_can_be_overtaken(void)
{
    begin(1);
    struct bw_task *slow = put(2, false, never);
    work_until(2 * eval_ms - 1);
    struct bw_task *urgent = put_other(1, false, 2 * eval_ms + 100);
    work_until(never);
    CHECK_NEAR(end_of(urgent), 2 * eval_ms + 2 * eval_ms, 1e-6); // twice as dear
    CHECK_NEAR(end_of(slow), 4 * eval_ms + decoding_ms, 1e-6);
    CHECK(scene.kept == 1 && scene.missed == 0);
    end_scene();
}

/* A deadline that has room for the network alone is refused, and what is offered instead holds. */
static void promises_reckon_with_it(void)
{
    begin(1);
    struct bw_task *t = make(4, false, 4 * eval_ms + decoding_ms / 2);
    struct bw_verdict v = admit(&t, 1);
    CHECK_INT(v.refusal, BW_REFUSED_DEADLINE);
    CHECK(isinf(v.retry_ms) && v.best_ms > 4 * eval_ms + decoding_ms);
    t->due_ms = v.best_ms + 1e-6;
    v = admit(&t, 1);
    CHECK_INT(v.refusal, BW_ADMITTED);
    CHECK_NEAR(v.end_ms, 4 * eval_ms + decoding_ms, 1e-6);
    bw_board_add(&scene.board, t);
    work_until(never);
    CHECK(scene.kept == 1 && scene.missed == 0);
    end_scene();
}

/* Whatever arrives: every promise made to pictures of both kinds is kept. */
static void promises_are_kept_among_both_kinds(void)
{
    uint64_t random = 11;
    int admitted = 0;
    begin(2);
    scene.board.rules.most_pictures = 4;
    scene.board.rules.busy_tokens = 1 << 30;
    for (int i = 0; i < 400; i++) {
        double due_ms = i % 3 ? scene.now_ms + 60 + 600 * random_unit(&random) : never;
        struct bw_price *model = random_int(&random, 0, 1) ? &price : &other_price;
        struct bw_task *t = make_of(model, random_int(&random, 1, 9), i % 2, due_ms);
        scene.board.rules.most_work_ms = 400;
        if (admit(&t, 1).refusal == BW_ADMITTED && scene.board.count < MOST / 2) {
            bw_board_add(&scene.board, t);
            admitted += isfinite(due_ms);
        } else {
            picture_of(t)->end_ms = -1; // its place is free
        }
        work_until(scene.now_ms + 60 * random_unit(&random));
    }
    work_until(never);
    CHECK_OF(admitted > 50 && scene.kept == admitted && !scene.missed, "%d: %d kept, %d missed",
             admitted, scene.kept, scene.missed);
    end_scene();
}

/* The oldest of the rest has its turn with its decoder, too. */
static void the_oldest_is_decoded(void)
{
    begin(1);
    struct bw_task *old = put(1, false, never);
    work_until(eval_ms / 2);
    struct bw_task *stream = NULL;
    for (int i = 0; i < 300 && !end_of(old); i++) { // promises without end before it
        stream = make_of(&other_price, 1, false, scene.now_ms + 400);
        if (admit(&stream, 1).refusal == BW_ADMITTED)
            bw_board_add(&scene.board, stream);
        else
            picture_of(stream)->end_ms = -1;
        work_until(scene.now_ms + 2 * eval_ms);
    }
    CHECK(end_of(old) > 0);
    CHECK_INT(scene.missed, 0);
    work_until(never);
    end_scene();
}

int main(void)
{
    static const struct check_test tests[] = {
        TEST(decoding_is_priced),      TEST(decoding_is_measured),
        TEST(ladders_end_with_it),     TEST(it_is_a_call_of_its_own),
        TEST(it_is_never_shared),      TEST(it_can_be_overtaken),
        TEST(promises_reckon_with_it), TEST(promises_are_kept_among_both_kinds),
        TEST(the_oldest_is_decoded)};
    arch = weights_arch_of(POMOLOGY);
    decoder = latents_decoder();
    int status = CHECK_RUN("decoding", tests);
    bw_decoder_free(decoder);
    bw_arch_release(&arch);
    return status;
}
