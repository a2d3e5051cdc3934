/* Order: an admitted request on its way: its pictures, what has happened so far, and who waits.
 *
 * Listeners are exchanges that are answered from it, each in its form: when the last picture is
 * over, or all along as a stream of events. An order that somebody keeps (a job) goes on when
 * nobody listens; any other is given up when its last listener leaves. It frees itself when all
 * pictures have come back, everyone is answered and nobody keeps it. Thread: the loop's.
 */
#ifndef BW_SERVER_ORDER_H
#define BW_SERVER_ORDER_H

#include "api/events.h"
#include "api/sdapi.h"
#include "server/service.h"

enum bw_form {
    BW_FORM_IMAGE,         // the picture itself
    BW_FORM_CACHEABLE,     // the same with an ETag that names it
    BW_FORM_JSON,          // a Generation
    BW_FORM_EVENTS,        // a stream that ends with one
    BW_FORM_OPENAI,        // an ImagesResponse
    BW_FORM_OPENAI_EVENTS, // the stream that stands for one
    BW_FORM_SDAPI,         // a Txt2ImgResponse
    BW_FORM_JOB_EVENTS,    // a stream that ends with a Job
};

/* The id of a stream's last event, the same for all, so that it is known without them. */
enum { BW_LAST_EVENT_ID = 1000000 };

struct bw_listener {
    struct bw_listener *next;
    struct bw_order *order;
    struct bw_exchange *exchange;
    enum bw_form form;
    int seen;                 // events of the order sent, of a stream
    double sent_ms;           // when a stream last had something to send
    bool ping;                // it has been silent for too long
    struct bw_txt2img *asked; // of BW_FORM_SDAPI: what it was asked for; its own
};

struct bw_order {
    struct bw_order *next, *previous; // in the service's list, oldest first
    struct bw_service *service;
    struct bw_served *served;  // the model, retained
    struct bw_request request; // effective, but for what the scheduler still decides
    char client[BW_CLIENT_CHARS];
    double arrived_ms, predicted_ms;
    struct bw_listener *listeners;
    struct bw_event *events; // [event_count] previews are the order's
    int event_count, event_room;
    int steps_done; // of all pictures
    int over;       // jobs that are not coming back
    bool ended;     // all of them, and what follows is true
    bool ending;    // those who wait are being told
    bool lost;      // it has ended without all its pictures
    bool failed;    // problem and err say why
    enum bw_problem problem;
    struct bw_err err;
    double total_ms;           // from arrival to the end
    struct bw_timer *patience; // runs out when a promised deadline is long past
    struct bw_keeper *keeper;  // NULL: nobody but the listeners wants it
    char *job_text;            // the Job as its last event says it; NULL: none, or no memory
    struct bw_job jobs[];      // [request.count]
};

/* Who wants an order although nobody listens. */
struct bw_keeper {
    /* The order has ended; it stays until bw_order_let_go(). Sets its job_text. */
    void (*ended)(struct bw_keeper *keeper, struct bw_order *order);
    /* It has new events. NULL: the keeper does not mind. */
    void (*news)(struct bw_keeper *keeper, struct bw_order *order);
};

/* An order that is not admitted yet, for a request that is complete and its plan; retains the
 * model. `arrived_ms`: bw_now_ms() when it was sent, from when its deadline counts. `watched`:
 * somebody will want to know of its steps. NULL without memory. */
struct bw_order *bw_order_new(struct bw_service *service, struct bw_served *served,
                              const char *client, double arrived_ms,
                              const struct bw_request *request, const struct bw_plan *plan,
                              bool watched);
/* Free an order that was never admitted. */
void bw_order_discard(struct bw_order *order);

/* Offer it to the scheduler; with `only_ask` see what it would say. BW_EBUSY: refused, the answer
 * says why; BW_ENOMEM. Once admitted the order belongs to the service. */
int bw_order_admit(struct bw_order *order, bool only_ask, struct bw_answer *answer,
                   struct bw_err *err);

/* Answer the exchange from this order, now or when it ends; a stream begins at once, after the
 * first `seen` events. `asked` (or NULL) passes to the listener. */
void bw_order_listen(struct bw_order *order, struct bw_exchange *exchange, enum bw_form form,
                     int64_t seen, struct bw_txt2img *asked);

/* End it with a problem as soon as its pictures are back. It may be gone on return. */
void bw_order_give_up(struct bw_order *order, enum bw_problem problem, const char *reason);

/* The keeper needs it no more. It may be gone on return. */
void bw_order_let_go(struct bw_order *order);

/* What an ended, successful order made; `images` [request.count] is filled and pointed to. */
struct bw_generation bw_order_result(const struct bw_order *order, struct bw_image *images);

/* A request as this plan carries it out; asked for again it gives the same, at leisure. */
struct bw_request bw_effective_request(const struct bw_request *asked, const struct bw_plan *plan,
                                       const struct bw_arch *arch);

/* The process ends without what is not over, because workers that are dead have it: tell those who
 * wait, but leave jobs that somebody keeps open, for the next process; their streams end without a
 * last event. Such an order stays until its pictures come back after all. Returns how many of those
 * there are that somebody keeps. May be called again. */
int bw_orders_lose(struct bw_service *service);

/* Take what the workers have to tell: steps of watched pictures, jobs that are over. */
void bw_orders_collect(void *service);

/* Streams that have not ended. */
int bw_orders_streams(const struct bw_service *service);

/* Wake streams that have been silent for so long. */
void bw_orders_ping(struct bw_service *service, double silence_ms);

#endif
