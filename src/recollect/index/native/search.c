/* A search over all blocks: threads take rows, keep what can be among the k nearest of each query,
   and in the end score these in the one way that decides (see ../quantized.py for the proof). */

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "search.h"

enum { TOGETHER = 8 };              /* tiles of queries that meet the same rows in turn */

typedef struct {
    float *threshold, *base;           /* [count], padded to whole tiles */
    float *lowers;                     /* room for the longest list */
    int64_t lowers_room;
} Local;

/* Put the k-th largest number at its place, larger ones before it. */
float kth_largest(float *numbers, int64_t count, int64_t k)
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
    if (2 * kept > list->room) {
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

int is_barred(const Request *request, int64_t query, int64_t slot)
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

static void collect(Search *search, Local *local, List *lists, const Block *block, int64_t pair,
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
                List *list = &lists[query];
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

static void scan_tile(Search *search, Local *local, List *lists, const Block *block,
                      int64_t pair, int64_t tile, float *scratch)
{
    const Request *request = search->request;
    Tile found;
    int any = request->planes
                  ? search->lanes->tile(block, pair, request->space->dim, &search->queries, tile,
                                        local->base, &found)
                  : search->lanes->plain_tile(block, pair, request->space, &search->queries, tile,
                                              local->base, scratch, &found);
    if (any) collect(search, local, lists, block, pair, tile, &found);
}

/* Score rows for some tiles of queries. */
static void scan_task(Search *search, Local *local, List *lists, Task task, int64_t first,
                      int64_t stop, float *scratch)
{
    int64_t last = stop * search->by_tile;
    if (last > search->request->count) last = search->request->count;
    for (int64_t query = first * search->by_tile; query < last; query++) {
        local->threshold[query] =
            atomic_load_explicit(&search->threshold[query], memory_order_relaxed);
        local->base[query] = local->threshold[query] - search->queries.slack[query];
    }
    for (int64_t pair = task.first; pair < task.stop; pair++)
        for (int64_t tile = first; tile < stop; tile++)
            scan_tile(search, local, lists, task.block, pair, tile, scratch);
}

/* Many queries are shared out among the threads, so that each has one list and its bar rises as
   fast as it can; of few queries every thread takes all, and its share of the rows. */
static void scan_some(Search *search, Local *local, int64_t thread, float *scratch)
{
    const int64_t tiles = search->queries.tiles, group = search->group;
    for (;;) {
        int64_t number = atomic_fetch_add(&search->next, 1);
        if (!group) {
            if (number >= search->task_count || search->failed) return;
            scan_task(search, local, &search->lists[thread * search->request->count],
                      search->tasks[number], 0, tiles, scratch);
            continue;
        }
        int64_t first = number * group, stop = first + group < tiles ? first + group : tiles;
        if (first >= tiles) return;
        for (int64_t task = 0; task < search->task_count && !search->failed; task++)
            scan_task(search, local, search->lists, search->tasks[task], first, stop, scratch);
    }
}

static void scan(void *shared, int64_t thread)
{
    Search *search = shared;
    const Request *request = search->request;
    Local local = {0};
    float *scratch = NULL;
    if (!request->planes)
        scratch = malloc((size_t)(PAIR * request->space->dim) * sizeof *scratch);
    if (make_local(&local, search) || (!request->planes && !scratch)) search->failed = 1;
    if (!search->failed) scan_some(search, &local, thread, scratch);
    free(local.threshold);
    free(local.base);
    free(local.lowers);
    free(scratch);
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
        for (int64_t t = 0; t < search->shares; t++)
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
        for (int64_t t = 0; t < search->shares; t++) {
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

int make_tasks(Search *search)
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

/* Say how threads divide the work; see scan_some. */
static void share_out(Search *search)
{
    const Request *request = search->request;
    const int64_t by_tile = search->lanes->virtual_queries / (request->planes ? request->planes : 1);
    const int64_t tiles = (request->count + by_tile - 1) / by_tile, threads = request->threads;
    search->group = 0;
    if (tiles >= TOGETHER / 2 * threads) {
        int64_t rounds = (tiles + TOGETHER * threads - 1) / (TOGETHER * threads);
        search->group = (tiles + rounds * threads - 1) / (rounds * threads);
    }
    search->shares = search->group ? 1 : threads;
}

/* Answer queries; those with given_up set have more candidates than there is room for. Returns 0,
   or -1 where memory ran out. Lists must be [count][k]; the caller fills what is not found. */
PUBLIC int recollect_search(Request *request)
{
    Search search = {.request = request, .lanes = lanes_at(request->lanes)};
    if (request->threads > MOST_THREADS) request->threads = MOST_THREADS;
    share_out(&search);
    int64_t many = search.shares * request->count, room = 4 * request->k + 64;
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
        int64_t parts = search.group ? request->count : search.task_count;
        spread(scan, &search, parts < request->threads ? parts : request->threads);
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
