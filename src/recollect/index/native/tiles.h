/* Scores of 32 rows times the queries of a tile, compared with what each query asks for at least.
   Included once by lanes.c, which says for which instructions. */

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
