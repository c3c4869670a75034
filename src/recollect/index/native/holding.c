/* What the cells of a memory hold that a query matched: the mean of their shares of classes, with
   NumPy's bits (../../heads/dense_memory/layout.py). Nothing of Python here. */

#include <stdint.h>
#include <stdlib.h>

#define PUBLIC __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

enum { AHEAD = 12 };

typedef struct {
    int64_t cells, k, wide, classes;
    const uint32_t *counts;            /* [cells of the memory][wide] */
    const int64_t *columns;            /* [classes]: columns of counts, in the order wanted */
    const double *raised;              /* [classes]: what a share is multiplied with; or NULL */
    const int64_t *places;             /* [cells][k], -1 where there is none */
    const double *weights;             /* [cells][k], 0 where there is none */
    double *factors;                   /* out: [cells][k], sums of raised shares; or NULL */
    double *mean;                      /* out, without factors: [cells][classes], zeros before */
} Holding;

/* Shares of classes among what a match holds, raised; returns their sum where it is asked for. */
INLINE double shares_of(const Holding *all, int64_t place, double *restrict shares)
{
    const uint32_t *counts = all->counts + place * all->wide;
    uint64_t total = 0;
    double sum = 0;
    for (int64_t c = 0; c < all->classes; c++) total += counts[all->columns[c]];
    double held = total ? (double)total : 1;
    for (int64_t c = 0; c < all->classes; c++) shares[c] = (double)counts[all->columns[c]] / held;
    if (all->raised)
        for (int64_t c = 0; c < all->classes; c++) shares[c] *= all->raised[c];
    if (all->raised || all->factors)
        for (int64_t c = 0; c < all->classes; c++) sum += shares[c];
    return sum;
}

/* Ask for what a match some places further on holds: they lie far apart. */
INLINE void announce(const Holding *all, int64_t at, int64_t stop)
{
    if (at >= stop || all->places[at] < 0) return;
    const uint32_t *counts = all->counts + all->places[at] * all->wide;
    __builtin_prefetch(counts);
    __builtin_prefetch(counts + all->wide - 1);
}

/* Mean of the classes' shares over the matches of some cells, or only what weights grow by. */
PUBLIC int holding_mean(const Holding *all, int64_t first, int64_t stop)
{
    double *shares = malloc(((size_t)all->classes + 1) * sizeof *shares);
    if (!shares) return -1;
    for (int64_t cell = first; cell < stop; cell++)
        for (int64_t i = 0; i < all->k; i++) {
            double weight = all->weights[cell * all->k + i];
            if (weight == 0) continue;
            int64_t place = all->places[cell * all->k + i];
            announce(all, cell * all->k + i + AHEAD, stop * all->k);
            double sum = shares_of(all, place < 0 ? 0 : place, shares);
            if (all->factors) {
                all->factors[cell * all->k + i] = sum;
                continue;
            }
            double *mean = all->mean + cell * all->classes;
            if (all->raised && sum > 0)
                for (int64_t c = 0; c < all->classes; c++) mean[c] += shares[c] / sum * weight;
            else
                for (int64_t c = 0; c < all->classes; c++) mean[c] += shares[c] * weight;
        }
    free(shares);
    return 0;
}

PUBLIC const char *holding_source(void) { return SOURCE; }
