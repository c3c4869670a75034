/* One step of a search from coarse to fine: children of query cells against children of what their
   parent matched. What decides has NumPy's bits (../../heads/dense_memory/search.py): rough
   products, of any order, only say which pairs cannot be among the best. Nothing of Python here. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fold.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define WIDE __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl")))
#define HALF __attribute__((target("avx2")))
#endif

#define PUBLIC __attribute__((visibility("default")))

enum { LANES = 16, SPARE = 4 };        /* widths are padded to a multiple of LANES */

typedef struct {
    int64_t parents, children, above, fan, around, width, k;
    int64_t half;                      /* 1: vectors are float16 */
    const void *vectors;               /* [cells][width] of the memory, of length 1 or less */
    const uint8_t *valid;              /* [cells]: those that take part; NULL: all */
    const int64_t *links;              /* [cells above][fan]: children, -1 where there is none */
    const int64_t *beside;             /* [cells above][around]: neighbors, -1; or NULL */
    const float *queries;              /* [query cells][width] */
    const int64_t *below;              /* [parents][children]: query cells, -1 */
    const int64_t *matches;            /* [parents][above]: cells above, -1 */
    const float *path;                 /* [parents][above]: score of each match; or NULL */
    double carried;                    /* score = own * similarity + carried * path */
    float own, error;                  /* of a rough score: at most this far from the true one */
    int64_t *places;                   /* out: [query cells][k], -1 where there is none */
    float *similarity, *score;         /* out: [query cells][k], -inf */
} Step;

typedef struct { int64_t place; double path; } Candidate;

typedef struct { int64_t place; float similarity, score; } Found;

typedef struct {
    Candidate *candidates;             /* [most] */
    float *rows;                       /* [most][padded] */
    float *asked;                      /* [children][padded] */
    float *rough;                      /* [children][most] */
    double *terms;                     /* [width] */
    Found *found, *spare;              /* [most] */
    int64_t padded, most;
} Room;

/* What is compiled once for each set of instructions. */
typedef struct {
    void (*multiply)(const float *rows, int64_t count, const float *asked, int64_t queries,
                     int64_t padded, float *out, int64_t apart);
    int64_t (*reaching)(const float *numbers, int64_t count, float least);
    float (*similarity)(const float *query, const float *row, int64_t width, double *terms);
} Ways;

/* ---- rough products ---------------------------------------------------------------------- */

#define MULTIPLY(name, instructions, bytes)                                                      \
    instructions static void name(const float *rows, int64_t count, const float *asked,          \
                                  int64_t queries, int64_t padded, float *out, int64_t apart)    \
    {                                                                                            \
        typedef float Vector __attribute__((vector_size(bytes), aligned(4), may_alias));         \
        typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));              \
        enum { WIDTH = (bytes) / 4, QUARTERS = (bytes) / 16 };                                   \
        for (int64_t row = 0; row < count; row++)                                                \
            for (int64_t n = 0; n < queries; n++) {                                              \
                union { Vector whole; Four part[QUARTERS]; } sum = {{0}};                        \
                for (int64_t j = 0; j < padded; j += WIDTH)                                      \
                    sum.whole += *(const Vector *)(rows + row * padded + j) *                    \
                                 *(const Vector *)(asked + n * padded + j);                      \
                Four all = sum.part[0];                                                          \
                for (int i = 1; i < QUARTERS; i++) all += sum.part[i];                           \
                out[n * apart + row] = (all[0] + all[1]) + (all[2] + all[3]);                    \
            }                                                                                    \
    }

#if defined(__x86_64__)
WIDE static inline __m256 halves(__m512 sums)
{
    __m512d all = _mm512_castps_pd(sums);
    return _mm256_add_ps(_mm512_castps512_ps256(sums),
                         _mm256_castpd_ps(_mm512_extractf64x4_pd(all, 1)));
}

/* Four queries at a time share the row, and the last additions. */
WIDE static void multiply_512(const float *rows, int64_t count, const float *asked,
                              int64_t queries, int64_t padded, float *out, int64_t apart)
{
    for (int64_t n = 0; n < queries; n += 4) {
        const float *query[4];
        for (int64_t i = 0; i < 4; i++)
            query[i] = asked + (n + i < queries ? n + i : queries - 1) * padded;
        for (int64_t row = 0; row < count; row++) {
            __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                              _mm512_setzero_ps()};
            for (int64_t j = 0; j < padded; j += 16) {
                __m512 part = _mm512_loadu_ps(rows + row * padded + j);
                for (int i = 0; i < 4; i++)
                    sums[i] = _mm512_fmadd_ps(part, _mm512_loadu_ps(query[i] + j), sums[i]);
            }
            __m256 four = _mm256_hadd_ps(_mm256_hadd_ps(halves(sums[0]), halves(sums[1])),
                                         _mm256_hadd_ps(halves(sums[2]), halves(sums[3])));
            float all[4];
            _mm_storeu_ps(all, _mm_add_ps(_mm256_castps256_ps128(four),
                                          _mm256_extractf128_ps(four, 1)));
            for (int64_t i = 0; i < 4 && n + i < queries; i++) out[(n + i) * apart + row] = all[i];
        }
    }
}
#endif

/* ---- the similarity that decides --------------------------------------------------------- */

INLINE float similarity_of(const float *restrict query, const float *restrict row, int64_t width,
                           double *restrict terms)
{
    /* The first fold is made while the terms are formed. */
    int64_t half = width > 8 ? width / 2 : 0, kept = width - half;
    INDEPENDENT
    for (int64_t j = 0; j < half; j++)
        terms[j] = (double)query[j] * (double)row[j] +
                   (double)query[kept + j] * (double)row[kept + j];
    for (int64_t j = half; j < kept; j++) terms[j] = (double)query[j] * (double)row[j];
    double total = fold(terms, kept);
    total = total > 1 ? 1 : total < -1 ? -1 : total;
    return (float)total + 0.0f;        /* no -0 */
}

INLINE int64_t reaching_of(const float *numbers, int64_t count, float least)
{
    int32_t found = 0;
    for (int64_t i = 0; i < count; i++) found += numbers[i] >= least;
    return found;
}

#define COMPILED(name, instructions)                                                             \
    instructions static int64_t reaching##name(const float *numbers, int64_t count, float least) \
    {                                                                                            \
        return reaching_of(numbers, count, least);                                               \
    }                                                                                            \
    instructions static float similarity##name(const float *query, const float *row,             \
                                               int64_t width, double *terms)                     \
    {                                                                                            \
        return similarity_of(query, row, width, terms);                                          \
    }

MULTIPLY(multiply, , 16)
COMPILED(, )
#if defined(__x86_64__)
MULTIPLY(multiply_256, HALF, 32)
COMPILED(_256, HALF)
COMPILED(_512, WIDE)
#endif

static Ways quickest(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return (Ways){multiply_512, reaching_512, similarity_512};
    if (__builtin_cpu_supports("avx2")) return (Ways){multiply_256, reaching_256, similarity_256};
#endif
    return (Ways){multiply, reaching, similarity};
}

/* ---- candidates -------------------------------------------------------------------------- */

static int by_place(const void *one, const void *other)
{
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

static int64_t reach(const Step *step, int64_t cell, double path, Candidate *into)
{
    int64_t count = 0;
    for (int64_t i = 0; i < step->fan; i++) {
        int64_t place = step->links[cell * step->fan + i];
        into[count] = (Candidate){place, path};
        count += place >= 0;
    }
    return count;
}

/* Keep each cell once, by the best match it hangs on, which comes first. */
static int64_t distinct(Candidate *some, int64_t count, int64_t *scratch)
{
    for (int64_t i = 0; i < count; i++) scratch[2 * i] = some[i].place, scratch[2 * i + 1] = i;
    qsort(scratch, (size_t)count, 2 * sizeof *scratch, by_place);
    int64_t kept = 0;
    for (int64_t i = 0; i < count;) {
        int64_t first = scratch[2 * i + 1], stop = i + 1;
        for (; stop < count && scratch[2 * stop] == scratch[2 * i]; stop++)
            if (scratch[2 * stop + 1] < first) first = scratch[2 * stop + 1];
        scratch[kept++] = first;
        i = stop;
    }
    qsort(scratch, (size_t)kept, sizeof *scratch, by_place);
    for (int64_t i = 0; i < kept; i++) some[i] = some[scratch[i]]; /* never from behind i */
    return kept;
}

/* All that the children of a parent are compared with. */
static int64_t gather(const Step *step, int64_t parent, Candidate *into, int64_t *scratch)
{
    int64_t count = 0, bytes = step->width * (step->half ? 2 : 4);
    const int64_t *matches = step->matches + parent * step->above;
    for (int64_t rank = 0; rank < step->above; rank++) {
        if (matches[rank] < 0) continue;
        double path = step->path ? step->path[parent * step->above + rank] : 0;
        count += reach(step, matches[rank], path, into + count);
        for (int64_t i = 0; i < step->around; i++) {
            int64_t cell = step->beside[matches[rank] * step->around + i];
            if (cell >= 0) count += reach(step, cell, path, into + count);
        }
    }
    /* They lie far apart: ask for all before the first is read. */
    for (int64_t i = 0; i < count; i++) {
        const char *row = (const char *)step->vectors + into[i].place * bytes;
        if (step->valid) __builtin_prefetch(step->valid + into[i].place);
        for (int64_t byte = 0; byte < bytes && byte < 1024; byte += 64)
            __builtin_prefetch(row + byte);
    }
    if (step->valid) {
        int64_t kept = 0;
        for (int64_t i = 0; i < count; i++) {
            into[kept] = into[i];
            kept += step->valid[into[i].place];
        }
        count = kept;
    }
    return step->around ? distinct(into, count, scratch) : count;
}

/* Ask for what gather reads first of a parent. */
static void announce(const Step *step, int64_t parent)
{
    for (int64_t rank = 0; rank < step->above; rank++) {
        int64_t cell = step->matches[parent * step->above + rank];
        if (cell >= 0) __builtin_prefetch(step->links + cell * step->fan);
    }
}

static float from_half(uint16_t half)
{
    union { uint32_t bits; float number; } one = {(uint32_t)(half & 0x7fff) << 13};
    one.number *= 0x1p112f;            /* exact, also below the normal range */
    one.bits |= (uint32_t)(half & 0x8000) << 16;
    return one.number;
}

static void copy_rows(const Step *step, const Room *room, int64_t count)
{
    const int64_t width = step->width, padded = room->padded, bytes = width * (step->half ? 2 : 4);
    for (int64_t i = 0; i < count; i++) {
        const char *from = (const char *)step->vectors + room->candidates[i].place * bytes;
        float *into = room->rows + i * padded;
        if (!step->half)
            memcpy(into, from, (size_t)bytes);
        else
            for (int64_t j = 0; j < width; j++) into[j] = from_half(((const uint16_t *)from)[j]);
    }
}

/* ---- the best of them -------------------------------------------------------------------- */

/* A number that at least k reach, and few more where they lie apart. */
static float bar(const float *numbers, int64_t count, int64_t k, const Ways *ways)
{
    float low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < count; i++) {
        low = numbers[i] < low ? numbers[i] : low;
        high = numbers[i] > high ? numbers[i] : high;
    }
    for (int round = 0; round < 20; round++) {
        float middle = low + (high - low) / 2;
        if (!(middle > low && middle < high)) break;
        int64_t reached = ways->reaching(numbers, count, middle);
        if (reached < k) {
            high = middle;
            continue;
        }
        low = middle;
        if (reached <= k + SPARE) break;
    }
    return low;
}

static int before(const Found *one, const Found *other)
{
    return one->score > other->score ||
           (one->score == other->score && one->place < other->place);
}

/* Sort: runs by insertion, which are then merged. */
static void sort(Found *some, Found *spare, int64_t count)
{
    enum { RUN = 12 };
    for (int64_t start = 0; start < count; start += RUN)
        for (int64_t i = start + 1; i < count && i < start + RUN; i++) {
            Found one = some[i];
            int64_t at = i;
            for (; at > start && before(&one, &some[at - 1]); at--) some[at] = some[at - 1];
            some[at] = one;
        }
    for (int64_t run = RUN; run < count; run *= 2)
        for (int64_t start = 0; start + run < count; start += 2 * run) {
            int64_t stop = start + 2 * run < count ? start + 2 * run : count;
            int64_t left = 0, right = start + run, into = start;
            memcpy(spare, some + start, (size_t)run * sizeof *some);
            while (left < run && right < stop)
                some[into++] = before(&some[right], &spare[left]) ? some[right++] : spare[left++];
            memcpy(some + into, spare + left, (size_t)(run - left) * sizeof *some);
        }
}

static void decide(const Step *step, const Room *room, int64_t child, int64_t query, int64_t count,
                   const Ways *ways)
{
    const float *rough = room->rough + child * room->most;
    const float *asked = room->asked + child * room->padded;
    float least = -INFINITY;
    if (count > step->k) least = bar(rough, count, step->k, ways) - 2 * step->error;
    int64_t held = 0;
    for (int64_t i = 0; i < count; i++) {
        if (!(rough[i] >= least)) continue;
        const float *row = room->rows + i * room->padded;
        float exact = ways->similarity(asked, row, step->width, room->terms), score = exact;
        if (step->path) {
            float own = step->own * exact;
            score = (float)((double)own + step->carried * room->candidates[i].path);
        }
        room->found[held++] = (Found){room->candidates[i].place, exact, score};
    }
    sort(room->found, room->spare, held);
    for (int64_t i = 0; i < held && i < step->k; i++) {
        step->places[query * step->k + i] = room->found[i].place;
        step->similarity[query * step->k + i] = room->found[i].similarity;
        step->score[query * step->k + i] = room->found[i].score;
    }
}

static void answer(const Step *step, Room *room, int64_t parent, const Ways *ways)
{
    const int64_t padded = room->padded, *below = step->below + parent * step->children;
    int64_t count = gather(step, parent, room->candidates, (int64_t *)room->spare);
    copy_rows(step, room, count);
    for (int64_t child = 0; child < step->children; child++)
        if (below[child] >= 0)
            memcpy(room->asked + child * padded, step->queries + below[child] * step->width,
                   (size_t)step->width * sizeof *room->asked);
    ways->multiply(room->rows, count, room->asked, step->children, padded, room->rough, room->most);
    for (int64_t child = 0; child < step->children; child++) {
        if (below[child] < 0) continue;
        float *rough = room->rough + child * room->most;
        if (step->path)
            for (int64_t i = 0; i < count; i++)
                rough[i] = step->own * rough[i] +
                           (float)step->carried * (float)room->candidates[i].path;
        decide(step, room, child, below[child], count, ways);
    }
}

static void leave(Room *room)
{
    free(room->candidates);
    free(room->rows);
    free(room->asked);
    free(room->rough);
    free(room->terms);
    free(room->found);
    free(room->spare);
}

static int enter(Room *room, const Step *step)
{
    room->padded = (step->width + LANES - 1) / LANES * LANES;
    room->most = step->above * step->fan * (1 + step->around);
    size_t most = (size_t)room->most + 1, padded = (size_t)room->padded;
    room->candidates = malloc(most * sizeof *room->candidates);
    room->rows = calloc(most * padded, sizeof *room->rows);
    room->asked = calloc((size_t)step->children * padded, sizeof *room->asked);
    room->rough = malloc((size_t)step->children * most * sizeof *room->rough);
    room->terms = malloc(padded * sizeof *room->terms);
    room->found = malloc(most * sizeof *room->found);
    room->spare = malloc(most * sizeof *room->spare);
    return room->candidates && room->rows && room->asked && room->rough &&
           room->terms && room->found && room->spare;
}

/* Answer the children of some of the parents; places and scores must hold what says "none". */
PUBLIC int refine_some(const Step *step, int64_t first, int64_t stop)
{
    Room room = {0};
    int ready = enter(&room, step);
#if defined(__x86_64__)
    /* Numbers below the normal range count here, whatever the caller has set. */
    unsigned int before = _mm_getcsr();
    _mm_setcsr(0x1f80);
#endif
    Ways ways = quickest();
    for (int64_t parent = first; ready && parent < stop; parent++) {
        if (parent + 1 < stop) announce(step, parent + 1);
        answer(step, &room, parent, &ways);
    }
#if defined(__x86_64__)
    _mm_setcsr(before);
#endif
    leave(&room);
    return ready ? 0 : -1;
}

/* ---- what the matches hold --------------------------------------------------------------- */

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

/* Shares of classes among what a match holds, raised; returns their sum. */
INLINE double shares_of(const Holding *all, int64_t place, double *restrict shares)
{
    const uint32_t *counts = all->counts + place * all->wide;
    uint64_t total = 0;
    double sum = 0;
    for (int64_t c = 0; c < all->classes; c++) total += counts[all->columns[c]];
    double held = total ? (double)total : 1;
    for (int64_t c = 0; c < all->classes; c++)
        shares[c] = (double)counts[all->columns[c]] / held * (all->raised ? all->raised[c] : 1);
    for (int64_t c = 0; c < all->classes; c++) sum += shares[c];
    return sum;
}

/* Mean of the classes' shares over the matches of some cells, or only what weights grow by. */
PUBLIC int refine_read(const Holding *all, int64_t first, int64_t stop)
{
    double *shares = malloc(((size_t)all->classes + 1) * sizeof *shares);
    if (!shares) return -1;
    for (int64_t cell = first; cell < stop; cell++)
        for (int64_t i = 0; i < all->k; i++) {
            double weight = all->weights[cell * all->k + i];
            if (weight == 0) continue;
            int64_t place = all->places[cell * all->k + i];
            if (i + 3 < all->k && all->places[cell * all->k + i + 3] >= 0)
                __builtin_prefetch(all->counts + all->places[cell * all->k + i + 3] * all->wide);
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

PUBLIC const char *refine_source(void) { return SOURCE; }
