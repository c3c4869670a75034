/* Rows as they come in: their sizes, and their codes. */

#include <stdlib.h>

#include "search.h"

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

const char *row_at(const void *keys, int64_t dtype, int64_t dim, int64_t row)
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
