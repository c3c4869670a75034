/* Shared by the files that drive a search: threads.c starts its threads, intake.c measures and
   quantizes rows, search.c finds what can be among the nearest, decide.c says what is. */

#ifndef RECOLLECT_SEARCH_H
#define RECOLLECT_SEARCH_H

#include <stdatomic.h>
#include <stdint.h>

#include "kernel.h"

#define PUBLIC __attribute__((visibility("default")))

enum { SOME = 32, AT_ONCE = 16, MOST_THREADS = 256 };

/* The sets of instructions that this processor has, best first; NULL after the last. */
const Lanes *lanes_at(int64_t number);

/* Run work on several threads; it must be done when only the first of them ran. */
void spread(void (*work)(void *, int64_t), void *shared, int64_t threads);

const char *row_at(const void *keys, int64_t dtype, int64_t dim, int64_t row);

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
    List *lists;                       /* [shares][count] */
    int64_t shares;                    /* lists of a query: one, or one for each thread */
    int64_t group;                     /* tiles that one thread takes over all rows; or 0 */
    _Atomic float *threshold;          /* [count]: k rows score at least that */
    Task *tasks;
    int64_t task_count, by_tile;
    _Atomic int64_t next, spare, rescored;
    _Atomic int failed;
} Search;

/* The answer of one query as a heap: its worst row first, until it is sorted. */
typedef struct {
    int64_t *ids;
    float *similarity;
    int64_t count, k;
} Best;

/* Put the k-th largest number at its place, larger ones before it. */
float kth_largest(float *numbers, int64_t count, int64_t k);

int is_barred(const Request *request, int64_t query, int64_t slot);

int make_tasks(Search *search);

/* Score the candidates of a query until no other can be among its best; returns how many were. */
int64_t decide(Search *search, int64_t query, Candidate *items, int64_t count, float *lowers,
               double *scratch);

#endif
