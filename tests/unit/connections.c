/* Connections: who is shut down, and who is not. */
#include "server/connections.h"

#include "base/clock.h"
#include "tests/unit/check.h"

#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FOREVER_MS = 1 << 30 };

struct pair {
    struct bw_connection *ours;
    int fd, client;
};

static struct pair connect_one(struct bw_connections *all)
{
    int fds[2] = {-1, -1};
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
    return (struct pair){bw_connections_add(all, fds[0]), fds[0], fds[1]};
}

static void end(struct pair *p)
{
    bw_connection_remove(p->ours);
    close(p->fd);
    close(p->client);
}

static bool is_open(const struct pair *p)
{
    char byte;
    return recv(p->client, &byte, 1, MSG_DONTWAIT) != 0;
}

static void rest(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
}

/* A request that came while nobody looked is no fault of its client. */
static void who_is_late(void)
{
    struct bw_connections all;
    bw_connections_init(&all, 9, 1);
    struct pair resting = connect_one(&all), busy = connect_one(&all);
    bw_connection_set_busy(busy.ours, true);
    rest();
    all.swept_ms = bw_now_ms() - 60000;
    bw_connections_sweep(&all, false);
    CHECK(is_open(&resting));
    bw_connections_sweep(&all, false);
    CHECK(!is_open(&resting));
    CHECK(is_open(&busy));
    end(&resting);
    end(&busy);
    CHECK_INT(all.count, 0);
}

static void who_rests_in_a_hurry(void)
{
    struct bw_connections all;
    bw_connections_init(&all, 9, FOREVER_MS);
    struct pair silent = connect_one(&all), heard = connect_one(&all);
    REQUIRE(write(heard.client, "x", 1) == 1);
    bw_connections_sweep(&all, false);
    CHECK(is_open(&silent));
    bw_connections_sweep(&all, true);
    CHECK(!is_open(&silent));
    CHECK(is_open(&heard));
    end(&silent);
    end(&heard);
}

static void who_makes_room(void)
{
    struct bw_connections all;
    bw_connections_init(&all, 2, FOREVER_MS);
    struct pair busy = connect_one(&all), rested = connect_one(&all);
    bw_connection_set_busy(busy.ours, true);
    struct pair third = connect_one(&all);
    CHECK(is_open(&busy));
    CHECK(!is_open(&rested));
    CHECK(is_open(&third));
    end(&busy);
    end(&rested);
    end(&third);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(who_is_late), TEST(who_rests_in_a_hurry),
                                              TEST(who_makes_room)};
    return CHECK_RUN("connections", tests);
}
