/* The arithmetic of a search, compiled once for each instruction set with -DLANES_<name>.

   What decides an answer (measure, similarities) repeats ../scoring.py operation by operation in
   float64, so it has NumPy's bits; the file must be compiled with -ffp-contract=off. */

#include <float.h>
#include <math.h>
#include <string.h>

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

#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

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

static double fold(double *terms, int64_t width)
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

/* ---- limits ------------------------------------------------------------------------------ */

/* What a row of each group must score at least to be among the best of each query. */
static void limits(const Block *block, int64_t pair, const Queries *queries, int64_t tile,
                   const float *base, float limit[2][MOST_VIRTUAL])
{
    const int64_t by_tile = VIRTUAL / queries->planes;
    const float *reach = queries->reach + tile * VIRTUAL, *blur = queries->blur + tile * VIRTUAL;
    base += tile * by_tile;
    for (int g = 0; g < 2; g++) {
        float rho = block->group_rho[2 * pair + g], sigma = block->group_sigma[2 * pair + g];
        float tau = block->group_tau[2 * pair + g];
        for (int n = 0; n < VIRTUAL; n++)
            limit[g][n] = n < by_tile ? base[n] - (rho * reach[n] + sigma * blur[n] + tau) : 0;
    }
}

static int64_t virtual_in(const Queries *queries, int64_t tile)
{
    int64_t by_tile = VIRTUAL / queries->planes, left = queries->count - tile * by_tile;
    return (left < by_tile ? left : by_tile) * queries->planes;
}

/* ---- int8 tiles: 32 rows times up to VIRTUAL virtual queries ------------------------------ */

#define INLINE static inline __attribute__((always_inline))

#if defined(LANES_avx512vnni) || defined(LANES_avx512)

/* Written as assembly because GCC 12 copies the sums around the intrinsic: half the speed. */
#define ADD_PRODUCTS(sums, rows, query)                                                         \
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(rows), "v"(query))

INLINE int tile_of(const int NV, const int PLANES, const uint8_t *codes, const float *alpha,
                   const float *term, int64_t quads, const int32_t *pack, const int32_t *offset,
                   const float *beta, float limit[2][MOST_VIRTUAL], Tile *out)
{
    __m512i sums[2][VIRTUAL];
#pragma GCC unroll 12
    for (int n = 0; n < NV; n++) sums[0][n] = sums[1][n] = _mm512_set1_epi32(offset[n]);
#if defined(LANES_avx512vnni)
    if (NV <= FEW) {
        /* Few queries wait for memory: read it in one stream, which it is fastest at. */
        __m512i more[2][3][4];
#pragma GCC unroll 2
        for (int g = 0; g < 2; g++) {
            const uint8_t *at = codes + g * quads * 64;
            int64_t quad = 0;
#pragma GCC unroll 12
            for (int i = 0; i < 3 * NV; i++) more[g][i % 3][i / 3] = _mm512_setzero_si512();
            for (; quad + 4 <= quads; quad += 4) {
#pragma GCC unroll 4
                for (int step = 0; step < 4; step++) {
                    __m512i rows = _mm512_loadu_si512(at + (quad + step) * 64);
#pragma GCC unroll 4
                    for (int n = 0; n < NV; n++) {
                        __m512i query = _mm512_set1_epi32(pack[(quad + step) * VIRTUAL + n]);
                        if (step)
                            ADD_PRODUCTS(more[g][step - 1][n], rows, query);
                        else
                            ADD_PRODUCTS(sums[g][n], rows, query);
                    }
                }
            }
            for (; quad < quads; quad++) {
                __m512i rows = _mm512_loadu_si512(at + quad * 64);
#pragma GCC unroll 4
                for (int n = 0; n < NV; n++)
                    ADD_PRODUCTS(sums[g][n], rows, _mm512_set1_epi32(pack[quad * VIRTUAL + n]));
            }
#pragma GCC unroll 12
            for (int i = 0; i < 3 * NV; i++)
                sums[g][i / 3] = _mm512_add_epi32(sums[g][i / 3], more[g][i % 3][i / 3]);
        }
    }
#endif
    const uint8_t *second = codes + quads * 64;
    for (int64_t quad = NV <= FEW ? quads : 0; quad < quads; quad++) {
        __m512i a = _mm512_loadu_si512(codes + quad * 64);
        __m512i b = _mm512_loadu_si512(second + quad * 64);
        /* The same place of the next pair: 12 KB ahead at a width of 384. */
        _mm_prefetch((const char *)(codes + (2 * quads + quad) * 64), _MM_HINT_T0);
        _mm_prefetch((const char *)(second + (2 * quads + quad) * 64), _MM_HINT_T0);
#if defined(LANES_avx512vnni)
#pragma GCC unroll 12
        for (int n = 0; n < NV; n++) {
            __m512i query = _mm512_set1_epi32(pack[quad * VIRTUAL + n]);
            ADD_PRODUCTS(sums[0][n], a, query);
            ADD_PRODUCTS(sums[1][n], b, query);
        }
#else
        __m512i low = _mm512_set1_epi16(0xff);
        __m512i a_odd = _mm512_srli_epi16(a, 8), b_odd = _mm512_srli_epi16(b, 8);
        a = _mm512_and_si512(a, low), b = _mm512_and_si512(b, low);
#pragma GCC unroll 8
        for (int n = 0; n < NV; n++) {
            __m512i even = _mm512_set1_epi32(pack[(quad * VIRTUAL + n) * 2]);
            __m512i odd = _mm512_set1_epi32(pack[(quad * VIRTUAL + n) * 2 + 1]);
            sums[0][n] = _mm512_add_epi32(sums[0][n],
                                          _mm512_add_epi32(_mm512_madd_epi16(a, even),
                                                           _mm512_madd_epi16(a_odd, odd)));
            sums[1][n] = _mm512_add_epi32(sums[1][n],
                                          _mm512_add_epi32(_mm512_madd_epi16(b, even),
                                                           _mm512_madd_epi16(b_odd, odd)));
        }
#endif
    }
    uint32_t any = 0;
#pragma GCC unroll 2
    for (int g = 0; g < 2; g++) {
        __m512 scale = _mm512_loadu_ps(alpha + g * GROUP), add = _mm512_loadu_ps(term + g * GROUP);
#pragma GCC unroll 12
        for (int n = 0; n < NV / PLANES; n++) {
            __m512 score = _mm512_fmadd_ps(
                _mm512_mul_ps(_mm512_cvtepi32_ps(sums[g][n * PLANES]), scale),
                _mm512_set1_ps(beta[n * PLANES]), add);
            if (PLANES == 2)
                score = _mm512_fmadd_ps(
                    _mm512_mul_ps(_mm512_cvtepi32_ps(sums[g][n * PLANES + 1]), scale),
                    _mm512_set1_ps(beta[n * PLANES + 1]), score);
            uint32_t hits = _mm512_cmp_ps_mask(score, _mm512_set1_ps(limit[g][n]), _CMP_GE_OQ);
            out->hits[g][n] = hits;
            any |= hits;
            _mm512_storeu_ps(out->scores[g][n], score);
        }
    }
    return any != 0;
}

#elif defined(LANES_avx2)

INLINE int tile_of(const int NV, const int PLANES, const uint8_t *codes, const float *alpha,
                   const float *term, int64_t quads, const int32_t *pack, const int32_t *offset,
                   const float *beta, float limit[2][MOST_VIRTUAL], Tile *out)
{
    uint32_t any = 0;
    const __m256i low = _mm256_set1_epi16(0xff);
    for (int g = 0; g < 2; g++) {
        __m256i sums[2][VIRTUAL];
        for (int n = 0; n < NV; n++) sums[0][n] = sums[1][n] = _mm256_set1_epi32(offset[n]);
        for (int64_t quad = 0; quad < quads; quad++) {
            const uint8_t *at = codes + (g * quads + quad) * 64;
            __m256i a = _mm256_loadu_si256((const __m256i *)at);
            __m256i b = _mm256_loadu_si256((const __m256i *)(at + 32));
            __m256i a_odd = _mm256_srli_epi16(a, 8), b_odd = _mm256_srli_epi16(b, 8);
            a = _mm256_and_si256(a, low), b = _mm256_and_si256(b, low);
#pragma GCC unroll 4
            for (int n = 0; n < NV; n++) {
                __m256i even = _mm256_set1_epi32(pack[(quad * VIRTUAL + n) * 2]);
                __m256i odd = _mm256_set1_epi32(pack[(quad * VIRTUAL + n) * 2 + 1]);
                sums[0][n] = _mm256_add_epi32(sums[0][n], _mm256_madd_epi16(a, even));
                sums[1][n] = _mm256_add_epi32(sums[1][n], _mm256_madd_epi16(b, even));
                sums[0][n] = _mm256_add_epi32(sums[0][n], _mm256_madd_epi16(a_odd, odd));
                sums[1][n] = _mm256_add_epi32(sums[1][n], _mm256_madd_epi16(b_odd, odd));
            }
        }
        for (int n = 0; n < NV / PLANES; n++) {
            uint32_t hits = 0;
            for (int h = 0; h < 2; h++) {
                __m256 scale = _mm256_loadu_ps(alpha + g * GROUP + h * 8);
                __m256 score = _mm256_loadu_ps(term + g * GROUP + h * 8);
                for (int p = 0; p < PLANES; p++)
                    score = _mm256_fmadd_ps(
                        _mm256_mul_ps(_mm256_cvtepi32_ps(sums[h][n * PLANES + p]), scale),
                        _mm256_set1_ps(beta[n * PLANES + p]), score);
                __m256 reached = _mm256_cmp_ps(score, _mm256_set1_ps(limit[g][n]), _CMP_GE_OQ);
                hits |= (uint32_t)_mm256_movemask_ps(reached) << (8 * h);
                _mm256_storeu_ps(out->scores[g][n] + h * 8, score);
            }
            out->hits[g][n] = hits;
            any |= hits;
        }
    }
    return any != 0;
}

#else

INLINE int tile_of(const int NV, const int PLANES, const uint8_t *codes, const float *alpha,
                   const float *term, int64_t quads, const int32_t *pack, const int32_t *offset,
                   const float *beta, float limit[2][MOST_VIRTUAL], Tile *out)
{
    uint32_t any = 0;
    for (int g = 0; g < 2; g++) {
        int32_t sums[VIRTUAL][GROUP];
#if defined(LANES_dotprod)
        int32x4_t parts[VIRTUAL][4];
        for (int n = 0; n < NV; n++)
            for (int r = 0; r < 4; r++) parts[n][r] = vdupq_n_s32(0);
        for (int64_t quad = 0; quad < quads; quad++) {
            const uint8_t *at = codes + (g * quads + quad) * 64;
            int8x16_t rows[4];
            for (int r = 0; r < 4; r++)
                rows[r] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(at + 16 * r), vdupq_n_u8(0x80)));
            for (int n = 0; n < NV; n++) {
                int8x16_t query = vreinterpretq_s8_s32(vdupq_n_s32(pack[quad * VIRTUAL + n]));
                for (int r = 0; r < 4; r++) parts[n][r] = vdotq_s32(parts[n][r], rows[r], query);
            }
        }
        for (int n = 0; n < NV; n++)
            for (int r = 0; r < 4; r++) vst1q_s32(sums[n] + 4 * r, parts[n][r]);
        (void)offset;
#else
        for (int n = 0; n < NV; n++)
            for (int r = 0; r < GROUP; r++) sums[n][r] = offset[n];
        for (int64_t quad = 0; quad < quads; quad++) {
            const uint8_t *at = codes + (g * quads + quad) * 64;
            for (int n = 0; n < NV; n++) {
                int8_t four[4];
                memcpy(four, pack + quad * VIRTUAL + n, 4);
                for (int r = 0; r < GROUP; r++)
                    sums[n][r] += at[4 * r] * four[0] + at[4 * r + 1] * four[1] +
                                  at[4 * r + 2] * four[2] + at[4 * r + 3] * four[3];
            }
        }
#endif
        for (int n = 0; n < NV / PLANES; n++) {
            uint32_t hits = 0;
            for (int r = 0; r < GROUP; r++) {
                float score = term[g * GROUP + r];
                for (int p = 0; p < PLANES; p++)
                    score += (float)sums[n * PLANES + p][r] * alpha[g * GROUP + r] *
                             beta[n * PLANES + p];
                out->scores[g][n][r] = score;
                hits |= (uint32_t)(score >= limit[g][n]) << r;
            }
            out->hits[g][n] = hits;
            any |= hits;
        }
    }
    return any != 0;
}

#endif

static int tile(const Block *block, int64_t pair, int64_t dim, const Queries *queries,
                int64_t number, const float *base, Tile *out)
{
    const int64_t quads = (dim + 3) / 4;
    float limit[2][MOST_VIRTUAL];
    limits(block, pair, queries, number, base, limit);
#define TILE(NV, PLANES)                                                                        \
    return tile_of(NV, PLANES, block->codes + pair * PAIR * quads * 4,                          \
                   block->alpha + pair * PAIR, block->term + pair * PAIR, quads,                \
                   queries->pack + number * quads * VIRTUAL * WORDS,                            \
                   queries->offset + number * VIRTUAL, queries->beta + number * VIRTUAL, limit, \
                   out)
    int64_t used = virtual_in(queries, number);
    if (queries->planes == 2) {
        if (used <= 2) TILE(2, 2);
        if (used <= 4) TILE(4, 2);
#if VIRTUAL > 4
        if (used <= 8) TILE(8, 2);
#endif
#if VIRTUAL > 8
        TILE(12, 2);
#endif
    }
    if (used <= 2) TILE(2, 1);
    if (used <= 4) TILE(4, 1);
#if VIRTUAL > 4
    if (used <= 6) TILE(6, 1);
    if (used <= 8) TILE(8, 1);
#endif
#if VIRTUAL > 8
    if (used <= 10) TILE(10, 1);
    TILE(12, 1);
#endif
    return 0;
}

/* ---- float32 tiles ----------------------------------------------------------------------- */

#if defined(LANES_avx512vnni) || defined(LANES_avx512)
#define WIDTH 16
#elif defined(LANES_avx2)
#define WIDTH 8
#else
#define WIDTH 4
#endif
typedef float Vector __attribute__((vector_size(WIDTH * 4), aligned(4), may_alias));
typedef int32_t Bits __attribute__((vector_size(WIDTH * 4)));

INLINE Vector magnitude(Vector terms) { return (Vector)((Bits)terms & 0x7fffffff); }

INLINE float total(Vector terms)
{
#if WIDTH == 16
    return _mm512_reduce_add_ps((__m512)terms);
#else
    float sum = 0;
    for (int l = 0; l < WIDTH; l++) sum += terms[l];
    return sum;
#endif
}

INLINE void dots(const int ROWS, const int QUERIES, const int distances, const float *rows,
                 const float *queries, int64_t dim, const float *weights,
                 float sums[ROWS][QUERIES])
{
    Vector parts[ROWS][QUERIES];
    for (int r = 0; r < ROWS; r++)
        for (int n = 0; n < QUERIES; n++) parts[r][n] = (Vector){0};
    int64_t j = 0;
    for (; j + WIDTH <= dim; j += WIDTH) {
        Vector weight = {0};
        if (distances) weight = *(const Vector *)(weights + j);
        for (int n = 0; n < QUERIES; n++) {
            Vector query = *(const Vector *)(queries + n * dim + j);
            for (int r = 0; r < ROWS; r++) {
                Vector row = *(const Vector *)(rows + r * dim + j);
                Vector left = distances ? magnitude(row - query) : row;
                Vector right = distances ? weight : query;
#if WIDTH == 16
                parts[r][n] = (Vector)_mm512_fmadd_ps((__m512)left, (__m512)right,
                                                      (__m512)parts[r][n]);
#elif WIDTH == 8
                parts[r][n] = (Vector)_mm256_fmadd_ps((__m256)left, (__m256)right,
                                                      (__m256)parts[r][n]);
#else
                parts[r][n] += left * right;
#endif
            }
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int n = 0; n < QUERIES; n++) {
            float sum = total(parts[r][n]);
            for (int64_t i = j; i < dim; i++) {
                float row = rows[r * dim + i], query = queries[n * dim + i];
                sum += distances ? fabsf(row - query) * weights[i] : row * query;
            }
            sums[r][n] = sum;
        }
}

static int plain_tile(const Block *block, int64_t pair, const Space *space,
                      const Queries *queries, int64_t number, const float *base, float *scratch,
                      Tile *out)
{
    const int64_t dim = space->dim, first = pair * PAIR;
    const int64_t rows = block->rows - first < PAIR ? block->rows - first : PAIR;
    const int64_t used = virtual_in(queries, number);
    const float *keys = (const float *)block->keys + first * dim;
    const float *asked = queries->plain + number * VIRTUAL * dim;
    if (block->dtype != FLOAT32) {
        if (!number) /* the tiles of one pair of groups come one after the other */
            for (int64_t i = 0; i < rows * dim; i++)
                scratch[i] = block->dtype == UINT8
                                 ? ((const uint8_t *)block->keys)[first * dim + i]
                                 : from_half(((const uint16_t *)block->keys)[first * dim + i]);
        keys = scratch;
    }
    float limit[2][MOST_VIRTUAL];
    limits(block, pair, queries, number, base, limit);
    uint32_t any = 0;
    memset(out->hits, 0, sizeof out->hits);
    for (int64_t n = 0; n < used;) {
        const int four = used - n >= 4;
        for (int64_t row = 0; row < rows;) {
            const int64_t many = rows - row >= 4 && four ? 4 : 1;
            float sums[4][4];
#define DOTS(ROWS, QUERIES)                                                                      \
    do {                                                                                         \
        float these[ROWS][QUERIES];                                                              \
        if (space->metric == MANHATTAN)                                                          \
            dots(ROWS, QUERIES, 1, keys + row * dim, asked + n * dim, dim, queries->weights,     \
                 these);                                                                         \
        else                                                                                     \
            dots(ROWS, QUERIES, 0, keys + row * dim, asked + n * dim, dim, NULL, these);         \
        for (int r = 0; r < ROWS; r++)                                                           \
            for (int q = 0; q < QUERIES; q++) sums[r][q] = these[r][q];                          \
    } while (0)
            if (many == 4)
                DOTS(4, 4);
            else if (four)
                DOTS(1, 4);
            else
                DOTS(1, 1);
            for (int64_t r = 0; r < many; r++)
                for (int64_t q = 0; q < (four ? 4 : 1); q++) {
                    int64_t g = (row + r) / GROUP, at = (row + r) % GROUP;
                    float score = sums[r][q] * block->alpha[first + row + r] +
                                  block->term[first + row + r];
                    uint32_t hit = score >= limit[g][n + q];
                    out->scores[g][n + q][at] = score;
                    out->hits[g][n + q] |= hit << at;
                    any |= hit;
                }
            row += many;
        }
        n += four ? 4 : 1;
    }
    return any != 0;
}

const Lanes EXPORTED(NAME) = {
    QUOTED(NAME), VIRTUAL, WORDS, tile, plain_tile, similarities, measure, quantize, prepare,
};
