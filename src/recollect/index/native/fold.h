/* The order in which the terms of one similarity are added: ../scoring.py. They are folded in half
   until eight or fewer are left, and those are added from left to right, so that a pair has the
   same bits wherever it is compared. Compile with -ffp-contract=off. */

#ifndef RECOLLECT_FOLD_H
#define RECOLLECT_FOLD_H

#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

INLINE double fold(double *restrict terms, int64_t width)
{
    while (width > 8) {
        int64_t half = width / 2, kept = width - half;
        INDEPENDENT
        for (int64_t j = 0; j < half; j++) terms[j] += terms[kept + j];
        width = kept;
    }
    double total = terms[0];
    for (int64_t j = 1; j < width; j++) total += terms[j];
    return total;
}

#endif
