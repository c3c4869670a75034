/* Shared by the files of search.h, which drive a search, and lanes.c, which is compiled once for each
   instruction set. The bounds that make the first pass safe are derived in ../quantized.py. */

#ifndef RECOLLECT_KERNEL_H
#define RECOLLECT_KERNEL_H

#include <stdint.h>

enum { GROUP = 16, PAIR = 32, MOST_VIRTUAL = 12 };
enum { COSINE, DOT, EUCLIDEAN, MANHATTAN };
enum { FLOAT32, FLOAT16, UINT8 };

/* Rows that lie together. Codes are cut into groups of 16 rows; of each group come the first four
   dimensions of all rows, then the next four, so that one 64-byte load feeds 16 dot products. */
typedef struct {
    int64_t rows, start;
    const uint8_t *codes;              /* [groups][quads][16][4], code + 128; NULL: score keys */
    const float *alpha, *term;         /* [padded rows]: key = alpha * code; added to the score */
    const float *rho, *sigma, *tau;    /* [padded rows]: the error bound, see Queries */
    const float *group_rho, *group_sigma, *group_tau; /* [groups]: their maxima */
    const void *keys;                  /* [rows][dim] of dtype */
    const int64_t *ids;
    const double *sizes;
    const uint8_t *out;                /* [rows], 1 where a row takes no part; or NULL */
    int64_t dtype;
} Block;

/* A virtual query is one plane of int8 codes; a query has one, or two for twice the precision.
   |score - g(similarity)| <= rho * reach + sigma * blur + tau + slack */
typedef struct {
    int64_t count, planes, tiles;
    int32_t *pack;                     /* [tiles][quads][virtual][words] */
    int32_t *offset;                   /* [tiles][virtual]: undoes the 128 in the codes */
    float *beta;                       /* [tiles][virtual]: query = sum of beta * code */
    float *reach, *blur, *slack;       /* [tiles][virtual], by query */
    float *plain;                      /* [count][dim] where keys are scored as they are */
    const float *weights;              /* [dim], all <= 0, Manhattan only */
} Queries;

typedef struct {
    uint32_t hits[2][MOST_VIRTUAL];    /* bit r: row r of the group reaches the limit */
    float scores[2][MOST_VIRTUAL][GROUP];
} Tile;

typedef struct {
    const float *center;               /* [dim] */
    const double *weights;             /* [dim] or NULL */
    int64_t dim, metric;
} Space;

typedef struct {
    const char *name;
    int64_t virtual_queries;           /* in a tile */
    int64_t words;                     /* int32 for four codes of a query */
    /* Score 32 rows for the queries of one tile; true if any reaches base - bound. */
    int (*tile)(const Block *, int64_t pair, int64_t dim, const Queries *, int64_t tile,
                const float *base, Tile *);
    int (*plain_tile)(const Block *, int64_t pair, const Space *, const Queries *, int64_t tile,
                      const float *base, float *scratch, Tile *);
    void (*similarities)(const Space *, const float *query, double query_size, int64_t n,
                         const void *const *keys, const int64_t *dtypes, const double *sizes,
                         float *similarity, double *scratch);
    void (*measure)(const void *keys, int64_t dtype, int64_t n, int64_t dim, int64_t manhattan,
                    const double *weights, double *sizes, double *scratch);
    void (*quantize)(const Space *, const void *keys, int64_t dtype, const double *sizes,
                     const uint8_t *regular, int64_t first, int64_t stop, uint8_t *codes,
                     float *const *terms, double *scratch);
    void (*prepare)(const Space *, const float *queries, const double *sizes, int64_t planes,
                    int64_t first, int64_t stop, Queries *, double *shift, double *scratch);
} Lanes;

#endif
