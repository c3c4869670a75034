/* The arithmetic of a search, compiled once for each instruction set with -DLANES_<name>.

   What decides an answer (measure, similarities) repeats ../scoring.py operation by operation in
   float64, so it has NumPy's bits; the file must be compiled with -ffp-contract=off. */

#include <float.h>
#include <math.h>
#include <string.h>

#include "fold.h"
#include "kernel.h"

#if defined(LANES_avx512vnni) || defined(LANES_avx512) || defined(LANES_avx2)
#include <immintrin.h>
#elif defined(LANES_dotprod)
#include <arm_neon.h>
#endif

#if defined(LANES_avx512vnni)
#define NAME avx512vnni
#define VIRTUAL 12
#define WORDS 1
#define SIGNED 0
#define FEW 4
#elif defined(LANES_avx512)
#define NAME avx512
#define FEW 0
#define VIRTUAL 8
#define WORDS 2
#define SIGNED 0
#elif defined(LANES_avx2)
#define NAME avx2
#define VIRTUAL 4
#define WORDS 2
#define SIGNED 0
#elif defined(LANES_dotprod)
#define NAME dotprod
#define VIRTUAL 4
#define WORDS 1
#define SIGNED 1
#else
#define NAME plain
#define VIRTUAL 4
#define WORDS 1
#define SIGNED 0
#endif

#define JOINED(name) lanes_##name
#define EXPORTED(name) JOINED(name)
#define SPELLED(name) #name
#define QUOTED(name) SPELLED(name)

#define UNIT 0x1p-24    /* as in ../coarse.py */
#define FLOOR 1e-30
#define WIDER (1 + 1e-6) /* covers the float32 arithmetic on bounds */
#define SMALLEST 1e-30  /* vectors without a larger number are not quantized */
#define NEAREST 0x1.8p52 /* adding and subtracting this rounds to the nearest integer */

/* ---- keys of every type ------------------------------------------------------------------ */

static float from_half(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31;
    uint32_t fraction = half & 0x3ff, bits;
    float number;
    if (!exponent) {
        number = (float)fraction * 0x1p-24f;
        return sign ? -number : number;
    }
    bits = sign | (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static void widen(const void *key, int64_t dtype, int64_t dim, double *out)
{
    if (dtype == FLOAT32)
        for (int64_t j = 0; j < dim; j++) out[j] = ((const float *)key)[j];
    else if (dtype == UINT8)
        for (int64_t j = 0; j < dim; j++) out[j] = ((const uint8_t *)key)[j];
    else
        for (int64_t j = 0; j < dim; j++) out[j] = from_half(((const uint16_t *)key)[j]);
}

static const char *key_at(const void *keys, int64_t dtype, int64_t dim, int64_t row)
{
    static const int64_t bytes[] = {4, 2, 1};
    return (const char *)keys + row * dim * bytes[dtype];
}

/* ---- the similarity that decides: ../scoring.py ------------------------------------------ */

#define DOT_TERM(j) ((double)query[j] * (double)key[j])
#define SQUARE_TERM(j) (((double)query[j] - (double)key[j]) * ((double)query[j] - (double)key[j]))
#define WEIGHED_TERM(j) (fabs((double)query[j] - (double)key[j]) * weights[j])
#define PLAIN_TERM(j) fabs((double)query[j] - (double)key[j])
/* The first fold is made while the terms are formed. */
#define FOLDED(TERM)                                                                            \
    do {                                                                                        \
        int64_t half = dim > 8 ? dim / 2 : 0, kept = dim - half;                                \
        INDEPENDENT                                                                             \
        for (int64_t j = 0; j < half; j++) terms[j] = TERM(j) + TERM(kept + j);                 \
        for (int64_t j = half; j < kept; j++) terms[j] = TERM(j);                               \
        total = fold(terms, kept);                                                              \
    } while (0)
#define TOTAL(TYPE, KEY)                                                                        \
    do {                                                                                        \
        const TYPE *key = (KEY);                                                                \
        if (metric == COSINE || metric == DOT)                                                  \
            FOLDED(DOT_TERM);                                                                   \
        else if (metric == EUCLIDEAN)                                                           \
            FOLDED(SQUARE_TERM);                                                                \
        else if (weights)                                                                       \
            FOLDED(WEIGHED_TERM);                                                               \
        else                                                                                    \
            FOLDED(PLAIN_TERM);                                                                 \
    } while (0)

static double clipped(double score, double limit)
{
    return score > limit ? limit : score < -limit ? -limit : score;
}

static float similarity(const Space *space, const float *query, double query_size, const void *at,
                        int64_t dtype, double size, double *terms)
{
    const int64_t dim = space->dim, metric = space->metric;
    const double *weights = space->weights;
    double total;
    if (dtype == FLOAT32) {
        TOTAL(float, at);
    } else {
        double *wide = terms + dim;
        widen(at, dtype, dim, wide);
        TOTAL(double, wide);
    }
    if (metric == COSINE)
        total = clipped(total / (query_size * size), 1.0);
    else if (metric != DOT)
        total = -(metric == EUCLIDEAN ? sqrt(total) : total);
    return (float)(clipped(total, (double)FLT_MAX) + 0.0);
}

static void similarities(const Space *space, const float *query, double query_size, int64_t n,
                         const void *const *keys, const int64_t *dtypes, const double *sizes,
                         float *result, double *terms)
{
    for (int64_t i = 0; i < n; i++) {
        if (i + 2 < n) /* rows lie far apart; ask for the next but one while this is scored */
            for (int64_t byte = 0; byte < space->dim * 4 && byte < 4096; byte += 64)
                __builtin_prefetch((const char *)keys[i + 2] + byte);
        result[i] = similarity(space, query, query_size, keys[i], dtypes[i], sizes[i], terms);
    }
}

static void measure(const void *keys, int64_t dtype, int64_t n, int64_t dim, int64_t manhattan,
                    const double *weights, double *sizes, double *terms)
{
    for (int64_t i = 0; i < n; i++) {
        widen(key_at(keys, dtype, dim, i), dtype, dim, terms);
        if (manhattan)
            for (int64_t j = 0; j < dim; j++) terms[j] = fabs(terms[j]) * weights[j];
        else
            for (int64_t j = 0; j < dim; j++) terms[j] *= terms[j];
        double total = fold(terms, dim);
        sizes[i] = manhattan ? total : sqrt(total);
    }
}

/* ---- int8 codes -------------------------------------------------------------------------- */

static double length(const double *vector, int64_t dim)
{
    double sums[8] = {0}, total = 0;
    int64_t j = 0;
    for (; j + 8 <= dim; j += 8)
        for (int l = 0; l < 8; l++) sums[l] += vector[j + l] * vector[j + l];
    for (; j < dim; j++) total += vector[j] * vector[j];
    for (int l = 0; l < 8; l++) total += sums[l];
    return sqrt(total);
}

static double product(const double *vector, const float *center, int64_t dim)
{
    double sums[8] = {0}, total = 0;
    int64_t j = 0;
    for (; j + 8 <= dim; j += 8)
        for (int l = 0; l < 8; l++) sums[l] += vector[j + l] * (double)center[j + l];
    for (; j < dim; j++) total += vector[j] * (double)center[j];
    for (int l = 0; l < 8; l++) total += sums[l];
    return total;
}

static double largest(const double *vector, int64_t dim)
{
    double tops[8] = {0}, top = 0;
    int64_t j = 0;
    for (; j + 8 <= dim; j += 8)
        for (int l = 0; l < 8; l++)
            tops[l] = fabs(vector[j + l]) > tops[l] ? fabs(vector[j + l]) : tops[l];
    for (; j < dim; j++) top = fabs(vector[j]) > top ? fabs(vector[j]) : top;
    for (int l = 0; l < 8; l++) top = tops[l] > top ? tops[l] : top;
    return top;
}

/* Write codes from -127 to 127, leave vector - step * code in vector, and return the step. */
static float encode(double *vector, int64_t dim, int8_t *codes)
{
    double top = largest(vector, dim);
    if (!(top > SMALLEST)) {
        memset(codes, 0, (size_t)dim);
        return 0;
    }
    float step = (float)(top / 127 * (1 + 0x1p-22));
    double inverse = 1 / (double)step;
    for (int64_t j = 0; j < dim; j++) {
        double code = vector[j] * inverse + NEAREST - NEAREST;
        codes[j] = (int8_t)(int32_t)code;
        vector[j] -= code * (double)step;
    }
    return step;
}

static float wider(double bound) { return (float)(bound * WIDER); }

/* Take the center off a row or a query; the product of the two then needs the shift. */
static void centered(const Space *space, double *vector, double size, int is_query)
{
    const int64_t dim = space->dim;
    if (space->metric == COSINE || (space->metric == DOT && is_query)) {
        double inverse = 1 / size;
        for (int64_t j = 0; j < dim; j++) vector[j] *= inverse;
    }
    if (space->metric != DOT || !is_query)
        for (int64_t j = 0; j < dim; j++) vector[j] -= (double)space->center[j];
}

static void quantize(const Space *space, const void *keys, int64_t dtype, const double *sizes,
                     const uint8_t *regular, int64_t first, int64_t stop, uint8_t *codes,
                     float *const *terms, double *scratch)
{
    const int64_t dim = space->dim, quads = (dim + 3) / 4;
    double center = 0;
    for (int64_t j = 0; j < dim; j++) center += (double)space->center[j] * space->center[j];
    center = sqrt(center);
    int8_t *row_codes = (int8_t *)(scratch + dim);
    memset(row_codes, 0, (size_t)(4 * quads));
    for (int64_t row = first; row < stop; row++) {
        double size = 0, step = 0, term = 0, rest = 0, slack = 0;
        if (regular && !regular[row]) {
            memset(row_codes, 0, (size_t)dim); /* such rows are marked as out, too */
        } else {
            widen(key_at(keys, dtype, dim, row), dtype, dim, scratch);
            centered(space, scratch, sizes[row], 0);
            size = length(scratch, dim);
            if (space->metric == COSINE) {
                term = product(scratch, space->center, dim);
                slack = 8 * UNIT * fabs(term);
            } else if (space->metric == EUCLIDEAN) {
                term = -size * size;
                slack = 16 * UNIT * size * size;
            } else {
                slack = 8 * UNIT * (sizes[row] + center);
            }
            step = (double)encode(scratch, dim, row_codes);
            rest = length(scratch, dim);
        }
        terms[0][row] = (float)step;
        terms[1][row] = (float)term;
        terms[2][row] = wider(rest);
        terms[3][row] = wider(size);
        terms[4][row] = wider(slack + FLOOR);
        uint8_t *into = codes + row / GROUP * quads * 64 + row % GROUP * 4;
        for (int64_t quad = 0; quad < quads; quad++) {
            uint32_t four;
            memcpy(&four, row_codes + 4 * quad, 4);
            four ^= 0x80808080u; /* adds 128 to each */
            memcpy(into + quad * 64, &four, 4);
        }
    }
    for (int64_t group = first / GROUP; group * GROUP < stop; group++)
        for (int bound = 0; bound < 3; bound++) {
            float top = 0;
            for (int64_t row = group * GROUP; row < (group + 1) * GROUP; row++)
                top = terms[2 + bound][row] > top ? terms[2 + bound][row] : top;
            terms[5 + bound][group] = top;
        }
}

static void pack(const int8_t *codes, int64_t quads, int64_t stride, int32_t *into)
{
    for (int64_t quad = 0; quad < quads; quad++) {
        const int8_t *four = codes + 4 * quad;
#if WORDS == 1
        memcpy(into + quad * stride, four, 4);
#else
        int16_t even[2] = {four[0], four[2]}, odd[2] = {four[1], four[3]};
        memcpy(into + quad * stride, even, 4);
        memcpy(into + quad * stride + 1, odd, 4);
#endif
    }
}

static void prepare(const Space *space, const float *queries, const double *sizes, int64_t planes,
                    int64_t first, int64_t stop, Queries *into, double *shift, double *scratch)
{
    const int64_t dim = space->dim, quads = (dim + 3) / 4, stride = VIRTUAL * WORDS;
    const int64_t by_tile = VIRTUAL / planes;
    int8_t *codes = (int8_t *)(scratch + dim);
    memset(codes, 0, (size_t)(4 * quads));
    double center = 0;
    for (int64_t j = 0; j < dim; j++) center += (double)space->center[j] * space->center[j];
    for (int64_t query = first; query < stop; query++) {
        int64_t tile = query / by_tile, number = query % by_tile;
        widen(queries + query * dim, FLOAT32, dim, scratch);
        centered(space, scratch, sizes[query], 1);
        double size = length(scratch, dim), slack = FLOOR;
        if (space->metric == COSINE) {
            shift[query] = product(scratch, space->center, dim) + center;
            slack += 8 * UNIT;
        } else if (space->metric == DOT) {
            shift[query] = product(scratch, space->center, dim);
        } else {
            shift[query] = size * size;
            slack += 8 * UNIT * size * size;
            size *= 2;
            for (int64_t j = 0; j < dim; j++) scratch[j] *= 2;
        }
        for (int64_t plane = 0; plane < planes; plane++) {
            int64_t at = tile * VIRTUAL + number * planes + plane;
            into->beta[at] = encode(scratch, dim, codes);
            int32_t sum = 0;
            for (int64_t j = 0; j < dim; j++) sum += codes[j];
            into->offset[at] = SIGNED ? 0 : -128 * sum;
            pack(codes, quads, stride,
                 into->pack + tile * quads * stride + (number * planes + plane) * WORDS);
        }
        double rest = length(scratch, dim), reach = size + rest;
        into->reach[tile * VIRTUAL + number] = wider(reach);
        into->blur[tile * VIRTUAL + number] = wider(rest + 16 * UNIT * reach);
        into->slack[query] = wider(slack);
    }
}
#include "tiles.h"

const Lanes EXPORTED(NAME) = {
    QUOTED(NAME), VIRTUAL, WORDS, tile, plain_tile, similarities, measure, quantize, prepare,
};
