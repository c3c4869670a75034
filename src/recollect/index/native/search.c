/* A search over all blocks: threads take rows, keep what can be among the k nearest of each query,
   and in the end score these in the one way that decides (see ../quantized.py for the proof). */

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernel.h"

#define PUBLIC __attribute__((visibility("default")))

enum { SOME = 32, AT_ONCE = 16, MOST_THREADS = 256 };

/* ---- instruction sets -------------------------------------------------------------------- */

extern const Lanes lanes_plain;
#ifdef HAVE_avx512vnni
extern const Lanes lanes_avx512vnni;
#endif
#ifdef HAVE_avx512
extern const Lanes lanes_avx512;
#endif
#ifdef HAVE_avx2
extern const Lanes lanes_avx2;
#endif
#ifdef HAVE_dotprod
extern const Lanes lanes_dotprod;
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#endif

/* The sets of instructions that this processor has, best first; NULL after the last. */
static const Lanes *lanes_at(int64_t number)
{
    const Lanes *known[5] = {0};
    int count = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
#ifdef HAVE_avx512vnni
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        known[count++] = &lanes_avx512vnni;
#endif
#ifdef HAVE_avx512
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        known[count++] = &lanes_avx512;
#endif
#ifdef HAVE_avx2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        known[count++] = &lanes_avx2;
#endif
#endif
#ifdef HAVE_dotprod
#if defined(__APPLE__)
    known[count++] = &lanes_dotprod; /* every Apple processor of this kind has it */
#elif defined(__linux__)
    if (getauxval(AT_HWCAP) & (1UL << 20)) /* HWCAP_ASIMDDP */
        known[count++] = &lanes_dotprod;
#endif
#endif
    known[count++] = &lanes_plain;
    return number >= 0 && number < count ? known[number] : NULL;
}

PUBLIC const char *recollect_lanes(int64_t number)
{
    const Lanes *lanes = lanes_at(number);
    return lanes ? lanes->name : NULL;
}

PUBLIC int64_t recollect_virtual(int64_t number) { return lanes_at(number)->virtual_queries; }

PUBLIC const char *recollect_source(void) { return SOURCE; }

/* ---- threads ----------------------------------------------------------------------------- */

typedef struct {
    void (*work)(void *shared, int64_t thread);
    void *shared;
    int64_t thread;
} Share;

static void *enter(void *at)
{
    Share *share = at;
#if defined(__x86_64__)
    /* Numbers below the normal range count here, whatever the caller has set. */
    unsigned int before = _mm_getcsr();
    _mm_setcsr(0x1f80);
#endif
    share->work(share->shared, share->thread);
#if defined(__x86_64__)
    _mm_setcsr(before);
#endif
    return NULL;
}

/* Run work on several threads; it must be done when only the first of them ran. Threads are made
   for each call: that takes some ten microseconds, and nothing is left over, also after a fork. */
static void spread(void (*work)(void *, int64_t), void *shared, int64_t threads)
{
    pthread_t others[MOST_THREADS];
    Share shares[MOST_THREADS];
    int64_t started = 1;
    sigset_t every, before;
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    if (threads > 1) {
        sigfillset(&every);
        pthread_sigmask(SIG_SETMASK, &every, &before);
        for (; started < threads; started++) {
            shares[started] = (Share){work, shared, started};
            if (pthread_create(&others[started], NULL, enter, &shares[started])) break;
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    shares[0] = (Share){work, shared, 0};
    enter(&shares[0]);
    for (int64_t thread = 1; thread < started; thread++) pthread_join(others[thread], NULL);
}

/* ---- measuring and quantizing ------------------------------------------------------------ */

typedef struct {
    const Lanes *lanes;
    const Space *space;
    const void *keys;
    int64_t dtype, first, stop, step;
    double *sizes;
    const uint8_t *regular;
    uint8_t *codes;
    float *const *terms;
    _Atomic int64_t next;
    _Atomic int failed;
} Intake;

static const char *row_at(const void *keys, int64_t dtype, int64_t dim, int64_t row)
{
    static const int64_t bytes[] = {4, 2, 1};
    return (const char *)keys + row * dim * bytes[dtype];
}

static void measure_some(void *shared, int64_t thread)
{
    Intake *job = shared;
    const Space *space = job->space;
    double *scratch = malloc((size_t)(2 * space->dim + 16) * sizeof *scratch);
    (void)thread;
    if (!scratch) {
        job->failed = 1;
        return;
    }
    for (;;) {
        int64_t first = atomic_fetch_add(&job->next, job->step), stop = first + job->step;
        if (first >= job->stop) break;
        if (stop > job->stop) stop = job->stop;
        if (job->codes)
            job->lanes->quantize(space, job->keys, job->dtype, job->sizes, job->regular, first, stop,
                                 job->codes, job->terms, scratch);
        else
            job->lanes->measure(row_at(job->keys, job->dtype, space->dim, first), job->dtype,
                                stop - first, space->dim, space->metric == MANHATTAN, space->weights,
                                job->sizes + first, scratch);
    }
    free(scratch);
}

static int take_in(Intake *job, int64_t threads)
{
    int64_t rows = job->stop - job->first;
    /* Groups of rows are not torn apart: each keeps the maxima of its rows. */
    job->step = 4096 / GROUP * GROUP;
    while (job->step > GROUP && job->step * threads > rows) job->step /= 2;
    job->next = job->first / GROUP * GROUP;
    int64_t most = rows * job->space->dim / (1 << 16) + 1;
    if (job->next < job->first) { /* up to the next whole group */
        int64_t stop = job->stop, head = job->next + GROUP;
        job->stop = head < stop ? head : stop;
        job->next = job->first;
        measure_some(job, 0);
        job->stop = stop;
        job->next = head;
    }
    if (job->next < job->stop) spread(measure_some, job, threads < most ? threads : most);
    return job->failed ? -1 : 0;
}

PUBLIC int recollect_measure(int64_t lanes, const Space *space, const void *keys, int64_t dtype,
                             int64_t rows, double *sizes, int64_t threads)
{
    Intake job = {.lanes = lanes_at(lanes), .space = space, .keys = keys, .dtype = dtype,
                  .stop = rows, .sizes = sizes};
    return take_in(&job, threads);
}

PUBLIC int recollect_quantize(int64_t lanes, const Space *space, const void *keys, int64_t dtype,
                              double *sizes, const uint8_t *regular, int64_t first, int64_t stop,
                              uint8_t *codes, float *const *terms, int64_t threads)
{
    Intake job = {.lanes = lanes_at(lanes), .space = space, .keys = keys, .dtype = dtype,
                  .first = first, .stop = stop, .sizes = sizes, .regular = regular,
                  .codes = codes, .terms = terms};
    return take_in(&job, threads);
}

/* ---- a search ---------------------------------------------------------------------------- */

typedef struct {
    int64_t lanes, threads, count, k, planes, room, block_count;
    const Space *space;
    const Block *blocks;
    const float *queries;              /* [count][dim] */
    const double *sizes;               /* [count] */
    /* g(similarity) = gain * similarity - shift, or shift - similarity^2 under Euclidean */
    const double *gain;                /* [count] */
    double *shift;                     /* [count] */
    const int64_t *barred_starts, *barred; /* [count + 1], slots ascending; or NULL */
    /* Where keys are scored as they are (planes = 0): what prepare gives for codes. */
    float *plain, *reach, *blur, *slack;
    const float *weights;
    int64_t *ids;                      /* [count][k] */
    float *similarity;
    uint8_t *given_up;                 /* [count] */
    int64_t rescored;                  /* out: candidates scored in the end */
} Request;

typedef struct {
    float lower, upper;
    int64_t slot;
} Candidate;

typedef struct {
    Candidate *items;
    int64_t count, room, own;
} List;

typedef struct {
    const Block *block;
    int64_t first, stop;               /* pairs of groups */
} Task;

typedef struct {
    Request *request;
    const Lanes *lanes;
    Queries queries;
    List *lists;                       /* [threads][count] */
    _Atomic float *threshold;          /* [count]: k rows score at least that */
    Task *tasks;
    int64_t task_count, by_tile;
    _Atomic int64_t next, spare, rescored;
    _Atomic int failed;
} Search;

typedef struct {
    float *threshold, *base;           /* [count], padded to whole tiles */
    float *lowers;                     /* room for the longest list */
    int64_t lowers_room;
} Local;

/* Put the k-th largest number at its place, larger ones before it. */
static float kth_largest(float *numbers, int64_t count, int64_t k)
{
    int64_t low = 0, high = count - 1;
    while (low < high) {
        float pivot = numbers[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (numbers[i] > pivot) i++;
            while (numbers[j] < pivot) j--;
            if (i <= j) {
                float swapped = numbers[i];
                numbers[i++] = numbers[j];
                numbers[j--] = swapped;
            }
        }
        if (k - 1 <= j)
            high = j;
        else if (k - 1 >= i)
            low = i;
        else
            break;
    }
    return numbers[k - 1];
}

static void raise_threshold(_Atomic float *at, float reached)
{
    float known = atomic_load_explicit(at, memory_order_relaxed);
    while (known < reached && !atomic_compare_exchange_weak(at, &known, reached)) {
    }
}

/* Drop what k others beat; make room, or give the query up. */
static void prune(Search *search, Local *local, List *list, int64_t query)
{
    const Request *request = search->request;
    if (list->count > local->lowers_room) {
        float *more = realloc(local->lowers, (size_t)list->room * sizeof *more);
        if (!more) {
            search->failed = 1;
            list->count = 0;
            return;
        }
        local->lowers = more;
        local->lowers_room = list->room;
    }
    float reached = atomic_load_explicit(&search->threshold[query], memory_order_relaxed);
    if (list->count >= request->k) {
        for (int64_t i = 0; i < list->count; i++) local->lowers[i] = list->items[i].lower;
        float kth = kth_largest(local->lowers, list->count, request->k);
        if (kth > reached) reached = kth;
    }
    int64_t kept = 0;
    for (int64_t i = 0; i < list->count; i++)
        if (list->items[i].upper >= reached) list->items[kept++] = list->items[i];
    list->count = kept;
    if (4 * kept > 3 * list->room) {
        int64_t more = list->room;
        Candidate *items = NULL;
        if (atomic_fetch_sub(&search->spare, more) >= more)
            items = malloc((size_t)(list->room + more) * sizeof *items);
        if (items) {
            memcpy(items, list->items, (size_t)kept * sizeof *items);
            if (list->own) free(list->items);
            *list = (List){items, kept, list->room + more, 1};
        } else {
            atomic_fetch_add(&search->spare, more);
            list->count = 0;
            reached = INFINITY;
        }
    }
    raise_threshold(&search->threshold[query], reached);
    local->threshold[query] = reached;
    local->base[query] = reached - search->queries.slack[query];
}

static int is_barred(const Request *request, int64_t query, int64_t slot)
{
    if (!request->barred_starts) return 0;
    int64_t low = request->barred_starts[query], high = request->barred_starts[query + 1];
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (request->barred[middle] < slot)
            low = middle + 1;
        else
            high = middle;
    }
    return low < request->barred_starts[query + 1] && request->barred[low] == slot;
}

static void collect(Search *search, Local *local, int64_t thread, const Block *block, int64_t pair,
                    int64_t tile, const Tile *found)
{
    const Request *request = search->request;
    const Queries *queries = &search->queries;
    int64_t first = tile * search->by_tile, virtual = search->lanes->virtual_queries;
    for (int64_t n = 0; n < search->by_tile && first + n < request->count; n++)
        for (int64_t g = 0; g < 2; g++)
            for (uint32_t hits = found->hits[g][n]; hits; hits &= hits - 1) {
                int64_t at = __builtin_ctz(hits), row = pair * PAIR + g * GROUP + at;
                int64_t query = first + n, number = tile * virtual + n;
                if (row >= block->rows || (block->out && block->out[row])) continue;
                float score = found->scores[g][n][at];
                float error = block->rho[row] * queries->reach[number] +
                              block->sigma[row] * queries->blur[number] + block->tau[row] +
                              queries->slack[query];
                if (!(score + error >= local->threshold[query])) continue;
                if (is_barred(request, query, block->start + row)) continue;
                List *list = &search->lists[thread * request->count + query];
                list->items[list->count++] =
                    (Candidate){score - error, score + error, block->start + row};
                if (list->count == list->room) prune(search, local, list, query);
            }
}

static int make_local(Local *local, const Search *search)
{
    int64_t padded = (search->queries.tiles + 1) * search->by_tile;
    local->lowers_room = 0;
    local->lowers = NULL;
    local->threshold = malloc((size_t)padded * sizeof *local->threshold);
    local->base = malloc((size_t)padded * sizeof *local->base);
    if (!local->threshold || !local->base) return -1;
    for (int64_t query = 0; query < padded; query++)
        local->threshold[query] = local->base[query] = INFINITY;
    return 0;
}

static void scan(void *shared, int64_t thread)
{
    Search *search = shared;
    const Request *request = search->request;
    const Queries *queries = &search->queries;
    const int64_t dim = request->space->dim;
    Local local = {0};
    Tile found;
    float *scratch = NULL;
    if (!request->planes) scratch = malloc((size_t)(PAIR * dim) * sizeof *scratch);
    if (make_local(&local, search) || (!request->planes && !scratch)) search->failed = 1;
    while (!search->failed) {
        int64_t number = atomic_fetch_add(&search->next, 1);
        if (number >= search->task_count) break;
        Task task = search->tasks[number];
        for (int64_t query = 0; query < request->count; query++) {
            local.threshold[query] =
                atomic_load_explicit(&search->threshold[query], memory_order_relaxed);
            local.base[query] = local.threshold[query] - queries->slack[query];
        }
        for (int64_t pair = task.first; pair < task.stop; pair++) {
            for (int64_t tile = 0; tile < queries->tiles; tile++) {
                int any = request->planes
                              ? search->lanes->tile(task.block, pair, dim, queries, tile, local.base,
                                                    &found)
                              : search->lanes->plain_tile(task.block, pair, request->space, queries,
                                                          tile, local.base, scratch, &found);
                if (any) collect(search, &local, thread, task.block, pair, tile, &found);
            }
        }
    }
    free(local.threshold);
    free(local.base);
    free(local.lowers);
    free(scratch);
}

/* ---- the last word ----------------------------------------------------------------------- */

/* The answer of one query as a heap: its worst row first, until it is sorted. */
typedef struct {
    int64_t *ids;
    float *similarity;
    int64_t count, k;
} Best;

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

static int64_t decide(Search *search, int64_t query, Candidate *items, int64_t count, float *lowers,
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

static void finish(void *shared, int64_t thread)
{
    Search *search = shared;
    const Request *request = search->request;
    Candidate *items = NULL;
    float *lowers = NULL;
    double *scratch = malloc((size_t)(2 * request->space->dim + 16) * sizeof *scratch);
    int64_t room = 0;
    (void)thread;
    if (!scratch) search->failed = 1;
    while (!search->failed) {
        int64_t query = atomic_fetch_add(&search->next, 1), count = 0;
        if (query >= request->count) break;
        if (search->threshold[query] == INFINITY) {
            request->given_up[query] = 1;
            continue;
        }
        for (int64_t t = 0; t < request->threads; t++)
            count += search->lists[t * request->count + query].count;
        if (count > room) {
            room = 2 * count;
            free(items);
            free(lowers);
            items = malloc((size_t)room * sizeof *items);
            lowers = malloc((size_t)room * sizeof *lowers);
            if (!items || !lowers) {
                search->failed = 1;
                break;
            }
        }
        count = 0;
        for (int64_t t = 0; t < request->threads; t++) {
            const List *list = &search->lists[t * request->count + query];
            memcpy(items + count, list->items, (size_t)list->count * sizeof *items);
            count += list->count;
        }
        search->rescored += decide(search, query, items, count, lowers, scratch);
    }
    free(items);
    free(lowers);
    free(scratch);
}

static void prepare_some(void *shared, int64_t thread)
{
    Search *search = shared;
    Request *request = search->request;
    double *scratch = malloc((size_t)(2 * request->space->dim + 16) * sizeof *scratch);
    (void)thread;
    if (!scratch) search->failed = 1;
    while (!search->failed) {
        int64_t first = atomic_fetch_add(&search->next, SOME), stop = first + SOME;
        if (first >= request->count) break;
        if (stop > request->count) stop = request->count;
        search->lanes->prepare(request->space, request->queries, request->sizes, request->planes,
                               first, stop, &search->queries, request->shift, scratch);
    }
    free(scratch);
}

static int make_queries(Search *search)
{
    Request *request = search->request;
    Queries *queries = &search->queries;
    const int64_t virtual = search->lanes->virtual_queries;
    const int64_t planes = request->planes ? request->planes : 1;
    search->by_tile = virtual / planes;
    queries->count = request->count;
    queries->planes = planes;
    queries->tiles = (request->count + search->by_tile - 1) / search->by_tile;
    if (!request->planes) {
        queries->plain = request->plain;
        queries->reach = request->reach;
        queries->blur = request->blur;
        queries->slack = request->slack;
        queries->weights = request->weights;
        return 0;
    }
    size_t padded = (size_t)(queries->tiles * virtual);
    size_t quads = (size_t)((request->space->dim + 3) / 4);
    queries->pack = calloc(padded * quads * (size_t)search->lanes->words, 4);
    queries->offset = calloc(padded, 4);
    queries->beta = calloc(padded, 4);
    queries->reach = calloc(padded, 4);
    queries->blur = calloc(padded, 4);
    queries->slack = calloc((size_t)request->count, 4);
    if (!queries->pack || !queries->offset || !queries->beta || !queries->reach ||
        !queries->blur || !queries->slack)
        return -1;
    search->next = 0;
    spread(prepare_some, search, request->count > SOME ? request->threads : 1);
    return search->failed ? -1 : 0;
}

static int make_tasks(Search *search)
{
    const Request *request = search->request;
    int64_t pairs = 0, number = 0;
    for (int64_t b = 0; b < request->block_count; b++)
        pairs += (request->blocks[b].rows + PAIR - 1) / PAIR;
    int64_t step = pairs / (32 * request->threads);
    step = step < 1 ? 1 : step > 64 ? 64 : step;
    search->tasks = malloc((size_t)(pairs / step + request->block_count + 1) * sizeof(Task));
    if (!search->tasks) return -1;
    for (int64_t b = 0; b < request->block_count; b++) {
        int64_t stop = (request->blocks[b].rows + PAIR - 1) / PAIR;
        for (int64_t first = 0; first < stop; first += step)
            search->tasks[number++] = (Task){&request->blocks[b], first,
                                             first + step < stop ? first + step : stop};
    }
    search->task_count = number;
    return 0;
}

/* Answer queries; those with given_up set have more candidates than there is room for. Returns 0,
   or -1 where memory ran out. Lists must be [count][k]; the caller fills what is not found. */
PUBLIC int recollect_search(Request *request)
{
    Search search = {.request = request, .lanes = lanes_at(request->lanes)};
    if (request->threads > MOST_THREADS) request->threads = MOST_THREADS;
    int64_t many = request->threads * request->count, room = 4 * request->k + 64;
    Candidate *slab = malloc((size_t)(many * room) * sizeof *slab);
    search.lists = malloc((size_t)many * sizeof *search.lists);
    search.threshold = malloc((size_t)request->count * sizeof *search.threshold);
    search.spare = request->room;
    int failed = !slab || !search.lists || !search.threshold || make_queries(&search) ||
                 make_tasks(&search);
    if (!failed) {
        for (int64_t i = 0; i < many; i++) search.lists[i] = (List){slab + i * room, 0, room, 0};
        for (int64_t query = 0; query < request->count; query++)
            atomic_init(&search.threshold[query], -FLT_MAX);
        search.next = 0;
        spread(scan, &search,
               search.task_count < request->threads ? search.task_count : request->threads);
        search.next = 0;
        if (!search.failed) spread(finish, &search, request->count > 3 ? request->threads : 1);
        failed = search.failed;
        for (int64_t i = 0; i < many; i++)
            if (search.lists[i].own) free(search.lists[i].items);
    }
    request->rescored = search.rescored;
    if (request->planes) {
        free(search.queries.pack);
        free(search.queries.offset);
        free(search.queries.beta);
        free(search.queries.reach);
        free(search.queries.blur);
        free(search.queries.slack);
    }
    free(search.tasks);
    free(search.threshold);
    free(search.lists);
    free(slab);
    return failed ? -1 : 0;
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
