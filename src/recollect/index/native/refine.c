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
    Candidate *candidates, *following; /* [most]: of a parent, and of the next one */
    const float **rows;                /* [most] */
    float *copies;                     /* [most][padded], where rows are not read in place */
    float *asked;                      /* [children][padded] */
    float *rough;                      /* [children][most] */
    double *terms;                     /* [width] */
    Found *found, *spare;              /* [most] */
    float *scores;                     /* [most] */
    int64_t padded, most;
} Room;

/* What is compiled once for each set of instructions. */
typedef struct {
    void (*multiply)(const float *const *rows, int64_t count, const float *asked, int64_t queries,
                     int64_t width, int64_t padded, float *out, int64_t apart);
    int64_t (*reaching)(const float *numbers, int64_t count, float least);
    void (*range)(const float *numbers, int64_t count, float *least, float *most);
    float (*similarity)(const float *query, const float *row, int64_t width, double *terms);
    int in_place;                      /* rows need not be padded */
} Ways;

/* ---- rough products ---------------------------------------------------------------------- */

#define MULTIPLY(name, instructions, bytes)                                                      \
    instructions static void name(const float *const *rows, int64_t count, const float *asked,   \
                                  int64_t queries, int64_t width, int64_t padded, float *out,    \
                                  int64_t apart)                                                 \
    {                                                                                            \
        (void)width;                                                                             \
        typedef float Vector __attribute__((vector_size(bytes), aligned(4), may_alias));         \
        typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));              \
        enum { WIDTH = (bytes) / 4, QUARTERS = (bytes) / 16 };                                   \
        for (int64_t row = 0; row < count; row++)                                                \
            for (int64_t n = 0; n < queries; n++) {                                              \
                union { Vector whole; Four part[QUARTERS]; } sum = {{0}};                        \
                for (int64_t j = 0; j < padded; j += WIDTH)                                      \
                    sum.whole += *(const Vector *)(rows[row] + j) *                              \
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
WIDE static void multiply_512(const float *const *rows, int64_t count, const float *asked,
                              int64_t queries, int64_t width, int64_t padded, float *out,
                              int64_t apart)
{
    const int64_t whole = width / LANES * LANES;
    const __mmask16 tail = (__mmask16)((1u << (width - whole)) - 1);
    for (int64_t n = 0; n < queries; n += 4) {
        const float *query[4];
        for (int64_t i = 0; i < 4; i++)
            query[i] = asked + (n + i < queries ? n + i : queries - 1) * padded;
        for (int64_t row = 0; row < count; row++) {
            __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                              _mm512_setzero_ps()};
            for (int64_t j = 0; j < whole; j += LANES) {
                __m512 part = _mm512_loadu_ps(rows[row] + j);
                for (int i = 0; i < 4; i++)
                    sums[i] = _mm512_fmadd_ps(part, _mm512_loadu_ps(query[i] + j), sums[i]);
            }
            if (tail) {
                __m512 part = _mm512_maskz_loadu_ps(tail, rows[row] + whole);
                for (int i = 0; i < 4; i++)
                    sums[i] = _mm512_fmadd_ps(part, _mm512_loadu_ps(query[i] + whole), sums[i]);
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

INLINE void range_of(const float *numbers, int64_t count, float *least, float *most)
{
    float low[LANES], high[LANES];
    for (int i = 0; i < LANES; i++) low[i] = INFINITY, high[i] = -INFINITY;
    int64_t at = 0;
    for (; at + LANES <= count; at += LANES)
        for (int i = 0; i < LANES; i++) {
            low[i] = numbers[at + i] < low[i] ? numbers[at + i] : low[i];
            high[i] = numbers[at + i] > high[i] ? numbers[at + i] : high[i];
        }
    for (int i = 0; at < count; at++, i++) {
        low[i] = numbers[at] < low[i] ? numbers[at] : low[i];
        high[i] = numbers[at] > high[i] ? numbers[at] : high[i];
    }
    *least = INFINITY, *most = -INFINITY;
    for (int i = 0; i < LANES; i++) {
        *least = low[i] < *least ? low[i] : *least;
        *most = high[i] > *most ? high[i] : *most;
    }
}

#define COMPILED(name, instructions)                                                             \
    instructions static void range##name(const float *numbers, int64_t count, float *least,      \
                                         float *most)                                            \
    {                                                                                            \
        range_of(numbers, count, least, most);                                                   \
    }                                                                                            \
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
        return (Ways){multiply_512, reaching_512, range_512, similarity_512, 1};
    if (__builtin_cpu_supports("avx2"))
        return (Ways){multiply_256, reaching_256, range_256, similarity_256, 0};
#endif
    return (Ways){multiply, reaching, range, similarity, 0};
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
    if (step->around) count = distinct(into, count, scratch);
    /* They lie far apart: ask for all long before the first is read. */
    for (int64_t i = 0; i < count; i++) {
        const char *row = (const char *)step->vectors + into[i].place * bytes;
        if (step->valid) __builtin_prefetch(step->valid + into[i].place);
        for (int64_t byte = 0; byte < bytes && byte < 1024; byte += 64)
            __builtin_prefetch(row + byte);
        __builtin_prefetch(row + bytes - 1);
    }
    return count;
}

/* Leave out the candidates that take no part. */
static int64_t only_valid(const Step *step, Candidate *some, int64_t count)
{
    int64_t kept = 0;
    if (!step->valid) return count;
    for (int64_t i = 0; i < count; i++) {
        some[kept] = some[i];
        kept += step->valid[some[i].place];
    }
    return kept;
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

/* Say where candidates' vectors are; copy those that cannot be read there. */
static void find_rows(const Step *step, Room *room, int64_t count, int in_place)
{
    const int64_t width = step->width, padded = room->padded, bytes = width * (step->half ? 2 : 4);
    for (int64_t i = 0; i < count; i++) {
        const char *from = (const char *)step->vectors + room->candidates[i].place * bytes;
        float *into = room->copies + i * padded;
        room->rows[i] = into;
        if (!step->half && in_place)
            room->rows[i] = (const float *)from;
        else if (!step->half)
            memcpy(into, from, (size_t)bytes);
        else
            for (int64_t j = 0; j < width; j++) into[j] = from_half(((const uint16_t *)from)[j]);
    }
}

/* ---- the best of them -------------------------------------------------------------------- */

/* A number that at least k reach, and few more where they lie apart. */
static float bar(const float *numbers, int64_t count, int64_t k, const Ways *ways)
{
    float low, high;
    ways->range(numbers, count, &low, &high);
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

/* Order some: each goes to the place that the number of those before it says. Several equal scores
   would say the same place; they, and many, are sorted. Returns where the result is. */
static Found *order(const Room *room, int64_t count, const Ways *ways)
{
    enum { COUNTED = 256 };
    int64_t said = 0;
    for (int64_t i = 0; count <= COUNTED && i < count; i++) {
        int64_t place = ways->reaching(room->scores, count, room->scores[i]) - 1;
        room->spare[place] = room->found[i];
        said += place;
    }
    if (count <= COUNTED && said == count * (count - 1) / 2) return room->spare;
    sort(room->found, room->spare, count);
    return room->found;
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
        float exact = ways->similarity(asked, room->rows[i], step->width, room->terms);
        float score = exact;
        if (step->path) {
            float own = step->own * exact;
            score = (float)((double)own + step->carried * room->candidates[i].path);
        }
        room->scores[held] = score;
        room->found[held++] = (Found){room->candidates[i].place, exact, score};
    }
    const Found *best = order(room, held, ways);
    for (int64_t i = 0; i < held && i < step->k; i++) {
        step->places[query * step->k + i] = best[i].place;
        step->similarity[query * step->k + i] = best[i].similarity;
        step->score[query * step->k + i] = best[i].score;
    }
}

static void answer(const Step *step, Room *room, int64_t parent, int64_t count, const Ways *ways)
{
    const int64_t padded = room->padded, *below = step->below + parent * step->children;
    find_rows(step, room, count, ways->in_place);
    for (int64_t child = 0; child < step->children; child++)
        if (below[child] >= 0)
            memcpy(room->asked + child * padded, step->queries + below[child] * step->width,
                   (size_t)step->width * sizeof *room->asked);
    ways->multiply(room->rows, count, room->asked, step->children, step->width, padded, room->rough,
                   room->most);
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
    free(room->following);
    free(room->rows);
    free(room->copies);
    free(room->asked);
    free(room->rough);
    free(room->terms);
    free(room->found);
    free(room->spare);
    free(room->scores);
}

static int enter(Room *room, const Step *step, int in_place)
{
    room->padded = (step->width + LANES - 1) / LANES * LANES;
    room->most = step->above * step->fan * (1 + step->around);
    size_t most = (size_t)room->most + 1, padded = (size_t)room->padded;
    room->candidates = malloc(most * sizeof *room->candidates);
    room->following = malloc(most * sizeof *room->following);
    room->rows = malloc(most * sizeof *room->rows);
    room->copies = calloc(in_place && !step->half ? 1 : most * padded, sizeof *room->copies);
    room->asked = calloc((size_t)step->children * padded, sizeof *room->asked);
    room->rough = malloc((size_t)step->children * most * sizeof *room->rough);
    room->terms = malloc(padded * sizeof *room->terms);
    room->found = malloc(most * sizeof *room->found);
    room->spare = malloc(most * sizeof *room->spare);
    room->scores = malloc(most * sizeof *room->scores);
    return room->candidates && room->following && room->rows && room->copies && room->asked &&
           room->rough && room->terms && room->found && room->spare && room->scores;
}

/* Answer the children of some of the parents; places and scores must hold what says "none". */
PUBLIC int refine_some(const Step *step, int64_t first, int64_t stop)
{
    Room room = {0};
    Ways ways = quickest();
    int ready = enter(&room, step, ways.in_place);
#if defined(__x86_64__)
    /* Numbers below the normal range count here, whatever the caller has set. */
    unsigned int before = _mm_getcsr();
    _mm_setcsr(0x1f80);
#endif
    int64_t count = 0, more = 0, *scratch = (int64_t *)room.spare;
    if (ready && first < stop) more = gather(step, first, room.following, scratch);
    for (int64_t parent = first; ready && parent < stop; parent++) {
        Candidate *swapped = room.candidates;
        room.candidates = room.following, room.following = swapped, count = more;
        if (parent + 2 < stop) announce(step, parent + 2);
        if (parent + 1 < stop) more = gather(step, parent + 1, room.following, scratch);
        answer(step, &room, parent, only_valid(step, room.candidates, count), &ways);
    }
#if defined(__x86_64__)
    _mm_setcsr(before);
#endif
    leave(&room);
    return ready ? 0 : -1;
}

PUBLIC const char *refine_source(void) { return SOURCE; }
