/* The last word: candidates are scored in the one way that decides (../scoring.py), and the best
   are kept in the one order. */

#include <math.h>
#include <stdlib.h>

#include "search.h"

static int worse(float one, int64_t id, float other, int64_t other_id)
{
    return one < other || (one == other && id > other_id);
}

static void sink(Best *best, int64_t count, int64_t at)
{
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= count) return;
        if (child + 1 < count && worse(best->similarity[child + 1], best->ids[child + 1],
                                       best->similarity[child], best->ids[child]))
            child++;
        if (!worse(best->similarity[child], best->ids[child], best->similarity[at], best->ids[at]))
            return;
        float similarity = best->similarity[at];
        int64_t id = best->ids[at];
        best->similarity[at] = best->similarity[child];
        best->ids[at] = best->ids[child];
        best->similarity[child] = similarity;
        best->ids[child] = id;
        at = child;
    }
}

static void offer(Best *best, float similarity, int64_t id)
{
    if (best->count < best->k) {
        best->similarity[best->count] = similarity;
        best->ids[best->count++] = id;
        if (best->count == best->k)
            for (int64_t at = best->k / 2; at-- > 0;) sink(best, best->k, at);
    } else if (worse(best->similarity[0], best->ids[0], similarity, id)) {
        best->similarity[0] = similarity;
        best->ids[0] = id;
        sink(best, best->k, 0);
    }
}

static void sort(Best *best)
{
    if (best->count < best->k)
        for (int64_t at = best->count / 2; at-- > 0;) sink(best, best->count, at);
    for (int64_t last = best->count - 1; last > 0; last--) {
        float similarity = best->similarity[last];
        int64_t id = best->ids[last];
        best->similarity[last] = best->similarity[0];
        best->ids[last] = best->ids[0];
        best->similarity[0] = similarity;
        best->ids[0] = id;
        sink(best, last, 0);
    }
}

static const Block *block_of(const Request *request, int64_t slot)
{
    int64_t low = 0, high = request->block_count - 1;
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (request->blocks[middle].start <= slot)
            low = middle;
        else
            high = middle - 1;
    }
    return &request->blocks[low];
}

static void rescore(const Request *request, const Lanes *lanes, int64_t query,
                    const Candidate *some, int64_t count, Best *best, double *scratch)
{
    const void *keys[SOME] = {0};
    int64_t dtypes[SOME] = {0}, ids[SOME];
    double sizes[SOME] = {0};
    float similarity[SOME];
    const int64_t dim = request->space->dim;
    for (int64_t i = 0; i < count; i++) {
        const Block *block = block_of(request, some[i].slot);
        int64_t row = some[i].slot - block->start;
        keys[i] = row_at(block->keys, block->dtype, dim, row);
        dtypes[i] = block->dtype;
        sizes[i] = block->sizes[row];
        ids[i] = block->ids[row];
    }
    lanes->similarities(request->space, request->queries + query * dim, request->sizes[query], count,
                        keys, dtypes, sizes, similarity, scratch);
    for (int64_t i = 0; i < count; i++) offer(best, similarity[i], ids[i]);
}

/* What a row must be able to score so that it may still be among the best. */
static double needed(const Request *request, int64_t query, const Best *best)
{
    if (best->count < best->k) return -INFINITY;
    double worst = best->similarity[0];
    if (request->space->metric == EUCLIDEAN) return request->shift[query] - worst * worst;
    return worst * request->gain[query] - request->shift[query];
}

static void partition(Candidate *items, int64_t count, float kth)
{
    for (int64_t i = 0, first = 0; i < count; i++)
        if (items[i].lower >= kth) {
            Candidate swapped = items[first];
            items[first++] = items[i];
            items[i] = swapped;
        }
}

int64_t decide(Search *search, int64_t query, Candidate *items, int64_t count, float *lowers,
                      double *scratch)
{
    const Request *request = search->request;
    const int64_t k = request->k;
    Best best = {request->ids + query * k, request->similarity + query * k, 0, k};
    float reached = -INFINITY;
    if (count >= k) {
        for (int64_t i = 0; i < count; i++) lowers[i] = items[i].lower;
        reached = kth_largest(lowers, count, k);
        int64_t kept = 0;
        for (int64_t i = 0; i < count; i++)
            if (items[i].upper >= reached) items[kept++] = items[i];
        count = kept;
        partition(items, count, reached); /* the most promising come first */
    }
    int64_t scored = 0, held = 0;
    Candidate some[SOME];
    for (int64_t i = 0; i < count; i++) {
        if ((double)items[i].upper >= needed(request, query, &best)) some[held++] = items[i];
        /* The first k are scored in any case; then a few at a time, as each may raise the bar. */
        if (held == AT_ONCE || best.count + held == k) {
            rescore(request, search->lanes, query, some, held, &best, scratch);
            scored += held;
            held = 0;
        }
    }
    rescore(request, search->lanes, query, some, held, &best, scratch);
    scored += held;
    sort(&best);
    return scored;
}

/* ---- every pair -------------------------------------------------------------------------- */

typedef struct {
    Request *request;
    const Lanes *lanes;
    Best *best;                        /* [threads][count] */
    Task *tasks;
    int64_t task_count;
    _Atomic int64_t next;
    _Atomic int failed;
} Exhaust;

static void exhaust_some(void *shared, int64_t thread)
{
    Exhaust *all = shared;
    const Request *request = all->request;
    double *scratch = malloc((size_t)(2 * request->space->dim + 16) * sizeof *scratch);
    Candidate some[SOME];
    if (!scratch) all->failed = 1;
    while (!all->failed) {
        int64_t number = atomic_fetch_add(&all->next, 1);
        if (number >= all->task_count) break;
        Task task = all->tasks[number];
        const Block *block = task.block;
        int64_t stop = task.stop * PAIR < block->rows ? task.stop * PAIR : block->rows;
        for (int64_t first = task.first * PAIR; first < stop; first += SOME)
            for (int64_t query = 0; query < request->count; query++) {
                int64_t held = 0;
                for (int64_t row = first; row < stop && row < first + SOME; row++)
                    if (!(block->out && block->out[row]) &&
                        !is_barred(request, query, block->start + row))
                        some[held++].slot = block->start + row;
                rescore(request, all->lanes, query, some, held,
                        &all->best[thread * request->count + query], scratch);
            }
    }
    free(scratch);
}

/* Answer queries by scoring every pair. Arguments and result as for recollect_search. */
PUBLIC int recollect_exhaust(Request *request)
{
    if (request->threads > MOST_THREADS) request->threads = MOST_THREADS;
    int64_t many = request->threads * request->count, k = request->k;
    Exhaust all = {.request = request, .lanes = lanes_at(request->lanes)};
    Search tasks = {.request = request};
    all.best = malloc((size_t)many * sizeof *all.best);
    int64_t *ids = malloc((size_t)(many * k) * sizeof *ids);
    float *similarity = malloc((size_t)(many * k) * sizeof *similarity);
    int failed = !all.best || !ids || !similarity || make_tasks(&tasks);
    if (!failed) {
        for (int64_t i = 0; i < many; i++)
            all.best[i] = (Best){ids + i * k, similarity + i * k, 0, k};
        all.tasks = tasks.tasks;
        all.task_count = tasks.task_count;
        spread(exhaust_some, &all, request->threads);
        failed = all.failed;
        for (int64_t query = 0; query < request->count && !failed; query++) {
            Best best = {request->ids + query * k, request->similarity + query * k, 0, k};
            for (int64_t thread = 0; thread < request->threads; thread++) {
                const Best *part = &all.best[thread * request->count + query];
                for (int64_t i = 0; i < part->count; i++)
                    offer(&best, part->similarity[i], part->ids[i]);
            }
            sort(&best);
        }
    }
    free(tasks.tasks);
    free(all.best);
    free(ids);
    free(similarity);
    return failed ? -1 : 0;
}

/* ---- the best of some candidates --------------------------------------------------------- */

typedef struct {
    int64_t lanes, threads, count, k, width;
    const Space *space;
    const float *queries;              /* [count][dim] */
    const double *sizes;               /* [count] */
    const int64_t *names;              /* [count][width]: ids */
    const void *const *keys;           /* [count][width], NULL where there is none */
    const int64_t *dtypes;             /* [count][width] */
    const double *const *lengths;      /* [count][width], sizes of the rows */
    int64_t *ids;                      /* [count][k] */
    float *similarity;
} Choice;

typedef struct {
    const Choice *choice;
    const Lanes *lanes;
    _Atomic int64_t next;
    _Atomic int failed;
} Choosing;

static void choose_some(void *shared, int64_t thread)
{
    Choosing *all = shared;
    const Choice *choice = all->choice;
    double *scratch = malloc((size_t)(2 * choice->space->dim + 16) * sizeof *scratch);
    (void)thread;
    if (!scratch) all->failed = 1;
    while (!all->failed) {
        int64_t query = atomic_fetch_add(&all->next, 1);
        if (query >= choice->count) break;
        const int64_t at = query * choice->width;
        Best best = {choice->ids + query * choice->k, choice->similarity + query * choice->k, 0,
                     choice->k};
        const void *keys[SOME];
        int64_t dtypes[SOME], names[SOME], held = 0;
        double sizes[SOME];
        float similarity[SOME];
        for (int64_t i = 0; i < choice->width; i++) {
            if (choice->keys[at + i]) {
                keys[held] = choice->keys[at + i];
                dtypes[held] = choice->dtypes[at + i];
                sizes[held] = *choice->lengths[at + i];
                names[held++] = choice->names[at + i];
            }
            if (held == SOME || i + 1 == choice->width) {
                all->lanes->similarities(choice->space, choice->queries + query * choice->space->dim,
                                         choice->sizes[query], held, keys, dtypes, sizes, similarity,
                                         scratch);
                for (int64_t j = 0; j < held; j++) offer(&best, similarity[j], names[j]);
                held = 0;
            }
        }
        sort(&best);
    }
    free(scratch);
}

/* Score candidates, each once, and keep the k best of each query. Lists must be [count][k]; the
   caller fills what is not found. */
PUBLIC int recollect_choose(Choice *choice)
{
    Choosing all = {.choice = choice, .lanes = lanes_at(choice->lanes)};
    spread(choose_some, &all, choice->threads < choice->count ? choice->threads : choice->count);
    return all.failed ? -1 : 0;
}
